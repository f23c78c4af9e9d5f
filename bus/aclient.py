"""The clients for asyncio: each call is awaited, what comes bit by bit is an async generator.

A call has a connection of its own, so that any number of them can run at once on one client. What
takes time is waited for in the loop; only short turns run in threads. A call that is cancelled
lets go of its connection before it ends, and what it had begun on minions goes on there, as when
a terminal is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from bus.ainput import wait_for_input
from bus.answers import collected, full_answer, silent_answers
from bus.calls import Fun
from bus.client import Caller, LocalClient, RunnerClient, Target, WheelClient
from bus.config import client_config
from bus.returns import Answer, Following

__all__ = ["AsyncCaller", "AsyncLocalClient", "AsyncRunnerClient", "AsyncWheelClient"]

T = TypeVar("T")

_LOOK_SECONDS = 0.1
"""How long the loop waits for input before it looks all the same: for what is due by the clock."""


class AsyncLocalClient:
    """`bus.client.LocalClient` for asyncio, with its methods, arguments and errors.

    Args:
        c_path: the master's configuration, a file or a directory; by default the one found.
        mopts: the options themselves, instead of ``c_path``.
    """

    def __init__(
        self, c_path: str | Path | None = None, mopts: Mapping[str, Any] | None = None
    ) -> None:
        self.opts = mopts if mopts is not None else client_config(c_path)

    async def cmd(self, tgt: Target, fun: Fun, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Run a function on minions and wait: `LocalClient.cmd`."""
        full_return = bool(kwargs.pop("full_return", False))
        found: dict[str, Any] = {}
        async for answer in self._answers(lambda one: one.follow(tgt, fun, *args, **kwargs)):
            found |= collected([answer], full_return=full_return)
        return found

    async def cmd_full_return(
        self, tgt: Target, fun: Fun, *args: Any, **kwargs: Any
    ) -> dict[str, dict[str, Any]]:
        """`LocalClient.cmd_full_return`."""
        answers = self.cmd_cli(tgt, fun, *args, **kwargs)
        return {minion: data async for answer in answers for minion, data in answer.items()}

    async def cmd_async(self, tgt: Target, fun: Fun, *args: Any, **kwargs: Any) -> str:
        """Send a job and return its id without waiting: `LocalClient.cmd_async`."""
        return await self._ask(lambda one: one.cmd_async(tgt, fun, *args, **kwargs))

    async def cmd_iter(
        self, tgt: Target, fun: Fun, *args: Any, **kwargs: Any
    ) -> AsyncGenerator[dict[str, dict[str, Any]], None]:
        """Yield each return as it comes: `LocalClient.cmd_iter`."""
        answers = self._answers(lambda one: one.follow(tgt, fun, *args, **kwargs))
        async with contextlib.aclosing(answers):
            async for answer in answers:
                yield full_answer(answer)

    async def cmd_cli(
        self, tgt: Target, fun: Fun, *args: Any, **kwargs: Any
    ) -> AsyncGenerator[dict[str, dict[str, Any]], None]:
        """Yield each return, then those that did not answer: `LocalClient.cmd_cli`."""
        answers = self._with_silent(lambda one: one.follow(tgt, fun, *args, **kwargs))
        async with contextlib.aclosing(answers):
            async for answer in answers:
                yield answer

    async def cmd_batch(
        self, tgt: Target, fun: Fun, arg: Sequence[Any] = (), **kwargs: Any
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Run a function on some minions at a time: `LocalClient.cmd_batch`."""
        raw = bool(kwargs.pop("raw", False))
        answers = self._answers(lambda one: one.follow_batch(tgt, fun, arg, **kwargs))
        async with contextlib.aclosing(answers):
            async for answer in answers:
                yield answer if raw else collected([answer], full_return=False)

    async def cmd_subset(
        self, tgt: Target, fun: Fun, arg: Sequence[Any] = (), **kwargs: Any
    ) -> dict[str, Any]:
        """Run a function on some of the minions: `LocalClient.cmd_subset`."""
        count = int(kwargs.pop("subset", kwargs.pop("sub", 3)))
        kind = str(kwargs.pop("tgt_type", "glob"))
        chosen = await self._ask(lambda one: one.choose(tgt, count, kind))
        return await self.cmd(chosen, fun, arg, tgt_type="list", **kwargs)

    async def run_job(self, tgt: Target, fun: Fun, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Send a job without waiting: `LocalClient.run_job`."""
        return await self._ask(lambda one: one.run_job(tgt, fun, *args, **kwargs))

    async def match(self, tgt: Target, tgt_type: str = "glob") -> list[str]:
        """Return the ids that a target means: `LocalClient.match`."""
        return await self._ask(lambda one: one.match(tgt, tgt_type))

    async def get_cache_returns(self, jid: str) -> dict[str, dict[str, Any]]:
        """Return what has come back so far: `LocalClient.get_cache_returns`."""
        return await self._ask(lambda one: one.get_cache_returns(jid))

    async def get_cli_returns(
        self, jid: str, minions: Iterable[str] = (), timeout: float | None = None
    ) -> AsyncGenerator[dict[str, dict[str, Any]], None]:
        """Yield the returns of a job that was sent: `LocalClient.get_cli_returns`."""
        answers = self._with_silent(lambda one: one.resume(jid, minions, timeout))
        async with contextlib.aclosing(answers):
            async for answer in answers:
                yield answer

    async def get_full_returns(
        self, jid: str, minions: Iterable[str] = (), timeout: float | None = None
    ) -> dict[str, dict[str, Any]]:
        """Wait for a job that was sent: `LocalClient.get_full_returns`."""
        found: dict[str, dict[str, Any]] = {}
        async for answer in self._answers(lambda one: one.resume(jid, minions, timeout)):
            found |= full_answer(answer)
        return found

    # -- how it is waited for -------------------------------------------------------------

    async def _ask(self, question: Callable[[LocalClient], T]) -> T:
        one = LocalClient(mopts=self.opts)
        return await _in_thread(lambda: question(one), one.close)

    async def _answers(
        self, begin: Callable[[LocalClient], Following], at_end: list[Following] | None = None
    ) -> AsyncGenerator[Answer, None]:
        """Yield the answers of what ``begin`` makes; the connection is closed in any case."""
        one = LocalClient(mopts=self.opts)
        turns = _Turns(one.close)
        try:
            following = await turns.run(lambda: begin(one))
            if at_end is not None:
                at_end.append(following)
            while not following.over:
                answer = await turns.run(lambda: following.step(0.0))
                if answer is not None:
                    yield answer
                elif not following.over:
                    await wait_for_input(following.fileno(), _LOOK_SECONDS)
        finally:
            await turns.end()

    async def _with_silent(
        self, begin: Callable[[LocalClient], Following]
    ) -> AsyncGenerator[dict[str, dict[str, Any]], None]:
        at_end: list[Following] = []
        answers = self._answers(begin, at_end)
        async with contextlib.aclosing(answers):
            async for answer in answers:
                yield full_answer(answer)
        for silent in silent_answers(at_end[0]):
            yield silent


class _Turns:
    """Runs short turns in threads, one after another, and closes what they use after the last.

    Args:
        close: lets go of it; run in a thread too, when no turn runs any more.
    """

    def __init__(self, close: Callable[[], None]) -> None:
        self._close = close
        self._turn: asyncio.Future[Any] | None = None

    async def run(self, turn: Callable[[], T]) -> T:
        """Run a turn. A cancelled one goes on in its thread for a moment; `end` waits for it."""
        future = asyncio.ensure_future(asyncio.to_thread(turn))
        self._turn = future
        return await asyncio.shield(future)

    async def end(self) -> None:
        """Wait for the last turn, then close; a second cancellation does not stop that."""
        await asyncio.shield(asyncio.ensure_future(self._end()))

    async def _end(self) -> None:
        if self._turn is not None:
            await asyncio.gather(self._turn, return_exceptions=True)
        await asyncio.to_thread(self._close)


async def _in_thread(work: Callable[[], T], close: Callable[[], None]) -> T:
    """Run something in a thread, and ``close`` after it in any case."""
    turns = _Turns(close)
    try:
        return await turns.run(work)
    finally:
        await turns.end()


class _AsyncMasterFunctions:
    """What AsyncRunnerClient and AsyncWheelClient share."""

    make: Callable[[Mapping[str, Any]], RunnerClient | WheelClient]

    def __init__(self, opts: Mapping[str, Any] | None = None) -> None:
        self.opts = opts if opts is not None else client_config(None)

    async def cmd(
        self,
        fun: str,
        arg: Sequence[Any] | None = None,
        pub_data: Mapping[str, Any] | None = None,
        kwarg: Mapping[str, Any] | None = None,
        full_return: bool = False,
    ) -> Any:
        """Run a function in a thread of this process and wait; arguments as in `RunnerClient.cmd`.

        A function cannot be stopped: when this is cancelled, it ends when the function has.
        """
        one = await asyncio.to_thread(type(self).make, self.opts)
        return await _in_thread(
            lambda: one.cmd(fun, arg, pub_data, kwarg, full_return=full_return), one.close
        )

    async def cmd_sync(self, low: Mapping[str, Any], full_return: bool = False) -> Any:
        """Run a function given as Salt's low data: ``{"fun", "arg", "kwarg"}``."""
        one = await asyncio.to_thread(type(self).make, self.opts)
        return await _in_thread(lambda: one.cmd_sync(low, full_return), one.close)


class AsyncRunnerClient(_AsyncMasterFunctions):
    """`bus.client.RunnerClient` for asyncio.

    Args:
        opts: the master's options; by default those found.
    """

    make = staticmethod(RunnerClient)


class AsyncWheelClient(_AsyncMasterFunctions):
    """`bus.client.WheelClient` for asyncio.

    Args:
        opts: the master's options; by default those found.
    """

    make = staticmethod(WheelClient)


class AsyncCaller:
    """`bus.client.Caller` for asyncio: execution functions in a thread of this process.

    Args:
        c_path: the minion's configuration, a file or a directory; by default the one found.
        mopts: the options themselves, instead of ``c_path``.
    """

    def __init__(
        self, c_path: str | Path | None = None, mopts: Mapping[str, Any] | None = None
    ) -> None:
        self._arguments = (c_path, mopts)
        self._caller: Caller | None = None
        self._loading = asyncio.Lock()

    async def cmd(self, fun: str, *args: Any, **kwargs: Any) -> Any:
        """Call an execution function and return what it returns: `Caller.cmd`.

        A function cannot be stopped: when this is cancelled, it ends when the function has.
        """
        async with self._loading:
            if self._caller is None:
                self._caller = await asyncio.to_thread(Caller, *self._arguments)
        caller = self._caller
        return await _in_thread(lambda: caller.cmd(fun, *args, **kwargs), lambda: None)

    async def function(self, fun: str, *args: Any, **kwargs: Any) -> Any:
        """Call an execution function: Salt's older name of `cmd`."""
        return await self.cmd(fun, *args, **kwargs)
