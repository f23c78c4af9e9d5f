"""Runs a program with a deadline, and keeps no more of its output than a job can return."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from bus.modules._errors import ExecutionError

MAX_OUTPUT_BYTES = 262_144
"""For each stream: with both full, a return still fits into an event of one MiB."""

_CHUNK = 65_536
_DRAIN_SECONDS = 1.0  # what a killed group may still have in its pipes


@dataclass(frozen=True, slots=True)
class Command:
    """What to run.

    Attributes:
        argv: the program and its arguments.
        stdin: what it reads.
        merge: its standard error goes where its standard output goes.
        timeout: seconds after which it and all that it started are killed.
        max_output: bytes to keep of each stream; more only for what is not returned as it is.
        options: further arguments of `subprocess.Popen`, such as ``cwd`` and ``env``.
        on_start: told the process id, which with a timeout is that of its group too.
    """

    argv: Sequence[str]
    stdin: bytes = b""
    merge: bool = False
    timeout: float | None = None
    max_output: int = MAX_OUTPUT_BYTES
    options: Mapping[str, Any] = field(default_factory=dict)
    on_start: Callable[[int], None] | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it; ``returncode`` is negative when a signal ended the program."""

    pid: int
    returncode: int
    stdout: str
    stderr: str
    timed_out: bool = False


class _Pipe:
    """One stream of output, kept up to the limit and counted beyond it."""

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self.file = file
        self._limit = limit
        self._kept = bytearray()
        self._dropped = 0

    def read(self) -> bool:
        """Take what is there; false at the end of the stream."""
        chunk = os.read(self.file.fileno(), _CHUNK)
        room = self._limit - len(self._kept)
        self._kept += chunk[:room]
        self._dropped += max(0, len(chunk) - room)
        return bool(chunk)

    def text(self) -> str:
        text = self._kept.decode(errors="replace")
        note = f"\n[{self._dropped} bytes more are left out]" if self._dropped else ""
        return text + note


class _Input:
    """What is still to be written to the program."""

    def __init__(self, file: IO[bytes], content: bytes) -> None:
        self.file = file
        self._rest = memoryview(content)

    def write(self) -> bool:
        """Write what fits; false when all is written or nobody reads it."""
        try:
            self._rest = self._rest[os.write(self.file.fileno(), self._rest[:_CHUNK]) :]
        except BrokenPipeError:
            return False
        return bool(self._rest)


def run(command: Command) -> Outcome:
    """Run a program to its end.

    Raises:
        ExecutionError: it cannot be started.
    """
    process = _start(command)
    try:
        if command.on_start is not None:
            command.on_start(process.pid)
        return _attend(process, command)
    except BaseException:
        # The job is being ended: what it started must not outlive it.
        _kill(process, own_group=command.timeout is not None)
        process.wait()
        raise
    finally:
        _close(process)


def _start(command: Command) -> subprocess.Popen[bytes]:
    """Start it. Only with a deadline of its own is it taken out of the job's process group.

    Whoever ends a job by its group thereby ends its programs too.
    """
    try:
        return subprocess.Popen(
            list(command.argv),
            stdin=subprocess.PIPE if command.stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if command.merge else subprocess.PIPE,
            start_new_session=command.timeout is not None,
            **command.options,
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise ExecutionError(f"cannot run {command.argv[0]!r}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error)


def _attend(process: subprocess.Popen[bytes], command: Command) -> Outcome:
    deadline = None if command.timeout is None else time.monotonic() + command.timeout
    pipes = {
        name: _Pipe(file, command.max_output)
        for name in ("stdout", "stderr")
        if (file := getattr(process, name))
    }
    finished = _exchange(process, pipes, command.stdin, deadline)
    timed_out = not finished or not _wait(process, deadline)
    if timed_out:
        _kill(process, own_group=True)
        _exchange(process, pipes, b"", time.monotonic() + _DRAIN_SECONDS)
    texts = {name: pipe.text() for name, pipe in pipes.items()}
    return Outcome(process.pid, process.wait(), texts["stdout"], texts.get("stderr", ""), timed_out)


def _exchange(
    process: subprocess.Popen[bytes],
    pipes: Mapping[str, _Pipe],
    stdin: bytes,
    deadline: float | None,
) -> bool:
    """Move bytes until all streams have ended; false when the deadline came first."""
    with selectors.DefaultSelector() as selector:
        for pipe in pipes.values():
            if not pipe.file.closed:
                selector.register(pipe.file, selectors.EVENT_READ, pipe.read)
        if process.stdin and stdin:
            os.set_blocking(process.stdin.fileno(), False)
            source = _Input(process.stdin, stdin)
            selector.register(process.stdin, selectors.EVENT_WRITE, source.write)
        return _turn(selector, deadline)


def _turn(selector: selectors.BaseSelector, deadline: float | None) -> bool:
    while selector.get_map():
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            return False
        for key, _ in selector.select(left):
            if not key.data():
                selector.unregister(key.fileobj)
                key.fileobj.close()  # type: ignore[union-attr]  # files are all we register
    return True


def _wait(process: subprocess.Popen[bytes], deadline: float | None) -> bool:
    """A program may close its streams and go on."""
    left = None if deadline is None else max(0.0, deadline - time.monotonic())
    try:
        process.wait(left)
    except subprocess.TimeoutExpired:
        return False
    return True


def _kill(process: subprocess.Popen[bytes], *, own_group: bool) -> None:
    with contextlib.suppress(ProcessLookupError):
        if own_group:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


def _close(process: subprocess.Popen[bytes]) -> None:
    for file in (process.stdin, process.stdout, process.stderr):
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()
