"""The writing side of the journal: groups of fires in one transaction, segment after segment.

With the fires go the last numbers of their producers, so that what is acknowledged is there
after a kill, once.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bus import wire
from bus.errors import JournalError
from bus.frames import Fire
from bus.journal import segments
from bus.journal.retention import Retention, SegmentInfo
from bus.journal.salvage import is_damaged, salvage
from bus.store import Kept, Producers, judge

log = logging.getLogger(__name__)

_Row = tuple[int, int, int, bytes, int, bytes]

_INSERT = "INSERT INTO fires VALUES (?, ?, ?, ?, ?, ?)"

_SYNCHRONOUS = {"normal": "NORMAL", "always": "FULL"}


def _now() -> int:
    return time.time_ns() // 1000


class Journal:
    """Writes a journal. One process at a time.

    Args:
        path: the directory; made if it is missing, but not its parent.
        sync: ``normal`` survives the kill of any process; ``always`` also a power cut, at the
            price of a disk flush for each group.
        retention: how much is kept.
        clock: returns microseconds since 1970.

    Raises:
        JournalError: it cannot be opened, or is of a newer version.
    """

    def __init__(
        self,
        path: Path,
        *,
        sync: str = "normal",
        retention: Retention | None = None,
        clock: Callable[[], int] = _now,
    ) -> None:
        self.path = path
        self._clock = clock
        self._synchronous = _SYNCHRONOUS[sync]
        self._retention = retention or Retention()
        self._closed: list[SegmentInfo] = []
        self._closing: threading.Thread | None = None
        try:
            self._prepare()
            self._open_newest()
            self._closed = [self._info(first) for first in segments.first_seqs(path)[:-1]]
        except (sqlite3.Error, OSError) as error:
            raise JournalError(
                f"cannot open the journal {path}: {error}; "
                "check the directory, or move it away to start a new one"
            ) from error

    @property
    def file(self) -> Path:
        """The segment that is written now."""
        return segments.segment_file(self.path, self._first_seq)

    def append(self, fires: Sequence[Fire]) -> list[Kept]:
        """Journal the events of several fires in one transaction.

        Raises:
            JournalError: the disk did not take it; nothing of these fires was kept.
        """
        answers, rows, notes = self._plan(fires)
        if rows:
            self._write(rows, notes)
            if self._must_rotate(self._last_at):
                self.maintain()
        return answers

    def maintain(self) -> None:
        """Begin a new segment if it is time, and remove those that need not be kept.

        To be called every now and then; what fails here is tried again and loses nothing.
        """
        try:
            now = max(self._clock(), self._last_at)
            if self._must_rotate(now):
                self._rotate()
            self._remove_expired(now)
        except (sqlite3.Error, OSError) as error:
            log.error("the journal %s cannot be maintained: %s", self.path, error)  # noqa: TRY400 - one line says it

    def status(self) -> dict[str, int]:
        """Return the number of the oldest event, and how many events, files and bytes there are."""
        closed = self._closed
        first = closed[0].first_seq if closed else self._first_seq
        return {
            "first_seq": first,
            "events": self.last_seq - first + 1,
            "files": len(closed) + 1,
            "bytes": sum(each.size for each in closed) + _on_disk(self.file),
        }

    def close(self) -> None:
        """Close the files."""
        self._wait_for_closing()
        self._db.close()

    # -- opening --------------------------------------------------------------------------

    def _prepare(self) -> None:
        self.path.mkdir(mode=0o700, exist_ok=True)
        segments.finish(self.path)
        if not segments.first_seqs(self.path):
            meta = segments.meta(secrets.token_hex(6))
            segments.create(segments.segment_file(self.path, 1), meta, [])

    def _open_newest(self) -> None:
        self._first_seq = segments.first_seqs(self.path)[-1]
        if is_damaged(self.file):
            bus_id = segments.known_bus_id(self.path) or secrets.token_hex(6)
            log.error("%s", salvage(self.file, segments.meta(bus_id)))
        self._db = segments.open_writer(self.file, self._synchronous)
        try:
            self._read_state()
        except (sqlite3.Error, JournalError):
            self._db.close()
            raise

    def _read_state(self) -> None:
        meta = dict(self._db.execute("SELECT name, value FROM meta"))
        if meta["version"] > segments.SCHEMA_VERSION:
            raise JournalError(
                f"the journal {self.path} was written by a newer version (its schema is "
                f"{meta['version']}, this one knows {segments.SCHEMA_VERSION}): "
                "upgrade reactor-bus"
            )
        self.bus_id = str(meta["bus_id"])
        self._producers = self._read_producers()
        self.last_seq, self._last_at = self._end(self._db, self._first_seq)
        begun, size = self._db.execute("SELECT min(at), total(length(body)) FROM fires").fetchone()
        self._begun_at, self._size = int(begun or 0), int(size)

    def _read_producers(self) -> Producers:
        last: dict[bytes, tuple[int, int]] = {}
        for name, number, first_seq in self._db.execute(segments.LAST_FIRES):
            last[bytes(name)] = (number, first_seq)
        by_age = sorted(last.items(), key=lambda item: item[1][1])
        producers = Producers(dict(by_age))
        producers.forget_silent()
        return producers

    def _end(self, db: sqlite3.Connection, first_seq: int) -> tuple[int, int]:
        row = db.execute(
            "SELECT first_seq + count - 1, at FROM fires ORDER BY first_seq DESC LIMIT 1"
        ).fetchone()
        return (row[0], row[1]) if row else (first_seq - 1, 0)

    # -- writing --------------------------------------------------------------------------

    def _plan(
        self, fires: Sequence[Fire]
    ) -> tuple[list[Kept], list[_Row], dict[bytes, tuple[Fire, int]]]:
        answers: list[Kept] = []
        rows: list[_Row] = []
        notes: dict[bytes, tuple[Fire, int]] = {}
        at = max(self._clock(), self._last_at)
        seq = self.last_seq
        for fire in fires:
            noted = notes.get(fire.producer)
            known = (
                judge(fire, (noted[0].number, noted[1])) if noted else self._producers.judge(fire)
            )
            if known is None:
                known = Kept(seq + 1, fresh=True)
                count = len(fire.events)
                body = fire.body or wire.pack(fire.events)
                rows.append((seq + 1, count, at, fire.producer, fire.number, body))
                seq += count
                if fire.producer:
                    notes[fire.producer] = (fire, known.first_seq)
            answers.append(known)
        return answers, rows, notes

    def _write(self, rows: list[_Row], notes: dict[bytes, tuple[Fire, int]]) -> None:
        first_seq, count, at, *_ = rows[-1]
        try:
            if len(rows) == 1:  # a statement by itself is a transaction, and a third faster
                self._db.execute(_INSERT, rows[0])
            else:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.executemany(_INSERT, rows)
                self._db.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise JournalError(f"the journal {self.path} cannot be written: {error}") from error
        self.last_seq, self._last_at = first_seq + count - 1, at
        self._begun_at = self._begun_at or at
        self._size += sum(len(row[5]) for row in rows)
        for fire, first in notes.values():
            self._producers.note(fire, first)
        self._producers.forget_silent()

    # -- segments -------------------------------------------------------------------------

    def _must_rotate(self, now: int) -> bool:
        return self.last_seq >= self._first_seq and self._retention.must_rotate(
            self._size, self._begun_at, now
        )

    def _rotate(self) -> None:
        """Begin a new segment; the old one stays in use if that fails."""
        first_seq = self.last_seq + 1
        meta = segments.meta(self.bus_id)
        file = segments.segment_file(self.path, first_seq)
        # What is still in the log will be in the file before long: its pages are what counts.
        size = _size_of(self._db)
        segments.create(file, meta, self._producers.rows())
        try:
            db = segments.open_writer(file, self._synchronous)
        except sqlite3.Error:
            segments.remove(file)  # while it is there, it would pass for the newest
            raise
        self._closed.append(SegmentInfo(self._first_seq, size, self._last_at))
        old, self._db = self._db, db
        self._close_aside(old)
        self._first_seq, self._size, self._begun_at = first_seq, 0, 0

    def _close_aside(self, old: sqlite3.Connection) -> None:
        """Close a segment that is full in a thread: its log has to reach the disk by then.

        No other connection writes that file, so there is nothing to take turns for.
        """
        self._wait_for_closing()
        self._closing = threading.Thread(
            target=_empty_log, args=(old,), name="closing a segment", daemon=True
        )
        try:
            self._closing.start()
        except RuntimeError:  # the system has no thread for us
            self._closing = None
            _empty_log(old)

    def _wait_for_closing(self) -> None:
        if self._closing:
            self._closing.join()

    def _info(self, first_seq: int) -> SegmentInfo:
        file = segments.segment_file(self.path, first_seq)
        if segments.has_log(file):  # the bus was killed, or ended, before it was moved
            with contextlib.suppress(sqlite3.Error):
                _empty_log(segments.open_writer(file, self._synchronous))
        with contextlib.closing(segments.open_reader(file)) as db:
            try:
                newest_at = self._end(db, first_seq)[1]
            except sqlite3.DatabaseError as error:
                log.error("%s: %s; 'reactor journal check' looks closer", file, error)  # noqa: TRY400 - one line says it
                newest_at = file.stat().st_mtime_ns // 1000
        return SegmentInfo(first_seq, _on_disk(file), newest_at)

    def _remove_expired(self, now: int) -> None:
        for segment in self._retention.expired(self._closed, self._size, now):
            segments.remove(segments.segment_file(self.path, segment.first_seq))
            self._closed.remove(segment)
            log.info(
                "the events up to %d were removed: older or more than is to be kept",
                self._closed[0].first_seq - 1 if self._closed else self._first_seq - 1,
            )


def _empty_log(db: sqlite3.Connection) -> None:
    """Move a segment's log into its file, and close it.

    Closing alone does that only when nobody else has the file open, and the reactor always has.
    """
    try:
        with contextlib.suppress(sqlite3.Error):  # tried again when the bus starts
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        db.close()


def _size_of(db: sqlite3.Connection) -> int:
    """Return the bytes of a segment's file once all of its log is in it."""
    (pages,), (size,) = (
        db.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size")
    )
    return int(pages) * int(size)


def _on_disk(file: Path) -> int:
    """Return the bytes of a segment that is being written, its log included."""
    log_file = file.with_name(f"{file.name}-wal")
    return sum(path.stat().st_size for path in (file, log_file) if path.exists())
