"""A job worker: a process that loads the functions once, then runs one job after another."""

from __future__ import annotations

import io
import logging
import os
import signal
import socket
import sys
import traceback
import types
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from bus import wire
from bus.calls import Call
from bus.errors import BusError, DataError, FunctionNotFoundError, WireError
from bus.loader import calling
from bus.minion.jobs import RETCODE_FAILED, RETCODE_NOT_AVAILABLE, Job, Result, together
from bus.minion.stream import BlockingStream
from bus.minion.surroundings import Surroundings

log = logging.getLogger(__name__)

READY, RESULT, PROGRESS = "ready", "result", "progress"
"""What a worker's message is, under the key ``kind``."""
LAST = "last"
"""The key of a result that says whether the worker takes no further job."""

_HEADROOM = 8192
"""Bytes that a return needs on its way besides itself and the arguments: ids, names, stamps."""
_RETCODE = "retcode"
_MAX_JOB = 64 << 20
"""Bytes of a job. The link has its own, smaller limit: this one is against a broken stream."""
_MAX_DEPTH = 100
_MAX_REPR = 10_000


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a worker works with.

    Attributes:
        call: runs a function, given its name and Salt's condensed arguments.
        available: says whether there is a function of this name.
        grains: the host's grains.
    """

    call: Callable[[str, Sequence[Any]], Any]
    available: Callable[[str], bool]
    grains: Mapping[str, Any]


Load = Callable[[MutableMapping[str, Any]], Loaded]
"""Loads the functions; its argument is the ``__context__`` that they are to share."""


def main(sock: socket.socket, load: Load, limit: int) -> None:
    """Run a worker until the minion closes the socket.

    Args:
        sock: the socket to the minion.
        load: loads functions and grains.
        limit: the largest return in bytes (the option ``max_event_size``).
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    redirect_output()
    context: dict[str, Any] = {}
    worker = Worker(BlockingStream(sock, _MAX_JOB), load(context), context, limit)
    try:
        worker.run()
    except EOFError:
        log.debug("the minion closed the socket: this worker ends")


def redirect_output() -> None:
    """Send to the log's stream what functions print, and let them read nothing."""
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False))
    for name in ("stdout", "stderr"):
        raw = io.FileIO(2, "w", closefd=False)
        setattr(sys, name, io.TextIOWrapper(raw, errors="backslashreplace", write_through=True))


