"""The nursery by itself: processes, reports, and its end."""

import logging
import os
import select
import signal
import socket
import time

import pytest

from bus.minion import nursery as nursery_module
from bus.minion.nursery import EXITED, FAILED, STARTED, Nursery, NurseryError, Report
from tests.unit.bus.minion_tools import SECONDS, alive, wait_for


def until_end(sock):
    """A worker that waits for the end of its socket."""
    while sock.recv(100):
        pass


def say_and_wait(sock):
    """A worker that says its pid first."""
    sock.sendall(str(os.getpid()).encode())
    until_end(sock)


def say_and_hang(sock):
    """A worker that says its pid and then does not notice that its socket has ended."""
    sock.sendall(str(os.getpid()).encode())
    time.sleep(600)


def hang(sock):
    """A worker that does not notice that its socket has ended."""
    sock.sendall(b"x")
    time.sleep(600)


def fail(_sock):
    """A worker that raises."""
    raise RuntimeError("broken")


@pytest.fixture
def start():
    """Start nurseries that are closed in the end."""
    made = []

    def make(entry, grace=5.0):
        made.append(Nursery.start(entry, grace))
        return made[-1]

    yield make
    for one in made:
        one.close()


def reports(nursery, count):
    """Wait for that many reports."""
    found: list[Report] = []
    deadline = time.monotonic() + SECONDS
    while len(found) < count:
        assert time.monotonic() < deadline
        select.select([nursery.fileno()], [], [], 1)
        found += nursery.reports()
    return found


def test_spawn_and_end(start):
    """A worker has its socket, and its end is reported after its start."""
    nursery = start(say_and_wait)
    sock = nursery.spawn(7)
    pid = int(sock.recv(100))
    (started,) = reports(nursery, 1)
    assert started == Report(STARTED, 7, pid)
    assert alive(pid)
    assert nursery.reports() == []
    sock.close()
    (exited,) = reports(nursery, 1)
    assert exited == Report(EXITED, 7, 0)
    assert not alive(pid)


def test_kill(start):
    """A killed worker is reported with its signal; killing nobody does nothing."""
    nursery = start(hang)
    with nursery.spawn(1) as sock:
        sock.recv(1)
        nursery.kill(99)
        nursery.kill(1)
        assert reports(nursery, 2)[1] == Report(EXITED, 1, -signal.SIGKILL)


def test_a_kill_at_once(start):
    """A worker that has not even started can be killed."""
    nursery = start(until_end)
    for token in range(20):
        with nursery.spawn(token):
            nursery.kill(token)
    assert {one.value for one in reports(nursery, 40) if one.kind == EXITED} <= {0, -9}


def test_a_worker_that_raises(start, capfd):
    """It ends with status 1, and the log says why."""
    handler = logging.StreamHandler(open(2, "w", closefd=False))  # noqa: SIM115 - not ours
    logging.getLogger().addHandler(handler)
    try:
        nursery = start(fail)
        with nursery.spawn(1):
            assert reports(nursery, 2)[1] == Report(EXITED, 1, 1)
    finally:
        logging.getLogger().removeHandler(handler)
    assert "RuntimeError: broken" in capfd.readouterr().err


def test_the_log_file_stays_open(start, tmp_path):
    """Workers log where the minion does."""
    handler = logging.FileHandler(tmp_path / "log")
    logging.getLogger().addHandler(handler)

    def log_something(_sock):
        logging.getLogger("x").warning("from the worker")

    try:
        nursery = start(log_something)
        nursery.spawn(1).close()
        reports(nursery, 2)
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
    assert "from the worker" in (tmp_path / "log").read_text()


def test_close_waits_for_busy_workers_and_then_kills_them(start):
    """The grace ends; nothing is left."""
    nursery = start(hang, grace=0.2)
    sock = nursery.spawn(1)
    sock.recv(1)
    (started,) = reports(nursery, 1)
    sock.close()
    nursery.close()
    assert not alive(started.value)
    assert not alive(nursery.pid)


