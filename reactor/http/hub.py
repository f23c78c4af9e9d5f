"""The events of the bus, read once for all streams: a ring of recent ones, and the journal behind.

A thread reads the bus and encodes each event once. A stream has no queue of its own, only the
number of its last event: whoever is slow reads what the ring has lost from the journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import zmq

from bus import endpoints
from bus.errors import BusError
from bus.feed import Feed, JournalFeed, Numbered
from bus.journal import JournalReader, journal_path
from bus.listener import open_listener
from bus.since import Since, resolve_since
from bus.stopping import Stop
from reactor.http.batches import BATCH_BYTES, Batch, Row, batches_of, rows_of
from reactor.http.filters import Filter
from reactor.http.pages import Pages

log = logging.getLogger(__name__)

RING_BYTES = 2 << 20
"""Bytes of encoded events that are kept for all streams together: who is further behind reads the
journal, which the system has in memory too."""

PAGE = 500
"""Events that are read at once."""

_MOST_PAGES = 16
"""Batches from the journal that are kept for others who are as far behind."""

_AHEAD = 8
"""Batches that wait for the loop before the thread reads on."""

_LOOK_MS = 200
_LINGER = 5.0
"""Seconds that the thread goes on after the last stream has ended: a browser comes back soon."""

_READERS = 2


class Hub:
    """Reads the bus while there are streams. It belongs to the loop that made it.

    Args:
        opts: the master's options.
        ring_bytes: how much is kept in memory.
    """

    def __init__(self, opts: Mapping[str, Any], ring_bytes: int = RING_BYTES) -> None:
        self._opts = opts
        self._loop = asyncio.get_running_loop()
        self._ring: deque[Batch] = deque()
        self._ring_bytes = ring_bytes
        self._size = 0
        self._waiters: list[asyncio.Future[None]] = []
        self._lock = asyncio.Lock()
        self._thread: _Reading | None = None
        self._users = 0
        self._linger: asyncio.TimerHandle | None = None
        self._pool = ThreadPoolExecutor(_READERS, "journal")
        self._readers = threading.local()
        self._pages = Pages(self._read_page, lambda page: page.size >= BATCH_BYTES, _MOST_PAGES)
        self.last = 0
        self.epoch = 0

    # -- streams come and go ------------------------------------------------------------------

    async def join(self) -> int:
        """Have the bus read; return the number of the newest event.

        Raises:
            NotRunningError: no bus answers.
        """
        self._users += 1
        if self._linger:
            self._linger.cancel()
            self._linger = None
        try:
            async with self._lock:
                if self._thread is None:
                    await self._start()
        except BaseException:  # a cancelled request too is no user of it any more
            self.leave()
            raise
        return self.last

    def leave(self) -> None:
        """Say that a stream has ended."""
        self._users -= 1
        if not self._users and self._thread:
            self._linger = self._loop.call_later(_LINGER, self._stop)

    async def _start(self) -> None:
        opened: asyncio.Future[int] = self._loop.create_future()
        thread = _Reading(self._opts, self._loop, opened, self._take, self._gone)
        self._ring.clear()
        self._pages.clear()
        self._size = 0
        thread.start()
        try:
            self.last = await opened
        except BaseException:  # nor does a cancelled one leave a thread behind
            thread.stop()
            raise
        self.epoch += 1
        self._thread = thread

    def _stop(self) -> None:
        if self._thread:
            self._thread.stop()
            self._thread = None
        self._ring.clear()
        self._pages.clear()
        self._size = 0

    def close(self) -> None:
        """End the thread and all who wait."""
        thread = self._thread
        self._stop()
        if thread:
            thread.join(1.0)
        self.wake()
        self._pool.shutdown(wait=False, cancel_futures=True)

    # -- what the thread brings -----------------------------------------------------------------

    def _take(self, thread: _Reading, batch: Batch, is_new_bus: bool) -> None:
        if thread is not self._thread:
            return
        if is_new_bus:
            self._ring.clear()
            self._pages.clear()
            self._size = self.last = 0
            self.epoch += 1
        self._ring.append(batch)
        self._size += batch.size
        self.last = batch.last
        while self._size > self._ring_bytes and len(self._ring) > 1:
            self._size -= self._ring.popleft().size
        self.wake()

    def _gone(self, thread: _Reading) -> None:
        """The thread fell over: the next stream, or the next look, starts another."""
        if thread is self._thread:
            self._stop()
            self.wake()

    def wake(self) -> None:
        """Wake all streams: there is something new, or time has passed."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    @property
    def is_reading(self) -> bool:
        """Whether the bus is read."""
        return self._thread is not None

    async def wait(self) -> None:
        """Wait until something is new, or `wake` is called."""
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter

    # -- what streams ask -----------------------------------------------------------------------

    async def after(self, seq: int) -> Batch | None:
        """Return the next events behind ``seq``; None if there are none yet.

        Raises:
            JournalError: the journal cannot be read.
        """
        if seq >= self.last:
            return None
        if self._ring and self._ring[0].before <= seq:
            return self._from_ring(seq)
        return await self._pages.get(seq)

    def _from_ring(self, seq: int) -> Batch:
        for batch in reversed(self._ring):
            if batch.before <= seq:
                return batch.since(seq)
        raise AssertionError("the ring begins before seq")  # pragma: no cover

    async def _read_page(self, seq: int) -> Batch:
        return await self._loop.run_in_executor(self._pool, self._from_journal, seq, self.last)

    def _from_journal(self, seq: int, upto: int) -> Batch:
        page = self._reader().read(seq, PAGE, upto)
        return next(batches_of(seq, page), Batch(seq, upto, []))

    def _reader(self) -> JournalReader:
        """Return this thread's reader of the journal that the bus writes now."""
        kept: tuple[int, JournalReader] | None = getattr(self._readers, "kept", None)
        if kept is None or kept[0] != self.epoch:
            if kept:
                kept[1].close()
            kept = self.epoch, JournalReader(journal_path(self._opts["state_dir"]))
            self._readers.kept = kept
        return kept[1]

    async def place(self, since: Since, now: float) -> int:
        """Return the number after which ``since`` begins.

        Raises:
            DataError: it cannot be read.
        """
        return await self._loop.run_in_executor(
            self._pool, lambda: resolve_since(since, self._reader(), now)
        )

    async def find(self, seq: int) -> Row | None:
        """Return one event of the journal."""
        page = await self._loop.run_in_executor(
            self._pool, lambda: self._reader().read(seq - 1, 1, seq)
        )
        return next(iter(rows_of(page)), None)

    async def recent(self, wanted: Filter, limit: int, before: int | None = None) -> list[Row]:
        """Return the newest events that are wanted, at most ``limit``, the oldest first."""
        return await self._loop.run_in_executor(self._pool, self._recent, wanted, limit, before)

    def _recent(self, wanted: Filter, limit: int, before: int | None) -> list[Row]:
        reader = self._reader()
        upto = reader.last_seq() if before is None else before - 1
        found: list[Row] = []
        looked = 0
        while upto > 0 and len(found) < limit and looked < _MOST_LOOKED:
            start = max(0, upto - PAGE)
            rows = [row for row in rows_of(reader.read(start, PAGE, upto)) if wanted(row.tag)]
            found = rows[-(limit - len(found)) :] + found
            looked += upto - start
            upto = start
        return found


