"""A disk that is full: firing says so, nothing acknowledged is lost, and room is enough to go on.

The journal is filled on a small tmpfs, which only root can mount, and for everybody against the
kernel's limit of the size of a file.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess

import pytest

import bus
from bus.config import master_config
from bus.errors import JournalError
from tests.integration.loads import LOAD, MB, journaled
from tests.support import master_options, running_bus
from tests.system import running

BLOCK = "x" * 20_000
ENOUGH = 1_000
"""Events of 20 kB after which the disk would have to be full."""

RULES = """\
answer:
  on: ask/*
  do:
    - event: "answer/{{ data.n }}"
      data: {n: "{{ data.n }}"}
"""


@contextlib.contextmanager
def _small_disk(place, size):
    """Mount a tmpfs; it is unmounted whatever happens."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        # Lazily: it also goes when a process that a failed test left still has a file open.
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextlib.contextmanager
def _full_disk(place):
    """A bus on a small disk; yields it and what makes room."""
    with _small_disk(place, "2m"):
        filler = place / "filler"
        with running_bus(master_options(place)) as broker:
            filler.write_bytes(b"x" * (MB // 2))
            yield broker, filler.unlink


@contextlib.contextmanager
def _limited_files(place):
    """A bus that may not write beyond the first MiB of a file; yields it and what lifts that."""
    with running_bus(master_options(place)) as broker:
        _, hard = resource.prlimit(broker.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(broker.pid, resource.RLIMIT_FSIZE, (MB, hard))
        yield broker, lambda: resource.prlimit(broker.pid, resource.RLIMIT_FSIZE, (hard, hard))


def _fire_until_refused(connection, name):
    kept = []
    for number in range(ENOUGH):
        try:
            connection.fire(f"{LOAD}{name}", {"n": number, "text": BLOCK}, timeout=10)
        except JournalError as error:
            return kept, error
        kept.append(number)
    pytest.fail(f"{ENOUGH} events found room")


def _numbers(opts, name):
    return [data["n"] for tag, data in journaled(opts) if tag == f"{LOAD}{name}"]


@pytest.mark.parametrize("trouble", [_full_disk, _limited_files])
def test_firing_fails_with_a_reason_and_goes_on_when_there_is_room(place, trouble):
    """The text names the journal; what was acknowledged is there, also after a restart."""
    with trouble(place) as (broker, make_room), bus.connect("master", broker.opts) as connection:
        kept, error = _fire_until_refused(connection, "a")
        assert f"the journal {broker.opts['state_dir']}" in str(error)
        assert "cannot be written" in str(error)
        assert kept
        assert broker.call("status")["counters"]["refused"] >= 1
        assert _numbers(broker.opts, "a") == kept
        with pytest.raises(JournalError):
            connection.fire_events((f"{LOAD}b", {"n": n, "text": BLOCK}) for n in range(ENOUGH))
        some = _numbers(broker.opts, "b")
        assert some == list(range(len(some)))
        make_room()
        assert connection.fire_events((f"{LOAD}c", {"n": n}) for n in range(100)) == 100
        broker.restart()
        assert connection.fire(f"{LOAD}a", {"n": len(kept)}, timeout=10)
        assert _numbers(broker.opts, "a") == [*kept, len(kept)]
        assert _numbers(broker.opts, "b") == some
        assert _numbers(broker.opts, "c") == list(range(100))


def test_a_whole_system_outlives_a_full_disk(place):
    """Bus, reactor, link and minion are the same processes, and reactions go on."""
    with _small_disk(place, "12m"):
        rules = place / "rules"
        rules.mkdir()
        (rules / "answer.yaml").write_text(RULES)
        with running(place, "--rules", str(rules)) as system:
            opts = master_config(system.config)
            before = _started(system)
            seq = system.fire("ask/1", {"n": 1})
            system.expect("answer/1", after=seq)
            filler = place / "filler"
            _fill(filler)
            with bus.connect("master", opts) as connection:
                kept, error = _fire_until_refused(connection, "a")
            assert "cannot be written" in str(error)
            filler.unlink()
            seq = system.fire("ask/2", {"n": 2})
            system.expect("answer/2", after=seq)
            assert _numbers(opts, "a") == kept
            assert _started(system) == before, (system.config / "log" / "up.log").read_text()


@pytest.fixture(autouse=True)
def _without_coverage(monkeypatch):
    """The processes of these tests are not measured.

    Under the tracer of coverage a bus on a full disk ended now and then: in one run of six, later
    in none of twenty, once seen to be by SIGSEGV. Fourteen runs without the tracer showed none.
    The cause is not known.
    """
    for name in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def _started(system):
    """Return how many processes were started so far."""
    return (system.config / "log" / "up.log").read_text().count("as process")


def _fill(path):
    """Take all the room that is left."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(b"x" * 65_536):
            pass
