"""The spool: what a minion keeps on disk for its master while it cannot be reached."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from bus.errors import JournalError
from bus.link.outbox import Key, Sealed

log = logging.getLogger(__name__)

REFUSE = "refuse"
DROP_OLDEST = "drop_oldest"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS batches (
    run INTEGER NOT NULL,
    number INTEGER NOT NULL,
    lineage BLOB NOT NULL,
    items INTEGER NOT NULL,
    frame BLOB NOT NULL,
    PRIMARY KEY (run, number)
) WITHOUT ROWID
"""
_DROPPED = "CREATE TABLE IF NOT EXISTS dropped (events INTEGER NOT NULL)"
"""One row: events that made room for newer ones, and that the master was not told of yet."""

_OLDEST = """
SELECT run, number, items, length(frame) FROM batches
WHERE (run, number) > (?, ?) ORDER BY run, number
"""
_AFTER = """
SELECT run, number, lineage, items, frame FROM batches
WHERE (run, number) > (?, ?) ORDER BY run, number LIMIT ?
"""


_Row = tuple[int, int, bytes, int, bytes]
"""Run, number, lineage, how many items, frame."""


class DiskSpool:
    """Batches in a small SQLite file, which is not made before something has to be kept.

    Args:
        path: the file; readable by its owner only.
        max_size: the limit of the batches together, in bytes.
        policy: what is done beyond it, `REFUSE` or `DROP_OLDEST`.

    Attributes:
        size: the bytes kept.
        events: how many events they are.
        dropped: how many events made room for newer ones since this object was made.
        unreported: the same since the master was last told, over restarts.

    Raises:
        JournalError: there is a file, and it cannot be opened.
    """

    def __init__(self, path: str | Path, max_size: int, policy: str = REFUSE) -> None:
        self._path = Path(path)
        self._max_size = max_size
        self._drops = policy == DROP_OLDEST
        self._database: sqlite3.Connection | None = None
        self.size = self.events = 0
        self.dropped = self.unreported = 0
        self.run = 1
        if self._path.exists():
            self._open_or_replace()

    def _open_or_replace(self) -> None:
        """Open the file; one that is damaged is kept under another name, and said aloud."""
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            aside = self._path.with_name(f"{self._path.name}.damaged-{time.time_ns()}")
            log.warning("the spool is damaged (%s): kept as %s, begun anew", error, aside)
            self.close()
            self._path.rename(aside)
            for suffix in ("-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    def _open(self) -> sqlite3.Connection:
        if self._database is not None:
            return self._database
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        database = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        self._database = database
        database.execute("PRAGMA journal_mode=WAL")
        # The sender was told that it is safe, so it has to outlive a power cut too.
        database.execute("PRAGMA synchronous=FULL")
        database.execute(_SCHEMA)
        database.execute(_DROPPED)
        self.size, self.events, run = database.execute(
            "SELECT coalesce(sum(length(frame)), 0), coalesce(sum(items), 0), "
            "coalesce(max(run), 0) FROM batches"
        ).fetchone()
        (self.unreported,) = database.execute(
            "SELECT coalesce(sum(events), 0) FROM dropped"
        ).fetchone()
        self.run = max(self.run, run + 1)
        return database

    def _failed(self, what: str, error: Exception) -> JournalError:
        return JournalError(f"the spool {self._path} cannot be {what}: {error}")

    def append(self, batches: Sequence[Sealed], spare: Key = (0, 0)) -> int:
        """Keep batches, as many from the first as there is room for; return how many.

        Args:
            batches: in order, newer than all that is kept.
            spare: batches up to this one are on the way to the master, and no room is to be
                made by dropping them.

        Raises:
            JournalError: the file cannot be written.
        """
        rows = []
        size = 0 if self._drops else self.size
        for batch in batches:
            size = len(batch.frame) if self._drops else size + len(batch.frame)
            if size > self._max_size:
                break
            rows.append((*batch.key, batch.lineage, batch.count, batch.frame))
        if rows:
            self._insert(rows, spare)
        return len(rows)

    def _insert(self, rows: list[_Row], spare: Key) -> None:
        size, events = sum(len(row[4]) for row in rows), sum(row[3] for row in rows)
        try:
            database = self._open()
            excess = self.size + size - self._max_size
            with _transaction(database):
                database.executemany("INSERT OR REPLACE INTO batches VALUES (?,?,?,?,?)", rows)
                freed, dropped = _drop_oldest(database, excess, spare)
        except (sqlite3.Error, OSError) as error:
            raise self._failed("written", error) from error
        self.size += size - freed
        self.events += events - dropped
        self.dropped += dropped
        self.unreported += dropped

    def reported(self, events: int) -> None:
        """The master has been told of so many dropped events.

        Raises:
            JournalError: the file cannot be written.
        """
        try:
            database = self._open()
            with _transaction(database):
                database.execute("INSERT INTO dropped VALUES (?)", (-events,))
                _sum_up(database)
        except (sqlite3.Error, OSError) as error:
            raise self._failed("written", error) from error
        self.unreported -= events

    def after(self, key: Key, limit: int) -> list[Sealed]:
        """Return the oldest batches that come after ``key``.

        Raises:
            JournalError: the file cannot be read.
        """
        if self._database is None or not self.size:
            return []
        try:
            rows = self._database.execute(_AFTER, (*key, limit)).fetchall()
        except sqlite3.Error as error:
            raise self._failed("read", error) from error
        return [
            Sealed((run, number), lineage, frame, items)
            for run, number, lineage, items, frame in rows
        ]

    def remove(self, keys: Iterable[Key]) -> None:
        """Forget batches.

        Raises:
            JournalError: the file cannot be written.
        """
        if self._database is None:
            return
        try:
            with _transaction(self._database) as database:
                for key in keys:
                    size, events = _delete(database, key)
                    self.size -= size
                    self.events -= events
        except sqlite3.Error as error:
            raise self._failed("written", error) from error

    def close(self) -> None:
        """Let go of the file."""
        if self._database is not None:
            self._database.close()
            self._database = None


def _delete(database: sqlite3.Connection, key: Key) -> tuple[int, int]:
    """Delete a batch and return its size and how many events it had."""
    row = database.execute(
        "DELETE FROM batches WHERE run = ? AND number = ? RETURNING length(frame), items", key
    ).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


def _drop_oldest(database: sqlite3.Connection, excess: int, spare: Key) -> tuple[int, int]:
    """Delete the oldest batches after ``spare`` until ``excess`` bytes are freed.

    Returns:
        The bytes that were freed, and how many events went.
    """
    if excess <= 0:
        return 0, 0
    gone: list[Key] = []
    freed = events = 0
    for run, number, items, size in database.execute(_OLDEST, spare):
        gone.append((run, number))
        freed += size
        events += items
        if freed >= excess:
            break
    for key in gone:
        _delete(database, key)
    database.execute("INSERT INTO dropped VALUES (?)", (events,))
    _sum_up(database)
    return freed, events


def _sum_up(database: sqlite3.Connection) -> None:
    (events,) = database.execute("SELECT sum(events) FROM dropped").fetchone()
    database.execute("DELETE FROM dropped")
    database.execute("INSERT INTO dropped VALUES (?)", (events,))


@contextlib.contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield database
    except BaseException:  # whatever it was: what is half done must not be kept
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")
