"""Sees to it that no program of a reaction outlives the reactor, however that one ends.

A reactor that is killed by SIGKILL can end nothing any more. So a second process, the warden, is
told of each program before that begins, and ends them all when the reactor is gone.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from reactor.engine import warden
from reactor.errors import ReactorError

_GO = b"\n"
_GATE = 'IFS= read -r _ || exit 125; exec "$@"'
"""A shell that becomes the program once it has read a line, which it does byte by byte. If the
reactor is killed before it has written that line, the shell ends instead."""

_SHELL = "/bin/sh"
_PATIENCE = 2.0


def gated(argv: Sequence[str], stdin: bytes) -> tuple[list[str], bytes]:
    """Return the command that waits until its input begins to be written, and that input."""
    return [_SHELL, "-c", _GATE, "gate", *argv], _GO + stdin


class Guard:
    """The reactor's hold on its warden, which is started with the first program. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: set[int] = set()
        self._warden: subprocess.Popen[bytes] | None = None

    def began(self, group: int) -> None:
        """Have a process group ended with the reactor.

        Raises:
            ReactorError: there can be no warden.
        """
        with self._lock:
            self._groups.add(group)
            self._tell(b"+%d\n" % group)

    def ended(self, group: int) -> None:
        """Let go of a group; an unknown one is no matter."""
        with self._lock:
            if group in self._groups:
                self._groups.discard(group)
                self._tell(b"-%d\n" % group)

    def close(self) -> None:
        """End the warden, and what it still knows of."""
        with self._lock:
            if self._warden is not None:
                _end(self._warden)
                self._warden = None

    def _tell(self, line: bytes) -> None:
        if self._warden is not None and _write(self._warden, line):
            return
        # There is none yet, or somebody has killed it: a new one has to know all groups.
        if self._warden is not None:
            _end(self._warden)
        self._warden = _start()
        _write(self._warden, b"".join(b"+%d\n" % group for group in self._groups))


def _start() -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-I", "-S", str(Path(warden.__file__))]
    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the reactor
            cwd="/",
        )
    except OSError as error:
        raise ReactorError(
            f"cannot start the process that ends programs with the reactor: {error}"
        ) from error


def _write(process: subprocess.Popen[bytes], line: bytes) -> bool:
    assert process.stdin is not None
    try:
        # One write of a few bytes to a pipe is whole, or not at all.
        os.write(process.stdin.fileno(), line)
    except OSError:
        return False
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
