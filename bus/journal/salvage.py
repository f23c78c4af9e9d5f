"""Taking everything that is whole out of a damaged segment."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from bus import wire
from bus.errors import WireError
from bus.journal import segments

_NEXT = """
SELECT first_seq, count, at, producer, number, body FROM fires
WHERE first_seq >= ? ORDER BY first_seq LIMIT 1
"""

_Row = tuple[int, int, int, bytes, int, bytes]

_SKIPPED = "skipped"
"""What a salvaged segment says of the numbers that it has not: JSON pairs in its meta table."""

_FARTHEST = 1 << 40
"""How far beyond an unreadable place the next readable row is looked for."""


@dataclass(slots=True)
class Salvaged:
    """What was taken out.

    Attributes:
        events: how many.
        skipped: ranges of numbers, both ends included, that could not be read.
        put_aside: where the damaged file is now.
    """

    put_aside: Path
    events: int = 0
    skipped: list[tuple[int, int]] = field(default_factory=list)

    def __str__(self) -> str:
        ranges = ", ".join(f"{first} to {last}" for first, last in self.skipped) or "none"
        return (
            f"{self.events} events were taken out of a damaged journal file; "
            f"numbers that could not be read: {ranges}; the file is kept as {self.put_aside}"
        )


def is_damaged(path: Path) -> bool:
    """Say whether SQLite finds anything wrong with a segment."""
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=5)) as db:
            return bool(db.execute("PRAGMA quick_check(1)").fetchone() != ("ok",))
    except sqlite3.DatabaseError:
        return True


def salvage(path: Path, about: segments.Meta, upto: int | None = None) -> Salvaged:
    """Put a damaged segment aside and make a new one of all that can be read.

    The damaged one keeps its name until the new one is whole, so a kill meanwhile loses nothing:
    it is damaged as before.

    Args:
        path: the segment.
        about: what the new one says of itself where the old one cannot be asked.
        upto: the number of its last event, if that is known.
    """
    result = Salvaged(_free_name(path))
    with _opened(path) as old:
        known: segments.Meta = dict(_tolerant(old, "SELECT name, value FROM meta"))
        producers = list(_tolerant(old, "SELECT producer, number, first_seq FROM producers"))
    with segments.building(path, {**about, **known}, producers) as new:
        with _opened(path) as old:
            new.executemany(
                "INSERT INTO fires VALUES (?, ?, ?, ?, ?, ?)", _rows(old, path, result, upto)
            )
        _note_skipped(new, result.skipped)
        _keep_aside(path, result.put_aside)
    return result


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a damaged segment: without the pragma SQLite reads nothing of one that was cut short."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA writable_schema = ON")
        yield db


def _keep_aside(path: Path, aside: Path) -> None:
    """Give the damaged file and its log a second name: the new segment takes the first."""
    pairs = zip([path, *segments.helpers(path)], [aside, *segments.helpers(aside)], strict=True)
    for file, name in pairs:
        name.unlink(missing_ok=True)
        if file.exists():
            _give_name(file, name)


def _give_name(file: Path, name: Path) -> None:
    try:
        name.hardlink_to(file)
    except OSError:  # not every file system has more than one name for a file
        shutil.copy2(file, name)


def _tolerant(db: sqlite3.Connection, query: str) -> Iterator[tuple[Any, ...]]:
    with contextlib.suppress(sqlite3.DatabaseError):
        yield from db.execute(query)


def _free_name(path: Path) -> Path:
    """Return where to put a damaged file: one that was put aside before is not written over."""
    aside = path.with_suffix(".damaged")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_suffix(f".damaged-{number}")
    return aside


def _note_skipped(db: sqlite3.Connection, skipped: list[tuple[int, int]]) -> None:
    """Let the segment say what is missing in it, so that it passes for whole from now on."""
    known = _skipped_in(db)
    text = json.dumps(sorted({*known, *skipped}))
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_SKIPPED, text))


def skipped_in(db: sqlite3.Connection) -> list[tuple[int, int]]:
    """Return what could not be read when a segment was salvaged: ranges, both ends included.

    Raises:
        sqlite3.Error: it cannot be read now.
    """
    return sorted(_skipped_in(db))


def _skipped_in(db: sqlite3.Connection) -> set[tuple[int, int]]:
    row = db.execute("SELECT value FROM meta WHERE name = ?", (_SKIPPED,)).fetchone()
    return {(first, last) for first, last in json.loads(row[0])} if row else set()


def _rows(db: sqlite3.Connection, path: Path, result: Salvaged, upto: int | None) -> Iterator[_Row]:
    wanted = int(path.stem)
    while row := _next_row(db, wanted):
        for part in _whole_parts(row):
            if part[0] > wanted:
                result.skipped.append((wanted, part[0] - 1))
            result.events += part[1]
            wanted = part[0] + part[1]
            yield part
        row_end = row[0] + row[1]
        if row_end > wanted:
            result.skipped.append((wanted, row_end - 1))
            wanted = row_end
    if upto is not None and wanted <= upto:
        result.skipped.append((wanted, upto))


def _whole_parts(row: _Row) -> Iterator[_Row]:
    """Yield a fire as it is, or, if some of its events cannot be read, those between them."""
    first_seq, _, at, producer, number, body = row
    events = wire.unpack(body)
    if all(map(is_event, events)):
        yield row
        return
    for is_whole, group in groupby(enumerate(events, first_seq), lambda pair: is_event(pair[1])):
        if is_whole:
            numbered = list(group)
            kept = [event for _, event in numbered]
            yield numbered[0][0], len(kept), at, producer, number, wire.pack(kept)


def is_event(raw: object) -> bool:
    """Say whether these bytes are an event that can be read."""
    try:
        return isinstance(raw, bytes) and bool(wire.unpack_event(raw))
    except WireError:
        return False


def events_of(body: object, count: int) -> list[bytes] | None:
    """Return the events of a fire, or None if they cannot be taken apart."""
    try:
        events = wire.unpack(body) if isinstance(body, bytes) else None
    except WireError:
        return None
    return events if isinstance(events, list) and len(events) == count > 0 else None


def _next_row(db: sqlite3.Connection, wanted: int) -> _Row | None:
    """Return the first readable row from ``wanted`` on, stepping over what is not.

    Far ahead by doubling steps, then back by halving them to where it begins to be readable.
    """
    row, failed = _row_from(db, wanted)
    low, high = 0, 1
    while failed and high <= _FARTHEST:
        row, failed = _row_from(db, wanted + high)
        low, high = (high, high * 2) if failed else (low, high)
    while high - low > 1:
        middle = (low + high) // 2
        found, failed = _row_from(db, wanted + middle)
        if failed:
            low = middle
        else:
            high, row = middle, found
    return row


def _row_from(db: sqlite3.Connection, first_seq: int) -> tuple[_Row | None, bool]:
    """Return the first row from a number on, and whether it could not be read."""
    try:
        row = db.execute(_NEXT, (first_seq,)).fetchone()
    except sqlite3.DatabaseError:
        return None, True
    is_whole = row is None or events_of(row[5], row[1]) is not None
    return (row, False) if is_whole else (None, True)
