"""Salt's clients, name for name: ``Caller``, ``LocalClient``, ``RunnerClient``, ``WheelClient``."""

from __future__ import annotations

import os
import random
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from bus import endpoints, loader, rpc
from bus.answers import collected, full_answer, with_silent
from bus.calls import Fun, condensed
from bus.config import client_config, minion_config
from bus.errors import NotRunningError, TargetError
from bus.listener import Listener, open_listener
from bus.loader.calling import joined
from bus.loader.custom import custom_dirs
from bus.masterfunctions import RunnerClient, WheelClient
from bus.returns import Batch, Following, batch_size
from bus.running import current_user

__all__ = ["Caller", "LocalClient", "RunnerClient", "WheelClient"]

Target = str | Sequence[str]
"""A target as `bus.targets` reads it, or a list of ids."""

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
        self.context: dict[str, Any] = {}
        self.grains = loader.grains(self.opts, custom_dirs(self.opts, "grains"))
        self.functions = loader.execution_modules(
            self.opts,
            grains=self.grains,
            context=self.context,
            dirs=custom_dirs(self.opts, "modules"),
        )

    def cmd(self, fun: str, *args: Any, **kwargs: Any) -> Any:
        """Call an execution function and return what it returns; of a generator, all its steps.

        Raises:
            FunctionNotFoundError: there is no such function.
            ArgumentsError: the arguments do not fit.
        """
        result = loader.call(self.functions, fun, args, kwargs)
        return joined(list(result)) if isinstance(result, Generator) else result

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
        self._link = rpc.open_connection(endpoints.master_link(self.opts))
        self._listener: Listener | None = None
        self._pid = os.getpid()

    def cmd(
        self,
        tgt: Target,
        fun: Fun,
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
            fun: the function's name; or the names of several, that each minion runs one after the
                other, and then ``arg`` has a list of arguments for each.
            arg: its positional arguments.
            timeout: seconds without a return after which the job is asked about.
            tgt_type: how ``tgt`` is read, see `bus.targets`.
            ret: accepted as in Salt; there are no returners.
            jid: accepted as in Salt; the master makes the job id.
            full_return: give ``{"ret", "retcode", "jid"}`` instead of the return value.
            kwarg: its keyword arguments.
            kwargs: ``job_timeout`` and ``user`` as in `run_job`; others are accepted as in Salt.

        Returns:
            What each minion that answered returned.

        Raises:
            NotRunningError: no master answers, or it went away meanwhile; then the text names
                the job.
        """
        del jid
        answers = self.follow(tgt, fun, arg, timeout, tgt_type, ret, kwarg, **kwargs)
        return collected(answers, full_return=full_return)

    def cmd_async(
        self,
        tgt: Target,
        fun: Fun,
        arg: Sequence[Any] = (),
        tgt_type: str = "glob",
        ret: str = "",
        jid: str = "",
        kwarg: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> str:
        """Send a job and return its id without waiting; 0 minions give an empty text."""
        del jid
        pub = self.run_job(tgt, fun, arg, tgt_type, ret, kwarg=kwarg, **kwargs)
        return str(pub["jid"]) if pub["minions"] else ""

    def cmd_iter(
        self,
        tgt: Target,
        fun: Fun,
        arg: Sequence[Any] = (),
        timeout: float | None = None,
        tgt_type: str = "glob",
        ret: str = "",
        kwarg: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Iterator[dict[str, dict[str, Any]]]:
        """Yield ``{minion: {"ret", "retcode", "jid"}}`` as each return comes."""
        for answer in self.follow(tgt, fun, arg, timeout, tgt_type, ret, kwarg, **kwargs):
            yield full_answer(answer)

    def cmd_iter_no_block(
        self,
        tgt: Target,
        fun: Fun,
        arg: Sequence[Any] = (),
        timeout: float | None = None,
        tgt_type: str = "glob",
        ret: str = "",
        kwarg: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Iterator[dict[str, dict[str, Any]] | None]:
        """`cmd_iter` that yields None whenever nothing is there, instead of waiting."""
        answers = self.follow(tgt, fun, arg, timeout, tgt_type, ret, kwarg, **kwargs)
        while not answers.over:
            answer = answers.step(0.0)
            yield None if answer is None else full_answer(answer)

    def cmd_cli(
        self,
        tgt: Target,
        fun: Fun,
        arg: Sequence[Any] = (),
        timeout: float | None = None,
        tgt_type: str = "glob",
        ret: str = "",
        verbose: bool = False,
        kwarg: Mapping[str, Any] | None = None,
        progress: bool = False,
        **kwargs: Any,
    ) -> Iterator[dict[str, dict[str, Any]]]:
        """`cmd_iter`, and at the end each minion that did not answer, as `get_cli_returns`."""
        del verbose, progress
        answers = self.follow(tgt, fun, arg, timeout, tgt_type, ret, kwarg, **kwargs)
        yield from with_silent(answers)

    def cmd_full_return(
        self,
        tgt: Target,
        fun: Fun,
        arg: Sequence[Any] = (),
        timeout: float | None = None,
        tgt_type: str = "glob",
        ret: str = "",
        verbose: bool = False,
        kwarg: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> dict[str, dict[str, Any]]:
        """Run a function and return ``{minion: {"ret", "retcode", "jid"}}``.

        A minion that did not answer is in it too, as in `get_cli_returns`.
        """
        answers = self.cmd_cli(tgt, fun, arg, timeout, tgt_type, ret, verbose, kwarg, **kwargs)
        return {minion: data for answer in answers for minion, data in answer.items()}

    def cmd_batch(
        self,
        tgt: Target,
        fun: Fun,
        arg: Sequence[Any] = (),
        tgt_type: str = "glob",
        ret: str = "",
        kwarg: Mapping[str, Any] | None = None,
        batch: str | int = "10%",
        **kwargs: Any,
    ) -> Iterator[dict[str, Any]]:
        """Run a function on some minions at a time; yield ``{minion: return}``.

        As one returns, the next begins.

        Args:
            tgt: which minions.
            fun: the function's name.
            arg: its positional arguments.
            tgt_type: how ``tgt`` is read.
            ret: accepted as in Salt.
            kwarg: its keyword arguments.
            batch: how many at a time: a number, or a share such as ``"10%"``.
            kwargs: ``timeout``; ``failhard``: begin no more once one has failed; ``raw``: yield
                the data of the whole return; and those of `run_job`.

        Raises:
            NotRunningError: no master answers.
            TargetError: ``batch`` is neither.
        """
        raw = bool(kwargs.pop("raw", False))
        answers = self.follow_batch(
            tgt, fun, arg, tgt_type=tgt_type, ret=ret, kwarg=kwarg, batch=batch, **kwargs
        )
        for answer in answers:
            yield answer if raw else {one: data.get("return") for one, data in answer.items()}

    def cmd_subset(
        self,
        tgt: Target,
        fun: Fun,
        arg: Sequence[Any] = (),
        tgt_type: str = "glob",
        ret: str = "",
        kwarg: Mapping[str, Any] | None = None,
        sub: int = 3,
        cli: bool = False,
        progress: bool = False,
        full_return: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Run a function on some of the minions, chosen at random among the connected ones.

        Args:
            tgt: which minions there are to choose from.
            fun: the function's name.
            arg: its positional arguments.
            tgt_type: how ``tgt`` is read.
            ret: accepted as in Salt.
            kwarg: its keyword arguments.
            sub: how many at most; ``subset`` is Salt's newer name of it.
            cli: return the iterator of `cmd_cli` instead.
            progress: accepted as in Salt.
            full_return: as in `cmd`.
            kwargs: those of `cmd`.
        """
        del progress
        chosen = self.choose(tgt, int(kwargs.pop("subset", sub)), tgt_type)
        if cli:
            return self.cmd_cli(chosen, fun, arg, tgt_type="list", ret=ret, kwarg=kwarg, **kwargs)
        return self.cmd(
            chosen, fun, arg, tgt_type="list", ret=ret, kwarg=kwarg, full_return=full_return,
            **kwargs,
        )  # fmt: skip

    def choose(self, tgt: Target, count: int, tgt_type: str = "glob") -> list[str]:
        """Return some of the connected minions that a target means, chosen at random, sorted.

        Raises:
            NotRunningError: no master answers.
            TargetError: the target cannot be read, or the count is below 1.
        """
        if count < 1:
            raise TargetError(f"a subset of {count} minions: give a number from 1 upward")
        connected = set(self._call("minions.connected", {}))
        there = [minion for minion in self.match(tgt, tgt_type) if minion in connected]
        return sorted(random.sample(there, min(count, len(there))))

    def match(self, tgt: Target, tgt_type: str = "glob") -> list[str]:
        """Return the ids of the accepted minions that a target means, sorted.

        Raises:
            NotRunningError: no master answers.
            TargetError: the target cannot be read.
        """
        params = {"tgt": _portable(tgt), "tgt_type": tgt_type}
        return sorted(self._call("minions.match", params))

    def run_job(
        self,
        tgt: Target,
        fun: Fun,
        arg: Sequence[Any] = (),
        tgt_type: str = "glob",
        ret: str = "",
        timeout: float | None = None,
        kwarg: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Send a job without waiting.

        Args:
            tgt: which minions.
            fun: the function's name.
            arg: its positional arguments.
            tgt_type: how ``tgt`` is read.
            ret: accepted as in Salt.
            timeout: accepted as in Salt.
            kwarg: its keyword arguments.
            kwargs: ``job_timeout``: seconds after which the minion ends the job; ``user``: who
                asks.

        Returns:
            ``jid``, ``minions`` (those it was meant for) and ``missing`` (of these, those that
            are not connected).

        Raises:
            NotRunningError: no master answers.
            TargetError: the target cannot be read.
        """
        del timeout
        params = {
            "tgt": _portable(tgt),
            "tgt_type": tgt_type,
            "fun": fun if isinstance(fun, str) else list(fun),
            "arg": condensed(fun, arg, kwarg),
            "user": kwargs.get("user") or current_user(),
            "ret": ret,
        }
        if kwargs.get("job_timeout"):
            params["timeout"] = kwargs["job_timeout"]
        answer: dict[str, Any] = self._call("jobs.publish", params)
        return answer

    # -- returns --------------------------------------------------------------------------

    def follow(
        self,
        tgt: Target,
        fun: Fun,
        arg: Sequence[Any] = (),
        timeout: float | None = None,
        tgt_type: str = "glob",
        ret: str = "",
        kwarg: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Following:
        """Send a job and return its returns as they come; arguments as in `cmd`.

        The iterator yields ``{minion: return data}``, and says in ``silent`` who did not answer
        and why.
        """
        self.listen()
        pub = self.run_job(tgt, fun, arg, tgt_type, ret, kwarg=kwarg, **kwargs)
        return self.get_returns_iter(pub, timeout)

    def follow_batch(
        self,
        tgt: Target,
        fun: Fun,
        arg: Sequence[Any] = (),
        timeout: float | None = None,
        tgt_type: str = "glob",
        ret: str = "",
        kwarg: Mapping[str, Any] | None = None,
        batch: str | int = "10%",
        failhard: bool = False,
        **kwargs: Any,
    ) -> Batch:
        """`follow` for some minions at a time: arguments as in `cmd_batch`."""
        minions = self.match(tgt, tgt_type)
        self.listen()

        def send(group: list[str]) -> dict[str, Any]:
            return self.run_job(group, fun, arg, "list", ret, kwarg=kwarg, **kwargs)

        return Batch(
            self, self._wait(timeout), _gather_seconds,
            minions=minions, size=batch_size(batch, len(minions)), send=send, failhard=failhard,
        )  # fmt: skip

    def get_returns_iter(self, pub: Mapping[str, Any], timeout: float | None = None) -> Following:
        """Yield ``{minion: return data}`` for a job sent by `run_job` after `listen`.

        It ends when all that are connected have answered. When nothing has come for
        ``timeout`` seconds, minions that still run the job are waited for, others not; nor is
        one whose process is gone.
        """
        self.listen()
        return Following(self, self._wait(timeout), _gather_seconds).add(pub)

    def resume(
        self, jid: str, minions: Iterable[str] = (), timeout: float | None = None
    ) -> Following:
        """Return the returns of a job that was sent before, those that came already first.

        Raises:
            NotRunningError: no master answers.
            ArgumentsError: the master knows no such job.
        """
        self.listen()
        following = Following(self, self._wait(timeout), _gather_seconds)
        return following.resume(jid, [minions] if isinstance(minions, str) else minions)

    def get_cli_returns(
        self,
        jid: str,
        minions: Iterable[str] = (),
        timeout: float | None = None,
        tgt: Target = "*",
        tgt_type: str = "glob",
        verbose: bool = False,
        show_jid: bool = False,
        **kwargs: Any,
    ) -> Iterator[dict[str, dict[str, Any]]]:
        """Yield ``{minion: {"ret", "retcode", "jid"}}`` for a job that was sent.

        Those that did not answer come last, with ``"out": "no_return"`` and why in ``ret``.
        """
        del tgt, tgt_type, verbose, show_jid, kwargs
        yield from with_silent(self.resume(jid, minions, timeout))

    def get_full_returns(
        self, jid: str, minions: Iterable[str] = (), timeout: float | None = None
    ) -> dict[str, dict[str, Any]]:
        """Wait for a job that was sent; return ``{minion: {"ret", "retcode", "jid"}}``."""
        return collected(self.resume(jid, minions, timeout), full_return=True)

    def get_returns(
        self, jid: str, minions: Iterable[str] = (), timeout: float | None = None
    ) -> dict[str, Any]:
        """Wait for a job that was sent; return ``{minion: return}``."""
        return collected(self.resume(jid, minions, timeout), full_return=False)

    def get_cache_returns(self, jid: str) -> dict[str, dict[str, Any]]:
        """Return what has come back for a job so far: ``{minion: {"ret": ...}}``."""
        found: dict[str, Any] = self._call("jobs.lookup", {"jid": jid})
        return {minion: {"ret": value} for minion, value in found.items()}

    def job(self, jid: str) -> dict[str, Any]:
        """Return what the master has of a job, with its ``returns``; empty if it has none."""
        found: dict[str, Any] = self._call("jobs.get", {"jid": jid})
        return found

    # -- the connection -------------------------------------------------------------------

    def listen(self) -> None:
        """Begin to hear job returns; to be called before `run_job` if returns are wanted."""
        self.hearing()

    def hearing(self) -> Listener:
        """Return what hears the events of jobs; it is connected on first use."""
        if self._listener is None or self._pid != os.getpid():
            listener = open_listener(endpoints.master_fires(self.opts), "salt/job/")
            try:
                listener.wait_ready(2.0)
            except NotRunningError:
                listener.close()
                raise
            self._listener, self._pid = listener, os.getpid()
        return self._listener

    def close(self) -> None:
        """Stop hearing job returns and let go of the connection to the master."""
        self._link.close()
        if self._listener and self._pid == os.getpid():
            self._listener.close()
        self._listener = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _call(self, method: str, params: Mapping[str, Any]) -> Any:
        return self._link.call(method, params, timeout=CALL_TIMEOUT)

    def _wait(self, timeout: float | None) -> float:
        return float(self.opts["timeout"]) if timeout is None else float(timeout)


def _gather_seconds() -> float:
    return GATHER_TIMEOUT


def _portable(tgt: Target) -> str | list[str]:
    return tgt if isinstance(tgt, str) else list(tgt)
