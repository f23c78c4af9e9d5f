"""The nursery: a small process, forked before the minion has sockets, that forks its workers.

A worker forked from the minion itself would copy its ZeroMQ context. The nursery has none, and
what it has imported its workers share. Nothing outlives the minion: each process ends when the
socket to the one above it reads end-of-file, which the kernel sees to however that one ended.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from bus.errors import BusError

log = logging.getLogger(__name__)

GRACE = 5.0
"""Seconds that a busy worker may go on after the minion is gone, before it is killed."""

_COMMAND = struct.Struct("!cI")
_REPORT = struct.Struct("!cIi")
_SPAWN, _KILL = b"S", b"K"

STARTED, EXITED, FAILED = b"P", b"X", b"F"
"""Kinds of report: a worker's pid, its exit status (minus the signal), the errno of a fork."""

_UNKNOWN_STATUS = 255

Entry = Callable[[socket.socket], None]


class NurseryError(BusError):
    """The process that starts the job workers is gone: the minion has to be started again."""


@dataclass(frozen=True, slots=True)
class Report:
    """What the nursery says of a worker.

    Attributes:
        kind: `STARTED`, `EXITED` or `FAILED`.
        token: the number that the worker was asked for with.
        value: the pid; the exit status, or minus the number of the signal; the errno.
    """

    kind: bytes
    token: int
    value: int


