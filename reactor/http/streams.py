"""Streams of events: who is connected, what each gets next, and what ends them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from bus.errors import BusError
from reactor.http import jsonout
from reactor.http.batches import Row
from reactor.http.errors import TooManyError
from reactor.http.filters import Filter
from reactor.http.hub import Hub

log = logging.getLogger(__name__)

GAP_TAG = "reactor/http/gap"
"""The tag of what tells a client which events it did not get; it is on no bus."""

STALL_SECONDS = 60.0
"""Seconds without progress after which a client that takes nothing is disconnected: TCP's own
time-outs take many minutes."""

_TICK = 0.5
"""Seconds between two looks at tokens and heartbeats."""


def sse(row: Row) -> str:
    """Return an event in Salt's form of a server-sent event, and its number as ``id``."""
    return f"tag: {row.tag}\ndata: {row.json}\nid: {row.seq}\n\n"


def websocket(row: Row) -> str:
    """Return an event in Salt's form of a message of a WebSocket."""
    return f"data: {row.json}\n\n"


def websocket_numbered(row: Row) -> str:
    """Return the same with the event's number, for a client that may come back."""
    return f'data: {row.json[:-1]}, "seq": {row.seq}}}\n\n'


@dataclass(slots=True, eq=False)
class Stream:
    """One client that gets events.

    Attributes:
        wanted: which events.
        after: the number of the last event that it got or passed over.
        limit: how many events are left to send; None for any number.
        is_complete: it asked for a place to begin: it gets everything behind it, however far
            behind it is.
        is_valid: says whether its token still holds.
        lost: events that it was told it will not get.
        epoch: which numbering ``after`` belongs to.
        sent_at: when it last took something, of a clock that never runs backwards.
        is_sending: there is something that it has not taken yet.
    """

    wanted: Filter
    after: int
    limit: int | None
    is_complete: bool
    is_valid: Callable[[], bool]
    lost: int = 0
    epoch: int = 0
    sent_at: float = 0.0
    is_sending: bool = False
    task: asyncio.Task[None] | None = None

    def sent(self) -> None:
        """Note that the client has taken something."""
        self.sent_at = time.monotonic()

    def is_stalled(self, now: float) -> bool:
        """Say whether the client has taken nothing for too long."""
        return self.is_sending and now - self.sent_at > STALL_SECONDS


