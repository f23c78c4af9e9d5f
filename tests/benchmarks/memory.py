"""The memory of an idle `reactor up`, all of its processes together."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks import processes
from tests.benchmarks.figures import Goal, Row, Sample, Settings

TITLE = "memory of an idle `reactor up`: bus, link, reactor, minion and its workers"
SALT_MASTER = 650
"""Megabytes of Salt's master alone, 11 processes."""

_STEADY = 0.01
_LOOKS = 20


def run(settings: Settings) -> Iterator[Row]:
    """Measure it once: it does not vary from run to run."""
    del settings
    with processes.up() as (_, _, pid):
        found = _settled(pid)
        count = len(family(pid))
    note = f"{count} processes; Salt's is its master alone, without a minion"
    shared = Sample((found["Pss"],))
    yield Row(
        "shared pages divided (PSS)", "MB", shared, salt=SALT_MASTER, goal=Goal(200), note=note
    )
    yield Row("shared pages counted each time (RSS)", "MB", Sample((found["Rss"],)))


def _settled(pid: int) -> dict[str, float]:
    """Return the memory once two looks differ by less than a hundredth."""
    before = _megabytes(pid)
    for _ in range(_LOOKS):
        time.sleep(0.5)  # the distance of two looks
        now = _megabytes(pid)
        if abs(now["Pss"] - before["Pss"]) < _STEADY * before["Pss"]:
            return now
        before = now
    raise processes.BenchmarkError("the memory of an idle system does not settle")


def _megabytes(pid: int) -> dict[str, float]:
    total = {"Pss": 0.0, "Rss": 0.0}
    for member in family(pid):
        for line in _read(Path(f"/proc/{member}/smaps_rollup")).splitlines():
            name, _, rest = line.partition(":")
            if name in total:
                total[name] += int(rest.split()[0]) * 1024 / 1e6
    return total


def family(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    members = [pid]
    for member in members:
        for children in Path(f"/proc/{member}/task").glob("*/children"):
            members += map(int, _read(children).split())
    return members


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # a process that has just ended has no memory
        return ""