def test_a_minion_killed_over_unread_reports_leaves_no_worker(start):
    """The kernel then says "connection reset" where it otherwise says end-of-file."""
    nursery = start(say_and_hang, grace=0.1)
    pid = int(nursery.spawn(1).recv(100))
    wait_for(lambda: select.select([nursery.fileno()], [], [], 0)[0])
    nursery._sock.close()
    wait_for(lambda: not alive(pid))
    os.waitpid(nursery.pid, 0)


def test_a_nursery_that_fails_leaves_no_worker(start, monkeypatch):
    """Whatever its mistake was."""
    monkeypatch.setattr(nursery_module._Warden, "_kill", None)
    nursery = start(say_and_hang, grace=0.1)
    pid = int(nursery.spawn(1).recv(100))
    nursery.kill(1)
    wait_for(lambda: not alive(pid))


def test_a_nursery_that_hangs_is_killed(start):
    """Close does not wait for ever."""
    nursery = start(until_end)
    os.kill(nursery.pid, signal.SIGSTOP)
    nursery.close(timeout=0.2)
    assert not alive(nursery.pid)


def test_a_nursery_that_is_gone(start):
    """Reports say so; the socket to a worker that never came is at its end."""
    nursery = start(until_end)
    os.kill(nursery.pid, signal.SIGKILL)
    wait_for(lambda: not alive(nursery.pid))
    with nursery.spawn(1) as sock:
        assert sock.recv(1) == b""
    nursery.kill(1)
    with pytest.raises(NurseryError):
        nursery.reports()


def test_signals_do_not_end_a_nursery(start):
    """Ctrl-C and SIGTERM are the minion's business."""
    nursery = start(say_and_wait)
    nursery.spawn(1).close()
    reports(nursery, 2)
    os.kill(nursery.pid, signal.SIGINT)
    os.kill(nursery.pid, signal.SIGTERM)
    with nursery.spawn(2) as sock:
        assert sock.recv(100)
        reports(nursery, 1)


def test_a_failed_fork_is_reported(start, monkeypatch):
    """The minion learns the reason."""
    real = os.fork
    forks = []

    def fork_once():
        forks.append(1)
        if len(forks) > 1:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return real()

    monkeypatch.setattr(os, "fork", fork_once)
    nursery = start(until_end)
    with nursery.spawn(1) as sock:
        assert reports(nursery, 1) == [Report(FAILED, 1, 11)]
        assert sock.recv(1) == b""


def test_a_nursery_that_cannot_begin(start, monkeypatch):
    """It ends, and the minion sees that."""
    monkeypatch.setattr(nursery_module, "_close_descriptors", None)
    nursery = start(until_end)
    wait_for(lambda: not alive(nursery.pid))
    with pytest.raises(NurseryError):
        reports(nursery, 1)


def test_a_command_without_a_socket(start):
    """If the descriptor got lost on its way, the worker is reported as ended."""
    nursery = start(until_end)
    nursery._sock.sendall(nursery_module._COMMAND.pack(b"S", 5))
    assert reports(nursery, 1) == [Report(EXITED, 5, 255)]


def test_handlers_of_the_process_above_are_let_go(start):
    """A worker does not run the minion's signal handlers."""
    before = signal.signal(signal.SIGUSR1, lambda *_: None)

    def tell(sock):
        sock.sendall(b"d" if signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL else b"h")
        until_end(sock)

    try:
        nursery = start(tell)
        with nursery.spawn(1) as sock:
            assert sock.recv(1) == b"d"
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_descriptors_of_the_process_above_are_closed(start):
    """A worker holds no socket of the minion open."""
    ours, theirs = socket.socketpair()
    nursery = start(say_and_wait)
    with nursery.spawn(1) as sock:
        sock.recv(100)
        theirs.close()
        ours.settimeout(SECONDS)
        assert ours.recv(1) == b""
    ours.close()
