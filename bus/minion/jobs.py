"""What a job is and what comes of it: values and their checks, without process or clock."""

from __future__ import annotations

import re
import signal
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bus.calls import Call, calls_of, spoken
from bus.errors import ArgumentsError, WireError

RETCODE_FAILED = 1
RETCODE_NOT_AVAILABLE = 254
"""The return code of a function that is not there; a shell's 127 could be the function's own."""

_JID = re.compile(r"[A-Za-z0-9_.-]{1,128}")


@dataclass(frozen=True, slots=True)
class Job:
    """A call of a function, or of several one after the other, as the master sends it.

    Attributes:
        jid: the job's id.
        fun: the function's name, such as ``test.ping``, or the names of several.
        arg: Salt's condensed arguments: the positional ones, and last, if there are keyword
            arguments, a dict of them with ``__kwarg__: True``; of several functions those of each.
        timeout: seconds after which the job is killed; 0 leaves it to ``job_timeout``.
        user: who asked for it.
    """

    jid: str
    fun: str | tuple[str, ...]
    arg: tuple[Any, ...] = ()
    timeout: float = 0.0
    user: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.jid, str) or not _JID.fullmatch(self.jid):
            raise WireError(f"a job with the id {str(self.jid)[:80]!r}, which is none")
        try:
            calls_of(self.fun, self.arg)
        except ArgumentsError as error:
            raise WireError(f"the job {self.jid}: {error}") from error
        if isinstance(self.timeout, bool) or not isinstance(self.timeout, int | float):
            raise WireError(f"the job {self.jid} has a timeout that is no number")
        if not 0 <= self.timeout < float("inf"):
            raise WireError(f"the job {self.jid} has the timeout {self.timeout}")

    @classmethod
    def from_message(cls, message: Any) -> Job:
        """Read a job as it came from outside.

        Raises:
            WireError: it is no job.
        """
        if not isinstance(message, Mapping):
            raise WireError("a job that is no dict")
        arg = message.get("arg") or ()
        if not isinstance(arg, list | tuple):
            raise WireError(f"a job with the arguments {str(arg)[:80]!r}, which are no list")
        fun = message.get("fun", "")
        return cls(
            jid=message.get("jid", ""),
            fun=tuple(fun) if isinstance(fun, list) else fun,
            arg=tuple(arg),
            timeout=message.get("timeout") or 0.0,
            user=str(message.get("user") or ""),
        )

    @property
    def calls(self) -> tuple[Call, ...]:
        """What is to be run, in order."""
        return calls_of(self.fun, self.arg)

    @property
    def name(self) -> str:
        """What is run, for people."""
        return spoken(self.fun)

    def as_message(self) -> dict[str, Any]:
        """Return the job as it goes to a worker."""
        return {
            "jid": self.jid,
            "fun": self.fun,
            "arg": self.arg,
            "timeout": self.timeout,
            "user": self.user,
        }


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a job.

    Attributes:
        value: what the function returned, or what went wrong.
        retcode: 0, or what the function or its failure set.
        success: whether it did what was asked.
    """

    value: Any
    retcode: int = 0
    success: bool = True

    @classmethod
    def failed(cls, text: str, retcode: int = RETCODE_FAILED) -> Result:
        """A job that did not do what was asked, and why."""
        return cls(text, retcode, success=False)

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Result:
        """Read a result as a worker sent it.

        Raises:
            WireError: it is no result.
        """
        retcode = message.get("retcode")
        if "return" not in message or not isinstance(retcode, int):
            raise WireError("a result without return or retcode")
        return cls(message["return"], retcode, success=message.get("success") is True)

    def as_message(self) -> dict[str, Any]:
        """Return the result as it goes over a socket."""
        return {"return": self.value, "retcode": self.retcode, "success": self.success}


def together(results: Mapping[str, Result]) -> Result:
    """Return what comes of a job of several functions.

    Args:
        results: of each function, by its name, in the order in which they ran.

    Returns:
        Their values by their names; it did what was asked if all of them did, and its return code
        is the first that is not 0.
    """
    return Result(
        {name: result.value for name, result in results.items()},
        next((result.retcode for result in results.values() if result.retcode), 0),
        success=all(result.success for result in results.values()),
    )


def unfinished_return(job: Job) -> dict[str, Any]:
    """Return what the master is sent for a job that an earlier process left unfinished.

    It says of itself what it is, so that it never takes the place of a return that was made.
    """
    result = Result.failed(f"{job.name} did not end: the minion was killed while it ran")
    return {"jid": job.jid, "fun": job.fun, "unfinished": True, **result.as_message()}


def job_return(job: Job, result: Result) -> dict[str, Any]:
    """Return what the master is sent when a job is over."""
    return {"jid": job.jid, "fun": job.fun, "fun_args": list(job.arg), **result.as_message()}


def describe_exit(code: int | None) -> str:
    """Say how a process ended.

    Args:
        code: its exit status, minus the number of a signal, or None if nobody knows.
    """
    if code is None:
        return "ended in an unknown way"
    if code >= 0:
        return f"exited with status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = ": out of memory?" if -code == signal.SIGKILL else ""
    return f"was killed by {name}{hint}"


def signal_number(name: str) -> int:
    """Return the number of a signal.

    Args:
        name: ``15``, ``TERM`` or ``SIGTERM``.

    Raises:
        ArgumentsError: there is no such signal.
    """
    text = name.strip().upper()
    try:
        if text.isdigit():
            return signal.Signals(int(text)).value
        return signal.Signals[f"SIG{text.removeprefix('SIG')}"].value
    except (ValueError, KeyError):
        raise ArgumentsError(
            f"{name[:40]!r} is no signal: give a name such as SIGTERM or a number such as 15"
        ) from None


class SeenJobs:
    """Remembers job ids: a job that is sent again after a reconnect runs once.

    Those that the master may send again, since it does not have their returns, are never
    forgotten; of the others the newest are remembered.

    Args:
        limit: of the others.
    """

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._open: set[str] = set()
        self._settled: OrderedDict[str, None] = OrderedDict()

    def add(self, jid: str) -> bool:
        """Note an id; False if it was known."""
        if jid in self._open or jid in self._settled:
            return False
        self._open.add(jid)
        return True

    def settle(self, jid: str) -> None:
        """Note that the return of a job is out of the minion's hands."""
        if jid in self._open:
            self._open.discard(jid)
            self._settled[jid] = None
            if len(self._settled) > self._limit:
                self._settled.popitem(last=False)