class Worker:
    """Answers jobs, one at a time.

    Args:
        stream: the connection to the minion.
        loaded: functions and grains.
        context: what the functions see as ``__context__``, and what they keep there, such as
            connections, from job to job; only the return code is taken out before each.
        limit: the largest return in bytes.
    """

    def __init__(
        self,
        stream: BlockingStream,
        loaded: Loaded,
        context: MutableMapping[str, Any],
        limit: int,
    ) -> None:
        self._stream = stream
        self._loaded = loaded
        self._context = context
        self._limit = limit
        self._pid = os.getpid()
        self._reported = 0
        self._surroundings = Surroundings(redirect_output)

    def run(self) -> None:
        """Say that the worker is ready, then take jobs.

        Raises:
            EOFError: the minion is gone.
        """
        grains = portable(dict(self._loaded.grains))
        self._stream.send({"kind": READY, "pid": self._pid, "grains": grains})
        while True:
            job = Job.from_message(self._stream.receive())
            answer = {"kind": RESULT, "jid": job.jid, **self._answer(job).as_message()}
            if not self._surroundings.restore():
                log.info("%s changed its process for good: the next job gets another", job.name)
                answer[LAST] = True
            self._stream.send(answer)

    def _answer(self, job: Job) -> Result:
        self._reported = 0
        calls = job.calls
        if isinstance(job.fun, str):
            result = self._run(job.jid, calls[0])
        else:
            result = together({call.fun: self._run(job.jid, call) for call in calls})
        try:
            return self._fitted(job, result)
        except BaseException as error:
            # What a function returns may be an object of its own, which can do anything too.
            return Result.failed(f"the return of {job.name} cannot be carried: {_reason(error)}")

    def _run(self, jid: str, call: Call) -> Result:
        result = self._outcome(jid, call)
        if os.getpid() != self._pid:
            # A function forked, and its child came out of the function: this is the child.
            os._exit(result.retcode)
        return result

    def _outcome(self, jid: str, call: Call) -> Result:
        self._context.pop(_RETCODE, None)
        try:
            value = self._whole(jid, self._loaded.call(call.fun, call.arg))
        except BusError as error:
            return self._from_error(call.fun, error)
        except SystemExit as error:
            return _from_exit(call.fun, error.code)
        except BaseException:
            # The boundary of a job: whatever a function raises is its return.
            return Result.failed(
                f"The minion function caused an exception: {traceback.format_exc()}"
            )
        retcode = retcode_of(value, self._context.get(_RETCODE, 0))
        return Result(value, retcode, success=retcode == 0)

    def _from_error(self, fun: str, error: BusError) -> Result:
        # A function that is there may have asked for another one that is not.
        if isinstance(error, FunctionNotFoundError) and not self._loaded.available(fun):
            return Result.failed(f"{fun!r} is not available: {error}", RETCODE_NOT_AVAILABLE)
        return Result.failed(f"ERROR: {error}")

    def _whole(self, jid: str, value: Any) -> Any:
        """Return what a function returned; a generator is run, and each step is reported."""
        if not isinstance(value, types.GeneratorType):
            return value
        steps = []
        for step in value:
            steps.append(portable(step))
            self._report(jid, steps[-1])
        return calling.joined(steps)

    def _report(self, jid: str, step: Any) -> None:
        number, self._reported = self._reported, self._reported + 1
        if os.getpid() == self._pid and len(wire.pack(step)) + _HEADROOM <= self._limit:
            self._stream.send({"kind": PROGRESS, "jid": jid, "number": number, "data": step})

    def _fitted(self, job: Job, result: Result) -> Result:
        """Return the result so that it can go over the wire."""
        value = portable(result.value)
        size = len(wire.pack(value))
        room = max(self._limit - len(wire.pack(job.as_message())) - _HEADROOM, _HEADROOM)
        if size > room:
            return Result.failed(
                f"the return of {job.name} is {size} bytes long; the option max_event_size "
                f"leaves room for {room}: return less, or write it to a file"
            )
        return Result(value, result.retcode, result.success)


def _from_exit(fun: str, code: object) -> Result:
    number = code if isinstance(code, int) and code else RETCODE_FAILED
    return Result.failed(f"{fun} ended with sys.exit({code!r})", number)


def retcode_of(value: Any, set_by_function: Any) -> int:
    """Return a job's return code.

    Args:
        value: what the function returned: a dict whose ``result`` or ``success`` is false says
            that it failed, as in Salt.
        set_by_function: ``__context__["retcode"]``.
    """
    if set_by_function:
        return set_by_function if isinstance(set_by_function, int) else RETCODE_FAILED
    if isinstance(value, dict) and not (value.get("result", True) and value.get("success", True)):
        return RETCODE_FAILED
    return 0


def portable(value: Any) -> Any:
    """Return ``value`` so that msgpack carries it: what it cannot becomes its ``repr``."""
    try:
        # Reading it again finds what packs but does not unpack, such as a tuple as a key.
        wire.unpack(wire.pack(value))
    except (DataError, WireError) as error:
        log.warning("a return is turned to text where msgpack cannot carry it: %s", error)
        return _portable(value, 0)
    return value


def _portable(value: Any, depth: int) -> Any:
    if depth < _MAX_DEPTH and isinstance(value, Mapping):
        return {_key(key): _portable(item, depth + 1) for key, item in value.items()}
    if depth < _MAX_DEPTH and isinstance(value, list | tuple | set | frozenset):
        return [_portable(item, depth + 1) for item in value]
    return value if depth < _MAX_DEPTH and _packs(value) else _text(value)


def _key(key: Any) -> Any:
    return key if isinstance(key, str | int | float | bool | None) and _packs(key) else _text(key)


def _packs(value: Any) -> bool:
    try:
        wire.unpack(wire.pack(value))
    except (DataError, WireError):
        return False
    return True


def _reason(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:_MAX_REPR]
    except Exception:  # its __str__ is the function's own as well
        return type(error).__name__


def _text(value: Any) -> str:
    try:
        text = repr(value)[:_MAX_REPR]
    except Exception as error:  # a function's own class, whose __repr__ may do anything
        text = f"<{type(value).__name__} without repr: {type(error).__name__}>"
    return text.encode(errors="backslashreplace").decode()
