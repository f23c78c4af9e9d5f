"""What a process is to the functions that run in it, made the same again after each job.

A worker runs one job after another, so what a function changes of its process, such as the
folder that it works in, would be there for jobs that know nothing of it.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_SIGNALS = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGPIPE,
    signal.SIGALRM,
    signal.SIGTERM,
    signal.SIGCHLD,
)
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_LIMITS = (
    resource.RLIMIT_AS,
    resource.RLIMIT_CORE,
    resource.RLIMIT_CPU,
    resource.RLIMIT_DATA,
    resource.RLIMIT_FSIZE,
    resource.RLIMIT_NOFILE,
    resource.RLIMIT_NPROC,
    resource.RLIMIT_STACK,
)
_MANY_DESCRIPTORS = 256
"""Of a worker that has so many it is not waited for until there are none left."""
_STREAMS = ("stdin", "stdout", "stderr")


class Surroundings:
    """The surroundings of jobs, as they are when this is made.

    Args:
        reopen: makes standard input, output and error of the process anew.
    """

    def __init__(self, reopen: Callable[[], None]) -> None:
        self._reopen = reopen
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._cwd = _cwd()
        self._environ = dict(os.environb)
        self._handlers = {number: signal.getsignal(number) for number in _SIGNALS}
        self._blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        # A timer that runs already is somebody else's.
        self._timers = [which for which in _TIMERS if not any(signal.getitimer(which))]
        self._streams = _streams()
        self._recursion = sys.getrecursionlimit()
        self._timeout = socket.getdefaulttimeout()
        self._fixed = _fixed()

    def restore(self) -> bool:
        """Put back what a job has changed.

        Returns:
            Whether all of it is as it was. What cannot be put back for certain, such as the
            user or a closed descriptor, takes a new process.
        """
        for which in self._timers:
            signal.setitimer(which, 0)
        os.umask(self._umask)
        sys.setrecursionlimit(self._recursion)
        socket.setdefaulttimeout(self._timeout)
        self._restore_signals()
        self._restore_environ()
        self._restore_streams()
        return self._restore_cwd() and _fixed() == self._fixed and _has_descriptors_left()

    def _restore_signals(self) -> None:
        for number, handler in self._handlers.items():
            if signal.getsignal(number) != handler and handler is not None:
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._blocked)

    def _restore_environ(self) -> None:
        found = dict(os.environb)
        if found == self._environ:
            return
        for name in found.keys() - self._environ.keys():
            del os.environb[name]
        os.environb.update(self._environ)

    def _restore_streams(self) -> None:
        for name, stream in zip(_STREAMS, self._streams, strict=True):
            setattr(sys, name, stream)
        if any(stream is not None and stream.closed for stream in self._streams):
            self._reopen()
            self._streams = _streams()

    def _restore_cwd(self) -> bool:
        found = _cwd()
        if found == self._cwd:
            return True
        with contextlib.suppress(OSError):
            os.chdir(self._cwd or "/")
            return self._cwd is not None
        return False


def _has_descriptors_left() -> bool:
    """Say whether functions have left few files open, by the number that the next one gets."""
    try:
        fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    os.close(fd)
    return fd < _MANY_DESCRIPTORS


def _cwd() -> str | None:
    try:
        return str(Path.cwd())
    except OSError:  # it was removed
        return None


def _streams() -> list[Any]:
    return [getattr(sys, name) for name in _STREAMS]


def _fixed() -> tuple[object, ...]:
    """What a process cannot, or not in every case, take back."""
    return (
        os.getresuid(),
        os.getresgid(),
        os.getgroups(),
        os.getpriority(os.PRIO_PROCESS, 0),
        [resource.getrlimit(limit) for limit in _LIMITS],
        [_identity(fd) for fd in (0, 1, 2)],
        _identity(Path("/")),
    )


def _identity(file: int | Path) -> tuple[int, int] | None:
    try:
        found = os.fstat(file) if isinstance(file, int) else file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
