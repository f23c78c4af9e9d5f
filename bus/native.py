"""The native interface: ``connect``, ``fire``, and ``listen`` from any point of the journal."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from bus import durations, endpoints, rpc, wire
from bus.bookmark import Asks, Bookmark
from bus.config import master_config, minion_config
from bus.errors import BusError, DataError, WireError
from bus.feed import Feed, Gap, JournalFeed, LiveFeed, Numbered, OnGap
from bus.journal import JournalReader, journal_path, microseconds
from bus.listener import Listener, open_listener
from bus.publisher import Publisher
from bus.record import Event
from bus.tags import Matcher, literal_prefix, matcher

log = logging.getLogger(__name__)

Since = int | float | str | datetime | None
"""Where to begin: after a sequence number (int), at a time (datetime, seconds since 1970 as a
float, or ISO 8601 text), an age (``"1h"``), or with what comes next (None)."""

_POLL = 0.5

_FIRING = {
    "master": (endpoints.master_pull, endpoints.master_direct),
    "minion": (endpoints.minion_pull, endpoints.minion_direct),
}


def connect(
    node: str = "master",
    opts: Mapping[str, Any] | None = None,
    *,
    timeout: float = 1.0,
) -> Connection:
    """Connect to the bus of ``node``.

    Args:
        node: ``"master"`` or ``"minion"``.
        opts: the configuration; by default the one that is found.
        timeout: seconds to wait for the bus.

    Raises:
        NotRunningError: no bus answers.
        DataError: ``node`` is neither.
    """
    return Connection(node, opts, timeout=timeout)


def aconnect(
    node: str = "master",
    opts: Mapping[str, Any] | None = None,
    *,
    timeout: float = 1.0,
) -> AsyncConnection:
    """`connect` for asyncio: use it in ``async with``."""
    return AsyncConnection(node, opts, timeout=timeout)


class Connection:
    """A bus that events are fired at and listened to. One object a thread."""

    def __init__(
        self, node: str, opts: Mapping[str, Any] | None = None, *, timeout: float = 1.0
    ) -> None:
        if node not in ("master", "minion"):
            raise DataError(f"the node of an event bus is 'master' or 'minion', not {node!r}")
        default = master_config if node == "master" else minion_config
        self.node = node
        self.opts = opts if opts is not None else default(None)
        self.timeout = timeout
        limit = int(self.opts.get("max_event_size", wire.DEFAULT_MAX_EVENT_SIZE))
        self._packer = wire.EventPacker(time.time_ns, limit)
        self._publisher: Publisher | None = None
        self._listenings: weakref.WeakSet[Listening] = weakref.WeakSet()
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._check_running()

    def _check_running(self) -> None:
        listener = open_listener(self._fires, None)
        try:
            listener.wait_ready(self.timeout)
        finally:
            listener.close()

    @property
    def _fires(self) -> str:
        choose = endpoints.master_fires if self.node == "master" else endpoints.minion_fires
        return choose(self.opts)

    def _firing(self) -> Publisher:
        if self._pid != os.getpid():
            if self._publisher:
                self._publisher.leave()
            self._publisher, self._lock = None, threading.Lock()
        if self._publisher is None:
            pull, direct = _FIRING[self.node]
            self._publisher = Publisher(pull(self.opts), direct=direct(self.opts))
            self._pid = os.getpid()
        return self._publisher

    def fire(self, tag: str, data: Mapping[str, Any], timeout: float | None = None) -> int:
        """Fire an event and return its sequence number once it is in the journal.

        Args:
            tag: the event's tag.
            data: a dict; it is not changed.
            timeout: seconds.

        Raises:
            NotRunningError: the bus did not answer in time.
            ValueError: the event cannot go onto a bus.
        """
        publisher = self._firing()
        with self._lock:
            event = self._packer.pack(tag, data)
            return publisher.fire([event], self.timeout if timeout is None else timeout)

    def fire_events(
        self, events: Iterable[tuple[str, Mapping[str, Any]]], timeout: float = 10.0
    ) -> int:
        """Fire many ``(tag, data)`` pairs, pipelined; return how many are in the journal.

        Raises:
            ValueError: one of them cannot go onto a bus.
        """
        pack = self._packer.pack
        packed = (pack(tag, data) for tag, data in events)
        publisher = self._firing()
        with self._lock:
            return publisher.fire_all(packed, timeout)

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
    ) -> Listening:
        """Iterate over events from now on, or from ``since`` or a cursor on with nothing missed.

        A cursor is a place in the journal that the master keeps under a name. An event is done
        when the next one is asked for, or when `Listening.commit` says so; what was not done
        when a program ended comes again (at least once).

        Args:
            tag: a glob (or what ``match_type`` says).
            since: see `Since`; it needs the journal, which only a master's bus has.
            match_type: one of `bus.tags.MATCH_TYPES`.
            timeout: end after this many seconds without an event that matches.
            cursor: a name to go on from; ``since`` then says where a new cursor begins.
            auto_commit: asking for the next event says that the one before is done.
            exact: without ``since``, hear all tags and choose here, so that what a slow reader
                lost is known by its numbers; else only a listener to everything knows it.
            on_gap: told of each loss, ``on_gap(first, last)``, both numbers included, before the
                event after it; it may commit and close. It implies ``exact``.

        Raises:
            NotRunningError: no bus answers.
            DataError: ``since`` cannot be read, or this bus has no journal.
        """
        listening = Listening(
            self,
            tag,
            since,
            match_type,
            timeout,
            cursor=cursor,
            auto_commit=auto_commit,
            exact=exact,
            on_gap=on_gap,
        )
        self._listenings.add(listening)
        return listening

    def now(self) -> float:
        """Return what an age in ``since`` counts from, in seconds since 1970."""
        return time.time()

    def open_calls(self) -> Asks:
        """Return a connection over which the bus can be asked things."""
        choose = endpoints.master_pull if self.node == "master" else endpoints.minion_pull
        return rpc.open_connection(choose(self.opts))

    def open_listener(self, prefix: str) -> Listener:
        """Return a listener to what begins with ``prefix``, in force."""
        return open_listener(self._fires, prefix)

    def open_journal(self) -> JournalReader | None:
        """Return a reader of the master's journal, or None on a minion's bus."""
        if self.node != "master":
            return None
        return JournalReader(journal_path(self.opts["state_dir"]))

    def close(self) -> None:
        """Close all that this connection opened."""
        for listening in list(self._listenings):
            listening.close()
        self._listenings.clear()
        if self._publisher is not None and self._pid == os.getpid():
            with self._lock:
                self._publisher.close()
        self._publisher = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Listening:
    """An iterator over the events that match.

    With ``since`` it hears everything the bus publishes, so that a gap in the numbers is exact,
    and reads from the journal what came before and what it lost. Without, the bus sends only what
    has the glob's literal prefix, unless the listener wants to know the numbers of its gaps.
    """

    _feed: Feed | None = None
    _bookmark: Bookmark | None = None

    def __init__(
        self,
        connection: Connection,
        tag: str,
        since: Since,
        match_type: str,
        timeout: float | None,
        *,
        cursor: str | None = None,
        auto_commit: bool = True,
        exact: bool = False,
        on_gap: OnGap | None = None,
    ) -> None:
        self._matches: Matcher = matcher(tag, match_type)
        self._timeout = timeout
        self._connection = connection
        self._is_complete = since is not None or cursor is not None
        self._on_gap = on_gap
        self._auto_commit = auto_commit
        exact = self._is_complete or exact or on_gap is not None
        self._prefix = "" if exact else _prefix(tag, match_type)
        if cursor is not None:
            self._bookmark = Bookmark(connection.open_calls(), cursor)
        self._batch: deque[Numbered] = deque()
        self._has_given = False
        untold: list[Gap] = []
        self._untold = untold
        # Not a method: a listening that nobody holds is closed at once, not when Python finds it.
        self._note_gap = (lambda *gap: untold.append(gap)) if on_gap else None
        # Guards the sockets from being closed under a thread that waits on them.
        self._turn = threading.Lock()
        self._pid = os.getpid()
        try:
            self._feed = self._open(since)
        except BusError:
            if self._bookmark:
                self._bookmark.close()
            raise

    def _open(self, since: Since) -> Feed:
        return self._open_complete(since) if self._is_complete else self._open_live()

    def _open_live(self) -> Feed:
        return LiveFeed(
            self._connection.open_listener(self._prefix),
            self._timeout_to_open,
            hears_all=not self._prefix,
            on_gap=self._note_gap,
        )

    def _open_complete(self, since: Since) -> Feed:
        journal = self._connection.open_journal()
        if journal is None:
            raise DataError(
                "since= and cursor= need a journal, and a minion's bus has none: leave them out"
            )
        try:
            after = self._begin(since, journal)
        except BusError:
            journal.close()
            raise
        listener = self._connection.open_listener(self._prefix)
        feed = JournalFeed(listener, journal, self._timeout_to_open, on_gap=self._note_gap)
        feed.start_after(after)
        return feed

    def _begin(self, since: Since, journal: JournalReader) -> int:
        """Return the number after which to begin; a new cursor is kept at once."""
        if self._bookmark is None:
            return resolve_since(since, journal, self._connection.now())
        known = self._bookmark.find(journal.bus_id)
        if known is not None:
            return known
        if since is None:
            after = journal.last_seq()
        else:
            after = resolve_since(since, journal, self._connection.now())
        self._bookmark.done(journal.bus_id, after)
        self._bookmark.save()
        return after

    @property
    def _timeout_to_open(self) -> float:
        return self._connection.timeout

    @property
    def lost(self) -> int:
        """How many events could not be had again."""
        return self._feed.lost if self._feed else 0

    @property
    def gaps(self) -> list[Gap]:
        """The first and last numbers of what was lost, at most the newest 1,000 ranges.

        Known of listeners with ``since``, ``cursor`` or ``exact``, and of those to everything;
        others know `lost` only, since the numbers in between belong to other tags too.
        """
        return list(self._feed.gaps) if self._feed else []

    @property
    def closed(self) -> bool:
        """Whether nothing more will come."""
        return self._feed is None

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        event = self.next(self._timeout)
        if event is None:
            raise StopIteration
        return event

    def next(self, timeout: float | None = None) -> Event | None:
        """Return the next event that matches, or None after ``timeout`` seconds.

        The time-out counts once everything that was there at the call has been looked at. After
        `close` there is no event.
        """
        if self._pid != os.getpid():
            self._reopen()
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._turn:
                if self._feed is None:
                    return None
                if self._bookmark:
                    self._note_done(self._feed, self._bookmark)
                event = self._next_ready(self._feed.bus_id) or self._wait(self._feed, deadline)
            if not self._untold:
                return event
            self._tell_gaps()
            if event:
                return event

    def _tell_gaps(self) -> None:
        """Tell of losses, before the event after them, and free to do whatever one likes then."""
        assert self._on_gap is not None
        while self._untold:
            self._on_gap(*self._untold.pop(0))

    def commit(self, seq: int | None = None) -> int:
        """Save that events are done; return the number of the last.

        Args:
            seq: the last one that is done; by default all that were given out so far.

        Raises:
            DataError: this listener has no cursor.
            NotRunningError: no bus answers.
        """
        if self._bookmark is None:
            raise DataError("there is nothing to commit to: listen with cursor='a-name'")
        with self._turn:
            if self._feed is None:
                raise DataError(f"the listener of cursor {self._bookmark.name!r} is closed")
            place = self._place(self._feed) if seq is None else seq
            self._bookmark.done(self._feed.bus_id, place)
            self._bookmark.save()
            return place

    def _place(self, feed: Feed) -> int:
        """Return the number up to which everything was given out or passed over."""
        return self._batch[0][0] - 1 if self._batch else feed.after

    def _note_done(self, feed: Feed, bookmark: Bookmark) -> None:
        if self._auto_commit:
            bookmark.done(feed.bus_id, self._place(feed))

    def _wait(self, feed: Feed, deadline: float | None) -> Event | None:
        """Return the next event; None at the deadline, or when there is a loss to tell of."""
        known, has_looked = feed.upto, False
        # To look in vain costs much of what it takes to hear an event: who has nothing to save
        # while nothing is there waits first, and that ends at once if something is.
        may_wait = self._bookmark is None
        while True:
            left = _POLL if deadline is None else deadline - time.monotonic()
            # What the journal still holds is there too; of a live feed it is what was read.
            if left <= 0 and has_looked and (not self._is_complete or feed.after >= known):
                return None
            if may_wait and left > 0 and not feed.behind:
                self._save_while_idle()
                feed.wait(min(left, _POLL))
            self._batch = feed.take(drain=left <= 0)
            has_looked = True
            event = self._next_ready(feed.bus_id)
            if event or self._untold:
                return event
            may_wait = not self._batch

    def _save_while_idle(self) -> None:
        """Save that the event given out last is done. What was merely passed over can wait."""
        if self._bookmark and self._auto_commit and self._has_given:
            self._has_given = False
            self._bookmark.try_to_save()

    def _next_ready(self, bus_id: str) -> Event | None:
        while self._batch:
            seq, raw = self._batch.popleft()
            tag, body = wire.parts_of(raw)
            if not self._matches(tag):
                continue
            try:
                event = Event.from_parts(tag, body, seq, bus_id)
            except WireError as error:
                log.warning("the event %d cannot be read: %s", seq, error)
            else:
                self._has_given = True
                return event
        return None

    def _reopen(self) -> None:
        """In a forked child: leave the parent's socket alone and go on from the same place."""
        inherited, self._turn, self._pid = self._feed, threading.Lock(), os.getpid()
        if inherited is None:
            return
        self._feed = None
        place = self._place(inherited)
        self._batch.clear()
        self._feed = self._open(place if self._is_complete else None)

    def close(self) -> None:
        """Stop listening."""
        if self._pid != os.getpid():
            self._feed = None
            return
        with self._turn:
            if self._feed:
                self._feed.close()
                self._close_bookmark()
            self._feed = None

    def _close_bookmark(self) -> None:
        if self._bookmark:
            if self._auto_commit:
                self._bookmark.try_to_save()
            self._bookmark.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if self._feed:
            self.close()


