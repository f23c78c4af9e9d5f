"""The guard of programs: with real processes that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from reactor.engine import guard as guard_module
from reactor.engine import warden
from reactor.engine.guard import Guard, gated
from reactor.errors import ReactorError
from tests.support import wait_for
from tests.system import ROOT

REACTOR = """
import sys, time
from reactor.engine.actions.background import Background
from reactor.engine.actions.exec import ExecAction
from reactor.engine.firing import Reaction
from reactor.engine.pool import Mailbox, WorkerPool
from reactor.rules.model import Call

action = ExecAction(Background(lambda: WorkerPool(2, 100), Mailbox()))
call = Call("exec", "sh", ("-c", sys.argv[1]))
action.start(call, Reaction("b-7-r-0", "r", "f.yaml:1", "t", 7, "b-7", 2), lambda *end: None)
time.sleep(600)
"""


def _is_gone(pid):
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.fixture
def sleeper():
    """Start a process in a group of its own."""
    started = []

    def start():
        process = subprocess.Popen(["sleep", "600"], start_new_session=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def guard():
    made = Guard()
    yield made
    made.close()


def _warden_of(guard):
    return guard._warden


def test_a_program_ends_with_a_reactor_that_is_killed(tmp_path):
    """With what it started; and so does the warden."""
    pids = tmp_path / "pids"
    script = f"sleep 600 & echo $$ $! > {pids}.new; mv {pids}.new {pids}; wait"
    reactor = subprocess.Popen([sys.executable, "-c", REACTOR, script], cwd=ROOT)
    try:
        wait_for(pids.exists, "the program")
        children = Path(f"/proc/{reactor.pid}/task").glob("*/children")
        family = [int(pid) for file in children for pid in file.read_text().split()]
        family += [int(pid) for pid in pids.read_text().split()]
        assert len(set(family)) == 3
        assert not any(_is_gone(pid) for pid in family)
    finally:
        reactor.kill()
        reactor.wait()
    wait_for(lambda: all(_is_gone(pid) for pid in family), "the end of all")


def test_a_program_that_the_warden_was_not_told_of_never_begins(tmp_path):
    """The gate stays shut if its input ends."""
    argv, stdin = gated(["touch", str(tmp_path / "made")], b"")
    assert subprocess.run(argv, stdin=subprocess.DEVNULL, check=False).returncode == 125
    assert list(tmp_path.iterdir()) == []
    assert subprocess.run(argv, input=stdin, check=False).returncode == 0
    assert (tmp_path / "made").exists()


def test_the_gate_leaves_the_input_and_the_arguments_as_they_are():
    """Byte by byte."""
    argv, stdin = gated(
        ["sh", "-c", 'printf "%s|" "$@"; cat', "x", "a b", "", "$HOME"], b"\n\0\xff"
    )
    assert subprocess.run(argv, input=stdin, capture_output=True, check=True).stdout == (
        b"a b||$HOME|\n\0\xff"
    )


def test_what_has_ended_is_let_alone(guard, sleeper):
    """Its number may be another's by then."""
    ended, runs = sleeper(), sleeper()
    guard.began(ended.pid)
    guard.began(runs.pid)
    guard.ended(ended.pid)
    guard.ended(999_999_999)
    guard.close()
    assert runs.wait(20) == -signal.SIGKILL
    assert ended.poll() is None


def test_a_warden_that_was_killed_is_replaced(guard, sleeper):
    """By one that knows what the first knew."""
    first, second = sleeper(), sleeper()
    guard.began(first.pid)
    os.kill(_warden_of(guard).pid, signal.SIGKILL)
    os.waitid(os.P_PID, _warden_of(guard).pid, os.WEXITED | os.WNOWAIT)
    guard.began(second.pid)
    guard.close()
    assert (first.wait(20), second.wait(20)) == (-signal.SIGKILL, -signal.SIGKILL)


def test_a_warden_takes_no_orders_but_the_end(guard, sleeper):
    """Ctrl-C and the like are for the reactor."""
    process = sleeper()
    guard.began(process.pid)
    warden_pid = _warden_of(guard).pid
    status = Path(f"/proc/{warden_pid}/status")

    def ignores():
        line = next(x for x in status.read_text().splitlines() if x.startswith("SigIgn"))
        return int(line.split()[1], 16) & (1 << (signal.SIGTERM - 1))

    wait_for(ignores, "the warden")
    os.kill(warden_pid, signal.SIGTERM)
    os.kill(warden_pid, signal.SIGINT)
    assert not _is_gone(warden_pid)
    assert process.poll() is None


def test_a_warden_that_hangs_is_killed_at_the_end(guard, sleeper, monkeypatch):
    """The reactor does not wait for ever."""
    monkeypatch.setattr(guard_module, "_PATIENCE", 0.05)
    guard.began(sleeper().pid)
    process = _warden_of(guard)
    os.kill(process.pid, signal.SIGSTOP)
    guard.close()
    assert process.returncode == -signal.SIGKILL


def test_without_a_warden_no_program_begins(guard, monkeypatch):
    """The error says why."""
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(ReactorError, match="cannot start the process that ends programs"):
        guard.began(1)


def test_lines_may_come_in_pieces(tmp_path):
    """As a pipe hands them out."""
    reader, writer = os.pipe()
    try:
        os.write(writer, b"+12\n+3")
        os.write(writer, b"45\n-12\n+6\n")
        os.close(writer)
        assert warden.watch(reader) == {345, 6}
    finally:
        os.close(reader)
