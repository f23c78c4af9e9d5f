"""A segment: one SQLite file with the events from a number on. Deleting old ones costs nothing.

A fire is one row, however many events it carries: a row an event would cost a pipelined
publisher more than everything else that the broker does with it.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from bus.errors import JournalError

FOLDER = "journal"
SCHEMA_VERSION = 1

CHECKPOINT_PAGES = 20_000
"""Pages of 4 KiB in the log after which SQLite moves them into the file, which keeps the writer
waiting for the disk. More than a segment of the usual size that was filled in large groups has:
such a one is moved when it is closed, elsewhere."""

Meta = dict[str, str | int]

_WHOLE = ".whole"
_NAME = re.compile(r"(\d{20})\.db")

LAST_FIRES = """
SELECT producer, number, first_seq FROM producers
UNION ALL
SELECT producer, max(number), first_seq FROM fires WHERE producer != x'' GROUP BY producer
"""
"""The last fire of each producer; one that stands in both parts is newer in the second."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS fires (
    first_seq INTEGER PRIMARY KEY,
    count INTEGER NOT NULL,  -- of events; the next row begins at first_seq + count
    at INTEGER NOT NULL,     -- when they were journaled: microseconds since 1970, never falling
    producer BLOB NOT NULL,  -- who fired them, and the number of that fire
    number INTEGER NOT NULL,
    body BLOB NOT NULL       -- msgpack array of events, as the publisher sent it
);
-- Each producer's last fire before this segment. What came since stands in the fires: a row of
-- its own for each fire would double what a single event costs.
CREATE TABLE IF NOT EXISTS producers (
    producer BLOB PRIMARY KEY,
    number INTEGER NOT NULL,
    first_seq INTEGER NOT NULL
) WITHOUT ROWID;
"""


def journal_path(state_dir: str | Path) -> Path:
    """Return the journal's directory in a master's ``state_dir``."""
    return Path(state_dir) / FOLDER


def microseconds(moment: datetime) -> int:
    """Return a time as the journal keeps it."""
    return int(moment.timestamp() * 1_000_000)


def segment_file(folder: Path, first_seq: int) -> Path:
    """Return the file of the segment that begins with ``first_seq``."""
    return folder / f"{first_seq:020d}.db"


def first_seqs(folder: Path) -> list[int]:
    """Return the numbers with which the segments begin, oldest first.

    Raises:
        JournalError: there is no such directory, or it cannot be read.
    """
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError as error:
        raise JournalError(
            f"cannot read the journal {folder}: {error.strerror}; has the master run here?"
        ) from error
    return sorted(int(match[1]) for name in names if (match := _NAME.fullmatch(name)))


def open_writer(path: Path, synchronous: str) -> sqlite3.Connection:
    """Open a segment to write it; the connection may be closed in another thread."""
    db = sqlite3.connect(path, isolation_level=None, timeout=5, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {synchronous}")
        db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        db.execute("PRAGMA journal_size_limit = 67108864")
    except sqlite3.Error:
        db.close()
        raise
    return db


def open_reader(path: Path) -> sqlite3.Connection:
    """Open a segment to read it, while another process may write."""
    return sqlite3.connect(
        f"{path.resolve().as_uri()}?mode=ro",
        uri=True,
        isolation_level=None,
        timeout=5,
        check_same_thread=False,
    )


def meta(bus_id: str) -> Meta:
    """Return what a new segment says of itself."""
    return {"version": SCHEMA_VERSION, "bus_id": bus_id}


@contextlib.contextmanager
def building(
    path: Path, about: Meta, producers: Iterable[tuple[Any, ...]]
) -> Iterator[sqlite3.Connection]:
    """Make a segment, whole or not at all: it gets its name when everything is in it.

    It has its log mode (WAL) before it has its name. A segment that changed its mode in place
    would be unreadable to readers, which may not write, if the bus were killed meanwhile.
    """
    unfinished = path.with_suffix(".new")
    remove(unfinished)
    unfinished.touch(mode=0o600)
    with contextlib.closing(sqlite3.connect(unfinished)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        with db:
            db.executescript(SCHEMA)
            db.executemany("INSERT INTO meta VALUES (?, ?)", about.items())
            db.executemany("INSERT INTO producers VALUES (?, ?, ?)", producers)
            yield db
    if path.exists():
        # From here on it is finished, whatever is killed: see `finish`.
        unfinished = unfinished.rename(path.with_suffix(_WHOLE))
        remove_helpers(path)
    unfinished.rename(path)


def finish(folder: Path) -> None:
    """Put segments in their place that were whole when a kill came, in place of damaged ones."""
    for whole in folder.glob(f"*{_WHOLE}"):
        path = whole.with_suffix(".db")
        remove_helpers(path)
        whole.rename(path)


def create(path: Path, about: Meta, producers: Iterable[tuple[Any, ...]]) -> None:
    """Make a segment without events."""
    with building(path, about, producers):
        pass


def helpers(path: Path) -> list[Path]:
    """Return the files that SQLite may keep beside a segment."""
    return [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal")]


def known_bus_id(folder: Path) -> str | None:
    """Return the name of the numbering, as the newest file that can be read has it."""
    for first in reversed(first_seqs(folder)):
        with (
            contextlib.suppress(sqlite3.Error),
            contextlib.closing(open_reader(segment_file(folder, first))) as db,
        ):
            row = db.execute("SELECT value FROM meta WHERE name = 'bus_id'").fetchone()
            if row:
                return str(row[0])
    return None


def has_log(path: Path) -> bool:
    """Say whether some of a segment is still in SQLite's log beside it."""
    try:
        return path.with_name(f"{path.name}-wal").stat().st_size > 0
    except OSError:
        return False


def remove_helpers(path: Path) -> None:
    """Delete what SQLite keeps beside a segment."""
    for each in helpers(path):
        each.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Delete a segment and what SQLite keeps beside it."""
    path.unlink(missing_ok=True)
    remove_helpers(path)
