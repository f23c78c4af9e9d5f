"""The reading side of the journal, for any process of the same user while the broker writes."""

from __future__ import annotations

import bisect
import sqlite3
from collections import OrderedDict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from bus import wire
from bus.errors import JournalError, WireError
from bus.journal import segments

_HOLDING = """
SELECT first_seq, count, at FROM fires WHERE first_seq <= ? ORDER BY first_seq DESC LIMIT 1
"""
_FIRST = "SELECT first_seq, count, at FROM fires ORDER BY first_seq LIMIT 1"
_BODIES = """
SELECT first_seq, body FROM fires WHERE first_seq >= ? AND first_seq <= ? ORDER BY first_seq
"""

_BEYOND = (1 << 63) - 1
_MAX_OPEN = 4
"""Segments kept open: a reader is in one, or on the way to the next."""

_Row = tuple[int, int, int]
_Events = list[tuple[int, bytes]]


class JournalReader:
    """Reads a journal. For one thread at a time.

    Args:
        path: the journal's directory, see `bus.journal.journal_path`.

    Raises:
        JournalError: there is no journal yet, or it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open: OrderedDict[int, sqlite3.Connection] = OrderedDict()
        self._firsts: list[int] = []
        self._closed = False
        self._refresh()
        if not self._firsts:
            raise JournalError(f"there is no journal in {path} yet: has the master run here?")
        try:
            row = self._query(self._firsts[-1], "SELECT value FROM meta WHERE name = 'bus_id'", ())
        except JournalError:
            self.close()
            raise
        self.bus_id = str(row[0][0]) if row else ""

    def read(self, after: int, limit: int = 1000, upto: int | None = None) -> _Events:
        """Return at most ``limit`` events as (seq, wire) with ``after`` < seq <= ``upto``.

        What retention has taken away is passed over.
        """
        last = _BEYOND if upto is None else upto
        first = self._segment_of(after + 1)
        while first is not None and first <= last:
            found = self._events(first, after, min(last, max(after, first - 1) + limit))
            if found:
                return found
            first = self._segment_after(first)
        return []

    def scan(self, after: int = 0, upto: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Yield all events as (seq, wire), a page at a time so that no reader blocks the writer."""
        while rows := self.read(after, 1000, upto):
            yield from rows
            after = rows[-1][0]

    def last_seq(self) -> int:
        """Return the number of the newest event, or 0."""
        self._refresh()
        newest = self._firsts[-1]
        row = self._row(newest, _HOLDING, (_BEYOND,))
        return row[0] + row[1] - 1 if row else newest - 1

    def first_seq(self) -> int:
        """Return the number of the oldest event that is kept, or of the next one if none is."""
        self._refresh()
        row = self._row(self._firsts[0], _FIRST, ())
        return row[0] if row else self._firsts[0]

    def seq_before(self, at: int) -> int:
        """Return the number of the last event journaled before ``at`` (microseconds), or 0."""
        self._refresh()
        place = bisect.bisect_left(self._firsts, at, key=self._begun_at) - 1
        if place < 0:
            return 0 if self._firsts[0] == 1 else self._firsts[0] - 1
        return self._seq_before_in(self._firsts[place], at)

    def journaled_at(self, seq: int) -> datetime | None:
        """Return when an event was journaled, or None if it is not there."""
        fire = self.fire_of(seq)
        return datetime.fromtimestamp(fire[2] / 1_000_000, UTC) if fire else None

    def fire_of(self, seq: int) -> tuple[int, int, int] | None:
        """Return first number, count of events and time (microseconds) of an event's fire."""
        first = self._segment_of(seq)
        row = None if first is None else self._row(first, _HOLDING, (seq,))
        return row if row and seq < row[0] + row[1] else None

    def close(self) -> None:
        """Close what is open."""
        self._closed = True
        while self._open:
            self._open.popitem()[1].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    # -- segments -------------------------------------------------------------------------

    def _refresh(self) -> None:
        self._firsts = segments.first_seqs(self.path) or self._firsts

    def _segment_of(self, seq: int) -> int | None:
        """Return the segment that has ``seq``, or the oldest one if that is gone."""
        if not self._firsts or seq >= self._firsts[-1] or seq < self._firsts[0]:
            self._refresh()
        place = bisect.bisect_right(self._firsts, seq) - 1
        return self._firsts[max(place, 0)] if self._firsts else None

    def _segment_after(self, first: int) -> int | None:
        self._refresh()
        place = bisect.bisect_right(self._firsts, first)
        return self._firsts[place] if place < len(self._firsts) else None

    def _begun_at(self, first: int) -> int:
        """Return when a segment's first event was journaled; of an empty one, never yet."""
        row = self._row(first, _FIRST, ())
        return row[2] if row else _BEYOND

    def _seq_before_in(self, first: int, at: int) -> int:
        end = self._row(first, _HOLDING, (_BEYOND,))
        low, high = first, end[0] if end else first - 1
        before = first - 1
        while low <= high:
            row = self._row(first, _HOLDING, ((low + high) // 2,))
            if row is None:
                break
            if row[2] < at:
                before = row[0] + row[1] - 1
                low = before + 1
            else:
                high = row[0] - 1
        return before

    def _events(self, first: int, after: int, last: int) -> _Events:
        holding = self._row(first, _HOLDING, (after + 1,))
        start = holding[0] if holding else after + 1
        rows = self._query(first, _BODIES, (start, last))
        return [
            (seq, event)
            for first_seq, body in rows
            for seq, event in enumerate(self._unpacked(first, first_seq, body), first_seq)
            if after < seq <= last
        ]

    def _unpacked(self, first: int, first_seq: int, body: bytes) -> list[bytes]:
        try:
            events: list[bytes] = wire.unpack(body)
        except WireError as error:
            file = segments.segment_file(self.path, first)
            raise JournalError(
                f"cannot read the journal {file}: the events from {first_seq} on are damaged; "
                "stop the bus and run 'reactor journal check --repair'"
            ) from error
        return events

    def _row(self, first: int, query: str, params: tuple[int, ...]) -> _Row | None:
        rows = self._query(first, query, params)
        return rows[0] if rows else None

    def _query(self, first: int, query: str, params: tuple[int, ...]) -> list[Any]:
        if self._closed:
            raise JournalError(f"cannot read the journal {self.path}: it was closed here")
        try:
            return self._connection(first).execute(query, params).fetchall()
        except sqlite3.Error as error:
            file = segments.segment_file(self.path, first)
            if not file.exists():
                return []  # retention took it away between two looks
            raise JournalError(
                f"cannot read the journal {file}: {error}; 'reactor journal check' looks closer"
            ) from error

    def _connection(self, first: int) -> sqlite3.Connection:
        db = self._open.get(first)
        if db is None:
            db = self._open[first] = segments.open_reader(segments.segment_file(self.path, first))
            while len(self._open) > _MAX_OPEN:
                self._open.popitem(last=False)[1].close()
        return db
