"""Salt's clients, name for name: ``Caller``, ``LocalClient``, ``RunnerClient``, ``WheelClient``."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bus import cliargs, endpoints, loader, rpc, wire
from bus.config import client_config, minion_config
from bus.errors import ArgumentsError, NotRunningError, TargetError, WireError
from bus.event import SaltEvent
from bus.jid import JidMaker
from bus.listener import Listener
from bus.running import Outcome, current_user, run_function

__all__ = ["Caller", "LocalClient", "RunnerClient", "WheelClient"]

Returns = Iterator[dict[str, dict[str, Any]]]

CALL_TIMEOUT = 10.0
"""Seconds for the master to answer."""

GATHER_TIMEOUT = 2.0
"""Seconds for minions to say whether a job that is not back yet still runs."""


class Caller:
    """Runs execution functions in this process, as the local minion would.

    Args:
        c_path: the minion's configuration, a file or a directory; by default the one found.
        mopts: the options themselves, instead of ``c_path``.
    """

    def __init__(
        self, c_path: str | Path | None = None, mopts: Mapping[str, Any] | None = None
    ) -> None:
        self.opts = minion_config(mopts if mopts is not None else c_path)
        synced = Path(self.opts["cachedir"]) / "extmods"
        self.context: dict[str, Any] = {}
        self.grains = loader.grains(self.opts, [synced / "grains"])
        self.functions = loader.execution_modules(
            self.opts, grains=self.grains, context=self.context, dirs=[synced / "modules"]
        )

    def cmd(self, fun: str, *args: Any, **kwargs: Any) -> Any:
        """Call an execution function and return what it returns.

        Raises:
            FunctionNotFoundError: there is no such function.
            ArgumentsError: the arguments do not fit.
        """
        return loader.call(self.functions, fun, args, kwargs)

    def function(self, fun: str, *args: Any, **kwargs: Any) -> Any:
        """Call an execution function: Salt's older name of `cmd`."""
        return self.cmd(fun, *args, **kwargs)