_MOST_LOOKED = 50_000
"""Events that a question about recent ones looks through."""


class _Reading(threading.Thread):
    """The thread that reads the bus and encodes."""

    def __init__(
        self,
        opts: Mapping[str, Any],
        loop: asyncio.AbstractEventLoop,
        opened: asyncio.Future[int],
        take: Callable[[_Reading, Batch, bool], None],
        gone: Callable[[_Reading], None],
    ) -> None:
        super().__init__(name="events", daemon=True)
        self._opts = opts
        self._loop = loop
        self._opened = opened
        self._on_batch = take
        self._on_end = gone
        self._stop_asked = Stop()
        self._room = threading.Semaphore(_AHEAD)

    def stop(self) -> None:
        """Ask it to end."""
        self._stop_asked.set()
        self._room.release()

    def run(self) -> None:
        """Read until `stop`."""
        try:
            with contextlib.closing(self._open()) as feed:
                self._post(self._say_open, feed.after, None)
                self._read(feed)
        except BusError as error:
            log.warning("reading the bus for streams ended: %s", error)
            self._post(self._say_open, 0, error)
            self._post(self._on_end, self)
        except Exception:  # the boundary of a thread: streams are told, and start another
            log.exception("reading the bus for streams failed")
            self._post(self._on_end, self)
        finally:
            self._stop_asked.close()

    def _open(self) -> Feed:
        journal = JournalReader(journal_path(self._opts["state_dir"]))
        return JournalFeed(open_listener(endpoints.master_fires(self._opts)), journal, timeout=2.0)

    def _say_open(self, after: int, error: BusError | None) -> None:
        if self._opened.done():
            return
        if error:
            self._opened.set_exception(error)
        else:
            self._opened.set_result(after)

    def _read(self, feed: Feed) -> None:
        poller = zmq.Poller()
        poller.register(feed.socket, zmq.POLLIN)
        poller.register(self._stop_asked.fileno(), zmq.POLLIN)
        while not self._stop_asked.is_set():
            before, bus_id = feed.after, feed.bus_id
            taken = feed.take(PAGE)
            is_new = feed.bus_id != bus_id
            if taken or feed.after != before or is_new:
                self._hand_over(0 if is_new else before, feed.after, taken, is_new)
            elif not feed.behind:
                poller.poll(_LOOK_MS)

    def _hand_over(self, before: int, after: int, taken: Iterable[Numbered], is_new: bool) -> None:
        for batch in batches_of(before, taken):
            self._room.acquire()
            self._post(self._deliver, batch, is_new)
            before, is_new = batch.last, False
        if before < after or is_new:  # what cannot be had again, at the end
            self._room.acquire()
            self._post(self._deliver, Batch(before, after, []), is_new)

    def _deliver(self, batch: Batch, is_new: bool) -> None:
        self._room.release()
        self._on_batch(self, batch, is_new)

    def _post(self, call: Callable[..., None], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:  # the loop has ended meanwhile
            self._stop_asked.set()
