"""Listening to a bus, from now on or from any point of its journal, with nothing missed."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Protocol, Self

from bus import timeouts, wire
from bus.bookmark import Asks, Bookmark
from bus.direct.framing import MAX_HEAD_BYTES
from bus.errors import BusError, DataError, WireError
from bus.feed import Feed, Gap, JournalFeed, LiveFeed, Numbered, OnGap
from bus.journal import JournalReader
from bus.listener import Listener
from bus.record import Event
from bus.since import Since, resolve_since
from bus.sockets import Socket
from bus.tags import Matcher, literal_prefix, matcher

log = logging.getLogger(__name__)

_POLL = 0.5


class Source(Protocol):
    """What a listening is opened with: a connection to a bus.

    Attributes:
        timeout: seconds to wait for the bus.
    """

    timeout: float

    def now(self) -> float:
        """Return what an age in ``since`` counts from, in seconds since 1970."""
        ...

    def open_calls(self) -> Asks:
        """Return a connection over which the bus can be asked things."""
        ...

    def open_listener(self, prefix: str) -> Listener:
        """Return a listener to what begins with ``prefix``, in force."""
        ...

    def open_journal(self) -> JournalReader | None:
        """Return a reader of the journal, or None if there is none."""
        ...


class Listening:
    """An iterator over the events that match.

    With ``since`` it hears everything the bus publishes, so that a gap in the numbers is exact,
    and reads from the journal what came before and what it lost. Without, the bus sends only what
    has the glob's literal prefix, unless the listener wants to know the numbers of its gaps.
    """

    may_wait = True
    """Whether an event may come while one waits."""

    _feed: Feed | None = None
    _bookmark: Bookmark | None = None

    def __init__(
        self,
        connection: Source,
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
        self._timeout = timeouts.seconds(timeout, "timeout")
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
        try:
            feed.start_after(min(after, self._end_of(feed, after)))
        except BusError:
            feed.close()
            raise
        return feed

    def _end_of(self, feed: Feed, after: int) -> int:
        """Return the last event's number; say so if it comes before where this is to begin.

        A number from another journal, or one that a power cut took the end of, would keep this
        listener from what the journal counts until it is as far.
        """
        last = feed.upto
        if after > last:
            log.warning("there is no event %d yet: going on after the last one, %d", after, last)
            if self._bookmark:
                self._bookmark.put_back(feed.bus_id, last)
        return last

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

    @property
    def source(self) -> Socket | int | None:
        """What has input when there may be another event; None if there may be one already."""
        feed = self._feed
        return None if feed is None or feed.behind or self._batch else feed.socket

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
        seconds = None if timeout is None else timeouts.seconds(timeout, "timeout")
        deadline = None if seconds is None else time.monotonic() + seconds
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

    def next_read(self) -> Event | None:
        """Return the next event that matches of those that were read already; it asks nobody.

        With a cursor there is none: the bus may have to be told what is done.
        """
        if self._bookmark or self._untold or self._pid != os.getpid():
            return None
        with self._turn:
            return self._next_ready(self._feed.bus_id) if self._feed else None

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
            DataError: this listener has no cursor, or has not given that event out yet.
            NotRunningError: no bus answers.
        """
        if self._bookmark is None:
            raise DataError("there is nothing to commit to: listen with cursor='a-name'")
        with self._turn:
            if self._feed is None:
                raise DataError(f"the listener of cursor {self._bookmark.name!r} is closed")
            place = self._place(self._feed)
            if seq is not None:
                place = _checked_place(seq, place)
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
                self._save_while_idle()
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

    def follow_fork(self) -> None:
        """In a forked child: begin to listen now, if what is fired there would be missed else.

        An error is for who asks for an event: `next` tries again.
        """
        if self._pid != os.getpid() and not self._is_complete:
            with contextlib.suppress(BusError):
                self._reopen()

    def _reopen(self) -> None:
        """In a forked child: leave the parent's socket alone and go on from the same place."""
        self._turn = threading.Lock()
        if self._feed is not None:
            place = self._place(self._feed)
            self._feed = self._open(place if self._is_complete else None)
            self._batch.clear()
        self._pid = os.getpid()  # only now: what failed is tried again

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

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __del__(self) -> None:
        if self._feed:
            self.close()


_MAX_PREFIX = MAX_HEAD_BYTES // 4
"""Letters of a prefix that are sure to fit; the rest of the tag is compared here."""


def _prefix(tag: str, match_type: str) -> str:
    if match_type == "fnmatch":
        return literal_prefix(tag)[:_MAX_PREFIX]
    return tag[:_MAX_PREFIX] if match_type == "startswith" else ""


def _checked_place(seq: int, place: int) -> int:
    if type(seq) is not int or not 0 <= seq <= place:
        raise DataError(
            f"{seq!r} cannot be committed: give the number of an event that was given out, "
            f"at most {place}"
        )
    return seq