class LocalClient:
    """Sends jobs to minions through the master on this host.

    Args:
        c_path: the master's configuration, a file or a directory; by default the one found.
        mopts: the options themselves, instead of ``c_path``.
    """

    def __init__(
        self, c_path: str | Path | None = None, mopts: Mapping[str, Any] | None = None
    ) -> None:
        self.opts = mopts if mopts is not None else client_config(c_path)
        self._link = rpc.Connection(endpoints.master_link(self.opts))
        self._listener: Listener | None = None
        self._heard: deque[bytes] = deque()
        self._pid = os.getpid()

    def cmd(
        self,
        tgt: str | Sequence[str],
        fun: str,
        arg: Sequence[Any] = (),
        timeout: float | None = None,
        tgt_type: str = "glob",
        ret: str = "",
        jid: str = "",
        full_return: bool = False,
        kwarg: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Run a function on minions and wait.

        Args:
            tgt: which minions.
            fun: the function's name.
            arg: its positional arguments.
            timeout: seconds without a return after which the job is asked about.
            tgt_type: how ``tgt`` is read, see `bus.targets`.
            ret: accepted as in Salt; there are no returners.
            jid: accepted as in Salt; the master makes the job id.
            full_return: give ``{"ret", "retcode", "jid"}`` instead of the return value.
            kwarg: its keyword arguments.
            kwargs: accepted as in Salt.

        Returns:
            What each minion that answered returned.

        Raises:
            NotRunningError: no master answers.
        """
        del jid, kwargs
        answers: dict[str, Any] = {}
        for answer in self._run_iter(tgt, fun, arg, timeout, tgt_type, ret, kwarg):
            for minion, data in answer.items():
                answers[minion] = _full(data) if full_return else data.get("return")
        return answers

    def cmd_async(
        self,
        tgt: str | Sequence[str],
        fun: str,
        arg: Sequence[Any] = (),
        tgt_type: str = "glob",
        ret: str = "",
        jid: str = "",
        kwarg: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> str:
        """Send a job and return its id without waiting; 0 minions give an empty text."""
        del jid, kwargs
        pub = self.run_job(tgt, fun, arg, tgt_type, ret, kwarg=kwarg)
        return str(pub["jid"]) if pub["minions"] else ""

    def cmd_iter(
        self,
        tgt: str | Sequence[str],
        fun: str,
        arg: Sequence[Any] = (),
        timeout: float | None = None,
        tgt_type: str = "glob",
        ret: str = "",
        kwarg: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Iterator[dict[str, dict[str, Any]]]:
        """Yield ``{minion: {"ret", "retcode", "jid"}}`` as each return comes."""
        del kwargs
        for answer in self._run_iter(tgt, fun, arg, timeout, tgt_type, ret, kwarg):
            yield {minion: _full(data) for minion, data in answer.items()}

    def cmd_batch(
        self,
        tgt: str | Sequence[str],
        fun: str,
        arg: Sequence[Any] = (),
        tgt_type: str = "glob",
        ret: str = "",
        kwarg: Mapping[str, Any] | None = None,
        batch: str | int = "10%",
        **kwargs: Any,
    ) -> Iterator[dict[str, Any]]:
        """Run a function on some minions at a time; yield ``{minion: return}``.

        ``batch`` says how many at a time: a number, or a share such as ``"10%"``.

        Raises:
            TargetError: ``batch`` is neither.
        """
        timeout = kwargs.get("timeout")
        minions = self.match(tgt, tgt_type)
        size = batch_size(batch, len(minions))
        for start in range(0, len(minions), size):
            group = minions[start : start + size]
            answers = self._run_iter(group, fun, arg, timeout, "list", ret, kwarg)
            for answer in answers:
                yield {minion: data.get("return") for minion, data in answer.items()}

    def match(self, tgt: str | Sequence[str], tgt_type: str = "glob") -> list[str]:
        """Return the ids of the accepted minions that a target means, sorted.

        Raises:
            NotRunningError: no master answers.
            TargetError: the target cannot be read.
        """
        return sorted(self._call("minions.match", {"tgt": tgt, "tgt_type": tgt_type}))

    def run_job(
        self,
        tgt: str | Sequence[str],
        fun: str,
        arg: Sequence[Any] = (),
        tgt_type: str = "glob",
        ret: str = "",
        timeout: float | None = None,
        kwarg: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Send a job without waiting.

        Returns:
            ``jid``, ``minions`` (those it was meant for) and ``missing`` (of these, those that
            are not connected).

        Raises:
            NotRunningError: no master answers.
            TargetError: the target cannot be read.
        """
        del timeout
        params = {
            "tgt": tgt if isinstance(tgt, str) else list(tgt),
            "tgt_type": tgt_type,
            "fun": fun,
            "arg": cliargs.condense(list(arg), dict(kwarg or {})),
            "user": kwargs.get("user") or current_user(),
            "ret": ret,
        }
        if kwargs.get("job_timeout"):
            params["timeout"] = kwargs["job_timeout"]
        answer: dict[str, Any] = self._call("jobs.publish", params)
        return answer

    def get_returns_iter(self, pub: Mapping[str, Any], timeout: float | None = None) -> Returns:
        """Yield ``{minion: return data}`` for a job sent by `run_job` while `listening`.

        It ends when all that are connected have answered. When nothing has come for
        ``timeout`` seconds, minions that still run the job are waited for, others not.
        """
        wait = float(self.opts["timeout"]) if timeout is None else float(timeout)
        jid, expected = str(pub["jid"]), set(pub["minions"]) - set(pub.get("missing", ()))
        listener = self._listening()
        while expected:
            data = self._next_return(listener, jid, wait)
            if data and data.get("id") in expected:
                expected.discard(data["id"])
                yield {data["id"]: data}
            elif data is None:
                running = self._still_running(jid, expected)
                # A job may have ended while its minion was asked, or its return may have been
                # lost on the way here: the master has it.
                for minion, late in self._returned(jid, expected - running):
                    yield {minion: late}
                expected &= running

    def get_cache_returns(self, jid: str) -> dict[str, dict[str, Any]]:
        """Return what has come back for a job so far: ``{minion: {"ret": ...}}``."""
        found: dict[str, Any] = self._call("jobs.lookup", {"jid": jid})
        return {minion: {"ret": value} for minion, value in found.items()}

    def listen(self) -> None:
        """Begin to hear job returns; to be called before `run_job` if returns are wanted."""
        self._listening()

    def close(self) -> None:
        """Stop hearing job returns and let go of the connection to the master."""
        self._link.close()
        if self._listener and self._pid == os.getpid():
            self._listener.close()
        self._listener = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run_iter(
        self,
        tgt: str | Sequence[str],
        fun: str,
        arg: Sequence[Any],
        timeout: float | None,
        tgt_type: str,
        ret: str,
        kwarg: Mapping[str, Any] | None,
    ) -> Returns:
        self.listen()
        pub = self.run_job(tgt, fun, arg, tgt_type, ret, kwarg=kwarg)
        yield from self.get_returns_iter(pub, timeout)

    def _call(self, method: str, params: Mapping[str, Any]) -> Any:
        return self._link.call(method, params, timeout=CALL_TIMEOUT)

    def _listening(self) -> Listener:
        if self._listener is None or self._pid != os.getpid():
            listener = Listener(endpoints.master_fires(self.opts), "salt/job/")
            try:
                listener.wait_ready(2.0)
            except NotRunningError:
                listener.close()
                raise
            self._listener, self._pid = listener, os.getpid()
            self._heard.clear()
        return self._listener

    def _next_return(self, listener: Listener, jid: str, timeout: float) -> dict[str, Any] | None:
        deadline = time.monotonic() + timeout
        prefix = f"salt/job/{jid}/ret/".encode()
        while True:
            while self._heard:
                event = self._heard.popleft()
                if event.startswith(prefix):
                    with contextlib.suppress(WireError):
                        return wire.unpack_event(event)[1]
            left = deadline - time.monotonic()
            heard = listener.receive(left) if left > 0 else None
            if heard is None:
                return None
            self._heard.extend(heard.events)

    def _returned(self, jid: str, minions: set[str]) -> list[tuple[str, dict[str, Any]]]:
        """Return what the master has of these minions for a job, as their returns have it."""
        if not minions:
            return []
        job = self._call("jobs.get", {"jid": jid})
        common = {"jid": jid, "fun": job.get("fun", ""), "fun_args": job.get("arg", [])}
        returns = job.get("returns", {})
        found = sorted(minions & returns.keys())
        return [(minion, {"id": minion, **common, **returns[minion]}) for minion in found]

    def _still_running(self, jid: str, minions: set[str]) -> set[str]:
        """Ask minions whether they still run a job; those that do not answer do not."""
        with LocalClient(mopts=self.opts) as other:
            other.listen()
            pub = other.run_job(sorted(minions), "saltutil.find_job", [jid], "list")
            asked = set(pub["minions"]) - set(pub["missing"])
            running = set()
            deadline = time.monotonic() + GATHER_TIMEOUT
            while asked and time.monotonic() < deadline:
                left = max(0.0, deadline - time.monotonic())
                data = other._next_return(other._listening(), str(pub["jid"]), left)
                if data:
                    asked.discard(data["id"])
                    running |= {data["id"]} if data.get("return") else set()
            return running


def _full(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "ret": data.get("return"),
        "retcode": data.get("retcode", 0),
        "jid": data.get("jid", ""),
    }


def batch_size(batch: str | int, count: int) -> int:
    """Return how many of ``count`` minions ``batch``, ``N`` or ``P%``, means: at least one.

    Raises:
        TargetError: it is neither, or not above 0.
    """
    text = str(batch).strip()
    try:
        number = float(text[:-1]) if text.endswith("%") else int(text)
        size = math.ceil(count * number / 100) if text.endswith("%") else int(number)
    except (ValueError, OverflowError):
        number = size = 0
    if not number > 0:
        raise TargetError(f"batch {batch!r}: give a number such as 5 or a share such as 10%")
    return max(size, 1)


class _MasterFunctions:
    """What RunnerClient and WheelClient share: functions that run here, with their events."""

    kind = ""
    load: Callable[..., loader.Functions]

    def __init__(self, opts: Mapping[str, Any] | None = None) -> None:
        self.opts = opts if opts is not None else client_config(None)
        self.functions = type(self).load(self.opts)
        self._jids = JidMaker()
        self._event: SaltEvent | None = None

    def cmd(
        self,
        fun: str,
        arg: Sequence[Any] | None = None,
        pub_data: Mapping[str, Any] | None = None,
        kwarg: Mapping[str, Any] | None = None,
        print_event: bool = True,
        full_return: bool = False,
    ) -> Any:
        """Run a function in this process and wait.

        Args:
            fun: its name.
            arg: positional arguments.
            pub_data: ``{"user": ...}`` says who asked.
            kwarg: keyword arguments.
            print_event: accepted as in Salt.
            full_return: give ``{"jid", "return", "success", ...}``.

        Raises:
            BusError: what the function raised, or it is not there.
        """
        del print_event
        jid = self._jids.next()
        outcome = self._run(fun, arg or (), kwarg or {}, jid, pub_data or {})
        if full_return:
            return {"jid": jid, "fun": fun, "return": outcome.value, "success": outcome.success}
        if outcome.error:
            raise outcome.error
        return outcome.value

    def cmd_sync(self, low: Mapping[str, Any], full_return: bool = False) -> Any:
        """Run a function given as Salt's low data: ``{"fun", "arg", "kwarg"}``."""
        fun, arg, kwarg = _from_low(low)
        return self.cmd(fun, arg, kwarg=kwarg, full_return=full_return)

    def _run(
        self,
        fun: str,
        arg: Sequence[Any],
        kwarg: Mapping[str, Any],
        jid: str,
        pub_data: Mapping[str, Any],
    ) -> Outcome:
        user = str(pub_data.get("user") or current_user())
        return run_function(
            self.kind, self.functions, fun, arg, kwarg, jid=jid, user=user, emit=self._emit
        )

    def _emit(self, tag: str, data: dict[str, Any]) -> None:
        """Fire on the master's bus; without a bus the function runs all the same."""
        if self._event is None:
            self._event = SaltEvent("master", opts=self.opts, listen=False)
        if self._event.connect_pull():
            self._event.fire_event(data, tag)

    def close(self) -> None:
        """Close the connection to the bus."""
        if self._event:
            self._event.destroy()
            self._event = None


_LOW_KEYS = {"fun", "arg", "kwarg", "client", "eauth", "token", "username", "password"}


def _from_low(low: Mapping[str, Any]) -> tuple[str, list[Any], dict[str, Any]]:
    """Take low data apart; arguments may also stand beside the function, as in Salt."""
    if not isinstance(low.get("fun"), str):
        raise ArgumentsError("low data without 'fun': name the function")
    args, kwargs = cliargs.expand(list(low.get("arg") or ()))
    beside = {key: value for key, value in low.items() if key not in _LOW_KEYS}
    return low["fun"], args, {**kwargs, **(low.get("kwarg") or {}), **beside}


class RunnerClient(_MasterFunctions):
    """Runs runner functions in this process."""

    kind = "runner"
    load = staticmethod(loader.runners)


class WheelClient(_MasterFunctions):
    """Runs wheel functions in this process."""

    kind = "wheel"
    load = staticmethod(loader.wheels)