class Nursery:
    """The minion's handle on its nursery."""

    def __init__(self, pid: int, sock: socket.socket) -> None:
        self.pid = pid
        self._sock = sock
        self._buffer = b""

    @classmethod
    def start(cls, entry: Entry, grace: float = GRACE) -> Nursery:
        """Fork the nursery. To be called before there is a thread or a ZeroMQ context.

        Args:
            entry: what a worker runs with its socket; the worker ends when it returns.
            grace: seconds that busy workers may go on when this process is gone.
        """
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            _be_nursery(theirs, entry, grace)
        theirs.close()
        return cls(pid, ours)

    def fileno(self) -> int:
        """The descriptor to poll for reports."""
        return self._sock.fileno()

    def spawn(self, token: int) -> socket.socket:
        """Ask for a worker and return the socket to it; a report of its pid follows.

        If the nursery is gone, the socket is at its end, and `reports` says why.

        Raises:
            OSError: there is no descriptor left for the socket.
        """
        ours, theirs = socket.socketpair()
        with theirs, contextlib.suppress(OSError):
            socket.send_fds(self._sock, [_COMMAND.pack(_SPAWN, token)], [theirs.fileno()])
        return ours

    def kill(self, token: int) -> None:
        """Kill a worker and its process group, if it still runs; a report of its end follows."""
        with contextlib.suppress(OSError):  # `reports` says that the nursery is gone
            self._sock.sendall(_COMMAND.pack(_KILL, token))

    def reports(self) -> list[Report]:
        """Return the reports that are there, without waiting.

        Raises:
            NurseryError: the nursery is gone.
        """
        try:
            data = self._sock.recv(65_536, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            raise NurseryError("the nursery of the job workers is gone")
        data = self._buffer + data
        whole = len(data) - len(data) % _REPORT.size
        self._buffer = data[whole:]
        return [Report(*fields) for fields in _REPORT.iter_unpack(data[:whole])]

    def close(self, timeout: float = 2 * GRACE + 1) -> None:
        """End the nursery, which waits for its workers; kill it after ``timeout`` seconds."""
        if self._sock.fileno() < 0:
            return
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
        if not self._wait_for_end(time.monotonic() + timeout):
            log.error("the nursery of the job workers did not end: killed")
            os.kill(self.pid, signal.SIGKILL)
        self._sock.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def _wait_for_end(self, deadline: float) -> bool:
        poller = select.poll()
        poller.register(self._sock, select.POLLIN)
        while (left := deadline - time.monotonic()) > 0:
            try:
                if poller.poll(left * 1000):
                    self.reports()
            except NurseryError:
                return True
        return False


def _be_nursery(sock: socket.socket, entry: Entry, grace: float) -> NoReturn:
    """Run the nursery in a process just forked."""
    status = 1
    try:
        # Objects of the parent must not be collected here: they would close descriptors whose
        # numbers belong to others by then. It also keeps their pages shared.
        gc.freeze()
        os.setsid()
        _reset_signals()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _close_descriptors({sock.fileno(), *_log_descriptors()})
        _Warden(sock, entry, grace).run()
        status = 0
    except BaseException:
        # The boundary of a process: nobody above can be told but through the log.
        log.exception("the nursery of the job workers failed")
    finally:
        os._exit(status)


def _be_worker(fd: int, entry: Entry) -> NoReturn:
    """Run a worker in a process just forked."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        _close_descriptors({fd, *_log_descriptors()})
        entry(socket.socket(fileno=fd))
        status = 0
    except BaseException:
        # The boundary of a process, as above.
        log.exception("a job worker failed")
    finally:
        os._exit(status)


def _reset_signals() -> None:
    """Let go of the handlers of the process above, and leave Ctrl-C to it."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _log_descriptors() -> set[int]:
    """The descriptors that log handlers write to: the log goes on in nursery and workers."""
    loggers = [logging.getLogger(name) for name in logging.Logger.manager.loggerDict]
    handlers = {one for logger in (logging.getLogger(), *loggers) for one in logger.handlers}
    targets = [getattr(one, name, None) for one in handlers for name in ("stream", "socket")]
    found = set()
    for target in targets:
        # A stream in memory, or one that is closed, has no descriptor.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            found.add(target.fileno())  # type: ignore[union-attr]
    return found


def _close_descriptors(keep: Iterable[int]) -> None:
    """Close every descriptor but ``keep`` and the three standard ones."""
    kept = {0, 1, 2, *keep}
    for fd in [int(entry.name) for entry in Path("/dev/fd").iterdir()]:
        if fd not in kept:
            with contextlib.suppress(OSError):
                os.close(fd)


class _Warden:
    """The loop of the nursery process: takes commands, forks, reaps, reports."""

    def __init__(self, sock: socket.socket, entry: Entry, grace: float) -> None:
        self._sock = sock
        self._entry = entry
        self._grace = grace
        self._tokens: dict[int, int] = {}
        # A signal handler writes a byte here, so that poll sees the end of a child.
        self._wake, wake_end = socket.socketpair()
        self._wake_end = wake_end
        for end in (self._wake, wake_end):
            end.setblocking(False)
        signal.set_wakeup_fd(wake_end.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)

    def run(self) -> None:
        """Serve until the minion is gone, and then until no worker is left."""
        try:
            self._serve()
        finally:  # a mistake of ours leaves no worker behind either
            self._wait_for_workers(self._grace)
            for pid in self._tokens:
                _kill_group(pid)
            self._wait_for_workers(self._grace)

    def _serve(self) -> None:
        poller = select.poll()
        poller.register(self._sock, select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        serving = True
        while serving:
            ready = {fd for fd, _event in poller.poll()}
            if self._wake.fileno() in ready:
                self._reap()
            if self._sock.fileno() in ready:
                serving = self._obey()

    def _wait_for_workers(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        self._reap()
        while self._tokens and (left := deadline - time.monotonic()) > 0:
            poller.poll(left * 1000)
            self._reap()

    def _obey(self) -> bool:
        """Carry out one command; False at end-of-file."""
        try:
            data, fds, _flags, _address = socket.recv_fds(self._sock, _COMMAND.size, 1)
        except ConnectionResetError:  # the end, of a minion that had reports to read
            return False
        if len(data) < _COMMAND.size:
            return False
        command, token = _COMMAND.unpack(data)
        if command == _SPAWN:
            self._spawn(token, fds)
        else:
            self._kill(token)
        return True

    def _spawn(self, token: int, fds: list[int]) -> None:
        if not fds:
            # The kernel had no descriptor left to pass the socket with.
            self._report(EXITED, token, _UNKNOWN_STATUS)
            return
        try:
            pid = os.fork()
        except OSError as error:
            os.close(fds[0])
            self._report(FAILED, token, error.errno or 0)
            return
        if pid == 0:
            _be_worker(fds[0], self._entry)
        os.close(fds[0])
        self._tokens[pid] = token
        self._report(STARTED, token, pid)

    def _kill(self, token: int) -> None:
        for pid, known in self._tokens.items():
            if known == token:
                _kill_group(pid)

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake.recv(4096)
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                self._bury(pid, os.waitstatus_to_exitcode(status))

    def _bury(self, pid: int, code: int) -> None:
        token = self._tokens.pop(pid, None)
        if token is None:
            return
        if code:
            # A worker that crashed cannot tidy up: what its job had started goes with it.
            _kill_group(pid, leader=False)
        self._report(EXITED, token, code)

    def _report(self, kind: bytes, token: int, value: int) -> None:
        # Without a minion nobody needs the report; its end-of-file is read next.
        with contextlib.suppress(OSError):
            self._sock.sendall(_REPORT.pack(kind, token, value))


def _kill_group(pid: int, *, leader: bool = True) -> None:
    """Kill a worker with its group; by itself if it has not made its group yet."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        if leader:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