def _prefix(tag: str, match_type: str) -> str:
    if match_type == "fnmatch":
        return literal_prefix(tag)
    return tag if match_type == "startswith" else ""


def resolve_since(since: Since, journal: JournalReader, now: float | None = None) -> int:
    """Return the sequence number after which ``since`` begins.

    Args:
        since: see `Since`.
        journal: where a time is looked up.
        now: what an age counts from, in seconds since 1970; by default this moment.

    Raises:
        DataError: ``since`` cannot be read.
    """
    if isinstance(since, bool) or since is None:
        raise DataError(f"since={since!r}: give a sequence number, a time, or an age such as '1h'")
    if isinstance(since, int):
        return max(0, since)
    if isinstance(since, str) and since.isdecimal():
        return int(since)
    return journal.seq_before(_moment(since, time.time() if now is None else now))


def _moment(since: float | str | datetime, now: float) -> int:
    """Return a point in time in microseconds since 1970."""
    try:
        if isinstance(since, datetime):
            return microseconds(since)
        if isinstance(since, float):
            return int(since * 1_000_000)
        with contextlib.suppress(ValueError):
            return microseconds(datetime.fromisoformat(since))
        return int((now - durations.seconds(since)) * 1_000_000)
    except (ValueError, OverflowError) as error:
        raise DataError(
            f"since={since!r}: give a sequence number, a time such as 2026-11-22T09:30, "
            "or an age such as '1h'"
        ) from error