class Streams:
    """All streams of this process.

    Args:
        hub: brings the events.
        most: how many streams at the same time.
        lag: events that a live stream may be behind.
        heartbeat: seconds of silence before a sign of life.
    """

    def __init__(
        self,
        hub: Hub,
        *,
        most: int,
        lag: int,
        heartbeat: float,
    ) -> None:
        self.hub = hub
        self._most = most
        self._lag = lag
        self._heartbeat = heartbeat
        self._streams: set[Stream] = set()
        self._ticker: asyncio.Task[None] | None = None
        self.is_closing = False
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._streams)

    async def open(self, stream: Stream) -> None:
        """Take a stream in; its place is that of the newest event unless it asked for one.

        Raises:
            TooManyError: there are too many.
            NotRunningError: no bus answers.
        """
        self._refuse_if_full()
        newest = await self.hub.join()
        try:
            self._refuse_if_full()  # others may have come meanwhile
        except TooManyError:
            self.hub.leave()
            raise
        stream.epoch = self.hub.epoch
        if not stream.is_complete:
            stream.after = newest
        self._streams.add(stream)
        if self._ticker is None:
            self._ticker = asyncio.create_task(self._tick())

    def _refuse_if_full(self) -> None:
        if len(self._streams) >= self._most:
            raise TooManyError(
                f"there are {self._most} event streams: raise http_max_streams", retry_after=5
            )

    def release(self, stream: Stream) -> None:
        """Let a stream go that was opened."""
        if stream in self._streams:
            self._streams.remove(stream)
            self.hub.leave()

    async def run(self, stream: Stream, work: Callable[[], Awaitable[None]]) -> None:
        """Run a stream's work until it ends by itself or is to end."""
        stream.task = asyncio.ensure_future(self._guarded(work))
        try:
            await stream.task
        except asyncio.CancelledError:
            # Ended by us, or the server ends the request: then this task is cancelled too.
            if not stream.task.cancelled():
                stream.task.cancel()
                raise
        finally:
            self.release(stream)

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except OSError as error:
            log.info("an event stream ended: %s", error)

    def end_all(self) -> None:
        """End every stream: the server stops."""
        self.is_closing = True
        for stream in list(self._streams):
            if stream.task:
                stream.task.cancel()
        if self._ticker:
            self._ticker.cancel()

    async def _tick(self) -> None:
        while not self.is_closing:
            await asyncio.sleep(_TICK)
            self._end_lost()
            self.hub.wake()

    def _end_lost(self) -> None:
        """End the streams whose tokens have ended, and those whose clients take nothing."""
        now = time.monotonic()
        for stream in list(self._streams):
            if stream.task is None:
                continue
            if stream.is_stalled(now):
                log.info("an event stream ended: the client took nothing")
                stream.task.cancel()
            elif not stream.is_valid():
                stream.task.cancel()

    # -- what comes next ------------------------------------------------------------------------

    async def chunks(
        self, stream: Stream, encode: Callable[[Row], str]
    ) -> AsyncIterator[bytes | None]:
        """Yield what a stream gets, whole events; None for a sign of life."""
        stream.sent()
        while stream.limit is None or stream.limit > 0:
            chunk = await self._next(stream, encode) or None
            if chunk or time.monotonic() - stream.sent_at >= self._heartbeat:
                stream.sent()
                stream.is_sending = True
                yield chunk
                stream.is_sending = False

    async def _next(self, stream: Stream, encode: Callable[[Row], str]) -> bytes:
        hub = self.hub
        if not hub.is_reading:
            await self._reconnect()
        if stream.epoch != hub.epoch:
            self._renumber(stream)
        told = self._skip_if_slow(stream, encode)
        if told:
            return told
        try:
            batch = await hub.after(stream.after)
        except BusError as error:
            log.warning("a stream waits for the journal: %s", error)
            await hub.wait()
            return b""
        if batch is None:
            await hub.wait()
            return b""
        gap = self._gap(stream, batch.before, batch.last, [row.seq for row in batch.rows[:1]])
        stream.after = batch.last
        told = encode(gap).encode() if gap else b""
        if stream.limit is None:
            return told + batch.chunk(stream.wanted, encode)
        rows = [row for row in batch.rows if stream.wanted(row.tag)][: stream.limit]
        stream.limit -= len(rows)
        return told + "".join(map(encode, rows)).encode()

    def _gap(self, stream: Stream, before: int, last: int, first: list[int]) -> Row | None:
        """Say what is missing at the beginning of a batch: the journal has it no more."""
        begin = first[0] if first else last + 1
        if begin <= before + 1:
            return None
        return self._lose(stream, before + 1, begin - 1)

    def _lose(self, stream: Stream, first: int, last: int) -> Row:
        count = last - first + 1
        stream.lost += count
        self.dropped += count
        data = {"first": first, "last": last, "lost": count}
        return Row(last, GAP_TAG, jsonout.dumps({"tag": GAP_TAG, "data": data}))

    def _skip_if_slow(self, stream: Stream, encode: Callable[[Row], str]) -> bytes:
        behind = self.hub.last - stream.after
        if stream.is_complete or behind <= self._lag:
            return b""
        gap = self._lose(stream, stream.after + 1, self.hub.last)
        stream.after = self.hub.last
        return encode(gap).encode()

    async def _reconnect(self) -> None:
        """Have the bus read again; who waits for it meanwhile waits for the next tick."""
        try:
            await self.hub.join()
        except BusError:
            await self.hub.wait()
        else:
            self.hub.leave()

    def _renumber(self, stream: Stream) -> None:
        """The bus is another one, or was connected to anew: go on where that makes sense."""
        stream.epoch = self.hub.epoch
        if stream.after > self.hub.last:
            stream.after = 0
