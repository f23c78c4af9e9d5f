"""A job that eats memory fails, and nothing else does."""

from __future__ import annotations

import logging
import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from bus.minion import memory


def _child(program: str) -> str:
    """Return what a process of its own prints, since limits are for life."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=Path(__file__).parents[3],
    ).stdout.strip()


def test_who_wants_more_gets_an_error() -> None:
    """And goes on; what is within the bound is had."""
    said = _child(
        """
        from bus.minion import memory
        memory.bound(200 << 20)
        kept = bytearray(50 << 20)
        try:
            bytearray(500 << 20)
        except MemoryError:
            print("refused", len(bytearray(10 << 20)) >> 20)
        """
    )
    assert said == "refused 10"


def test_a_worker_goes_first() -> None:
    """Without a bound too; and that sets none."""
    said = _child(
        """
        import resource
        from bus.minion import memory
        before = resource.getrlimit(resource.RLIMIT_DATA)
        memory.bound(0)
        print(open("/proc/self/oom_score_adj").read().strip())
        print(resource.getrlimit(resource.RLIMIT_DATA) == before)
        """
    )
    assert said.split() == [str(memory.GOES_FIRST), "True"]


def test_a_system_without_such_things(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker starts all the same, and a bound that has no effect is said."""
    caplog.set_level(logging.WARNING)

    def refuse(*_: object) -> None:
        raise ValueError("not allowed")

    monkeypatch.setattr(memory, "_OOM_SCORE", tmp_path / "nowhere/score")
    monkeypatch.setattr(resource, "setrlimit", refuse)
    memory.bound(0)
    assert caplog.text == ""
    memory.bound(1)
    assert "job_memory_max has no effect: not allowed" in caplog.text