class AsyncConnection:
    """`Connection` for asyncio; each wait runs in a thread, so the loop never blocks."""

    def __init__(
        self, node: str, opts: Mapping[str, Any] | None = None, *, timeout: float = 1.0
    ) -> None:
        self._arguments = (node, opts)
        self._timeout = timeout
        self._connection: Connection | None = None
        self._turn = asyncio.Lock()

    @property
    def connection(self) -> Connection:
        """The connection underneath."""
        if self._connection is None:
            raise BusError("not connected: use 'async with bus.aconnect(...) as events'")
        return self._connection

    async def __aenter__(self) -> Self:
        node, opts = self._arguments
        self._connection = await asyncio.to_thread(
            lambda: Connection(node, opts, timeout=self._timeout)
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        async with self._turn:
            await asyncio.to_thread(self.connection.close)

    async def fire(self, tag: str, data: Mapping[str, Any], timeout: float | None = None) -> int:
        """`Connection.fire`."""
        async with self._turn:
            return await asyncio.to_thread(self.connection.fire, tag, data, timeout)

    async def fire_events(
        self, events: Iterable[tuple[str, Mapping[str, Any]]], timeout: float = 10.0
    ) -> int:
        """`Connection.fire_events`."""
        async with self._turn:
            return await asyncio.to_thread(self.connection.fire_events, events, timeout)

    async def listen(
        self,
        tag: str = "*",
        since: Since = None,
        *,
        match_type: str = "fnmatch",
        timeout: float | None = None,
        cursor: str | None = None,
        exact: bool = False,
        on_gap: OnGap | None = None,
    ) -> AsyncIterator[Event]:
        """`Connection.listen`, to be used in ``async for``; ``on_gap`` is called in a thread."""
        listening = await asyncio.to_thread(
            lambda: self.connection.listen(
                tag, since, match_type=match_type, cursor=cursor, exact=exact, on_gap=on_gap
            )
        )
        try:
            left = timeout
            while not listening.closed and (left is None or left > 0):
                step = _POLL if left is None else min(left, _POLL)
                event = await asyncio.to_thread(listening.next, step)
                if event:
                    left = timeout
                    yield event
                elif left is not None:
                    left -= step
        finally:
            # A cancelled wait goes on in its thread for a moment: close waits for it, elsewhere.
            await asyncio.to_thread(listening.close)
