"""The native interface for asyncio: ``aconnect``, and what it gives.

Only short turns run in threads. What takes time is waited for in the loop, so any number of
listeners can wait without a thread of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from bus.ainput import wait_for_input
from bus.errors import BusError
from bus.feed import Gap, OnGap
from bus.listening import Listening
from bus.native import Connection
from bus.record import Event
from bus.since import Since

T = TypeVar("T")

_POLL = 0.5
"""Seconds between two looks of a waiting listener: a bus that went away may be back."""


Begin = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
"""Runs the opening of a listener in a task, which whoever fires afterwards waits for."""


class Run(Protocol):
    """Runs a turn that may take a moment."""

    async def __call__(self, turn: Callable[[], T], /) -> T:
        """Return what ``turn`` returns."""
        ...


def aconnect(
    node: str = "master",
    opts: Mapping[str, Any] | None = None,
    *,
    timeout: float = 1.0,
) -> AsyncConnection:
    """`bus.connect` for asyncio: use it in ``async with``."""
    return AsyncConnection(node, opts, timeout=timeout)


class AsyncConnection:
    """`bus.Connection` for asyncio, to be used in ``async with``."""

    def __init__(
        self, node: str, opts: Mapping[str, Any] | None = None, *, timeout: float = 1.0
    ) -> None:
        self._arguments = (node, opts)
        self._timeout = timeout
        self._connection: Connection | None = None
        self._turn = asyncio.Lock()
        self._openings: set[asyncio.Task[None]] = set()

    def _connect(self) -> Connection:
        return Connection(*self._arguments, timeout=self._timeout)

    async def _run(self, turn: Callable[[], T]) -> T:
        """Run a turn elsewhere, so that the loop never blocks."""
        return await asyncio.to_thread(turn)

    @property
    def connection(self) -> Connection:
        """The connection underneath."""
        if self._connection is None:
            raise BusError("not connected: use 'async with bus.aconnect(...) as events'")
        return self._connection

    async def __aenter__(self) -> Self:
        self._connection = await self._run(self._connect)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        async with self._turn:
            try:
                await self._all_listen()  # so that what opens is closed too
            finally:
                await self._run(self.connection.close)

    async def fire(self, tag: str, data: Mapping[str, Any], timeout: float | None = None) -> int:
        """`Connection.fire`; what `listen` was called for before hears it."""
        async with self._turn:
            await self._all_listen()
            return await self._run(lambda: self.connection.fire(tag, data, timeout))

    async def fire_events(
        self, events: Iterable[tuple[str, Mapping[str, Any]]], timeout: float | None = 10.0
    ) -> int:
        """`Connection.fire_events`; what `listen` was called for before hears them."""
        async with self._turn:
            await self._all_listen()
            return await self._run(lambda: self.connection.fire_events(events, timeout))

    def listen(
        self,
        tag: str = "*",
        since: Since = None,
        *,
        match_type: str = "fnmatch",
        timeout: float | None = None,
        cursor: str | None = None,
        auto_commit: bool = True,
        exact: bool = False,
        on_gap: OnGap | None = None,
    ) -> AsyncListening:
        """`Connection.listen`, for ``async for``; ``on_gap`` is called in a thread.

        It begins to listen at the call: it hears all that this connection fires after that. To
        wait until it listens, for what others fire, enter it with ``async with``. What keeps it
        from listening is raised where it is used next. (Called while no loop runs, it begins at
        its first use.)
        """
        connection = self.connection
        return AsyncListening(
            lambda: connection.listen(
                tag,
                since,
                match_type=match_type,
                cursor=cursor,
                auto_commit=auto_commit,
                exact=exact,
                on_gap=on_gap,
            ),
            timeout,
            self._run,
            self._begin,
        )

    def _begin(self, opening: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(opening)
        self._openings.add(task)
        task.add_done_callback(self._openings.discard)
        task.add_done_callback(_look_at_error)
        return task

    async def _all_listen(self) -> None:
        """Wait until the listeners that are opening are open, or cannot be."""
        while self._openings:
            await asyncio.wait(self._openings)


def _look_at_error(task: asyncio.Task[None]) -> None:
    """Let asyncio say nothing of an error: it is for who uses the listener, if anybody does."""
    if not task.cancelled():
        task.exception()


class AsyncListening:
    """`Listening` for asyncio: an asynchronous iterator over the events that match.

    It begins to listen when `AsyncConnection.listen` returns it. For one task at a time. A
    cancelled wait loses no event: who asks next gets it.
    """

    def __init__(
        self, listen: Callable[[], Listening], timeout: float | None, run: Run, begin: Begin
    ) -> None:
        self._listen = listen
        self._timeout = timeout
        self._run = run
        self._listening: Listening | None = None
        self._taking: asyncio.Future[Event | None] | None = None
        self._closed = False
        self._begin = begin
        self._opening: asyncio.Task[None] | None = None
        with contextlib.suppress(RuntimeError):  # no loop runs
            asyncio.get_running_loop()
            self._opening = begin(self._open())

    @property
    def lost(self) -> int:
        """How many events could not be had again."""
        return self._listening.lost if self._listening else 0

    @property
    def gaps(self) -> list[Gap]:
        """`Listening.gaps`."""
        return self._listening.gaps if self._listening else []

    @property
    def closed(self) -> bool:
        """Whether nothing more will come."""
        return self._closed or (self._listening is not None and self._listening.closed)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        event = await self.next(self._timeout)
        if event is None:
            raise StopAsyncIteration
        return event

    async def next(self, timeout: float | None = None) -> Event | None:
        """Return the next event that matches, or None after ``timeout`` seconds or `aclose`.

        Raises:
            NotRunningError: it could not begin to listen, since no bus answers; who asks again
                tries again.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.closed:
            event = await self._take()
            if event is not None:
                return event
            left = _POLL if deadline is None else deadline - time.monotonic()
            if left <= 0 or self._listening is None or not self._listening.may_wait:
                break
            source = self._listening.source
            if source is not None:
                await wait_for_input(source, min(left, _POLL))
        return None

    async def commit(self, seq: int | None = None) -> int:
        """`Listening.commit`."""
        listening = await self._opened()
        return await self._run(lambda: listening.commit(seq))

    async def aclose(self) -> None:
        """Stop listening."""
        self._closed = True
        if self._opening is not None:
            await asyncio.wait([self._opening])
        if self._taking is not None:
            await asyncio.wait([self._taking])
        if self._listening is not None:
            await self._run(self._listening.close)

    async def __aenter__(self) -> Self:
        await self._opened()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()

    async def _opened(self) -> Listening:
        while self._listening is None:
            if self._opening is None:
                self._opening = self._begin(self._open())
            try:
                await asyncio.shield(self._opening)
            except asyncio.CancelledError:
                raise
            except BaseException:
                self._opening = None  # whatever kept it from opening, the next use tries again
                raise
        return self._listening

    async def _open(self) -> None:
        self._listening = await self._run(self._listen)

    async def _take(self) -> Event | None:
        """Look for an event; what a cancelled look finds is for the next one."""
        if self._taking is None:
            event = self._listening.next_read() if self._listening else None
            if event is not None:
                return event
            self._taking = asyncio.ensure_future(self._look())
        try:
            event = await asyncio.shield(self._taking)
        except asyncio.CancelledError:
            raise
        except BaseException:
            # Whatever ended this look, the next one is not to be told of it again.
            self._taking = None
            raise
        self._taking = None
        return event

    async def _look(self) -> Event | None:
        listening = await self._opened()
        return await self._run(lambda: listening.next(0))
