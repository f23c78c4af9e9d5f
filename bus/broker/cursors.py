"""Named positions in the journal, kept by the bus for listeners that go on where they were."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bus.errors import DataError, JournalError
from bus.rpc import Methods

log = logging.getLogger(__name__)

MAX_CURSORS = 10_000
MAX_NAME = 200
"""Characters of a name; it stands in tables and on command lines."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS cursors (
    name TEXT PRIMARY KEY,
    bus_id TEXT NOT NULL,  -- which numbering `seq` belongs to
    seq INTEGER NOT NULL,  -- the last event that is done
    at INTEGER NOT NULL    -- when it was moved: microseconds since 1970
) WITHOUT ROWID
"""
_ALL = "SELECT name, bus_id, seq, at FROM cursors"
_SYNCHRONOUS = {"normal": "NORMAL", "always": "FULL"}

_Row = tuple[str, str, int, int]


def cursors_path(state_dir: str | Path) -> Path:
    """Return the file of the cursors in a master's ``state_dir``."""
    return Path(state_dir) / "cursors.db"


def _now() -> int:
    return time.time_ns() // 1000


class Cursors:
    """The cursors of one bus, in a small database that only this process writes.

    Args:
        path: the file; made if it is missing. ``:memory:`` keeps nothing on disk.
        sync: as the journal's: what a position survives.
        clock: returns microseconds since 1970.

    Raises:
        JournalError: it cannot be opened.
    """

    def __init__(
        self, path: Path | str, *, sync: str = "normal", clock: Callable[[], int] = _now
    ) -> None:
        self._path = path
        self._clock = clock
        try:
            self._db = _open(path, _SYNCHRONOUS[sync])
        except (sqlite3.Error, OSError) as error:
            raise JournalError(
                f"cannot open the cursors {path}: {error}; check the directory"
            ) from error

    def methods(self) -> Methods:
        """Return what clients may call, by name."""
        return {
            "cursors.get": lambda params: self.get(_name(params)),
            "cursors.set": self._set,
            "cursors.list": lambda _: self.all(),
            "cursors.delete": lambda params: self.delete(_name(params)),
        }

    def get(self, name: str) -> dict[str, Any] | None:
        """Return ``bus_id``, ``seq`` and ``at`` of a cursor, or None."""
        rows = self._query(f"{_ALL} WHERE name = ?", name)
        return _shown(rows[0]) if rows else None

    def all(self) -> dict[str, dict[str, Any]]:
        """Return all cursors by name."""
        return {row[0]: _shown(row) for row in self._query(f"{_ALL} ORDER BY name")}

    def set(self, name: str, bus_id: str, seq: int, *, only_forward: bool = False) -> int:
        """Put a cursor somewhere, and return where it is then.

        Args:
            name: the cursor; made if it is missing.
            bus_id: which numbering ``seq`` belongs to.
            seq: the last event that is done.
            only_forward: leave it where it is if it is farther in the same numbering.

        Raises:
            DataError: there are `MAX_CURSORS` already.
            JournalError: the disk did not take it.
        """
        known = self.get(name)
        if known is None and self._query("SELECT count(*) FROM cursors")[0][0] >= MAX_CURSORS:
            raise DataError(
                f"there are {MAX_CURSORS} cursors already: "
                "delete some with 'reactor journal cursors --delete NAME'"
            )
        if only_forward and known and known["bus_id"] == bus_id and known["seq"] >= seq:
            return int(known["seq"])
        self._query(
            "INSERT OR REPLACE INTO cursors VALUES (?, ?, ?, ?)", name, bus_id, seq, self._clock()
        )
        return seq

    def delete(self, name: str) -> bool:
        """Forget a cursor; return whether there was one."""
        return bool(self._query("DELETE FROM cursors WHERE name = ? RETURNING name", name))

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _set(self, params: dict[str, Any]) -> int:
        bus_id, seq = params.get("bus_id"), params.get("seq")
        if not isinstance(bus_id, str) or type(seq) is not int or not 0 <= seq < 1 << 63:
            raise DataError("a cursor's place is a bus_id and a sequence number")
        only_forward = bool(params.get("only_forward"))
        return self.set(_name(params), bus_id, seq, only_forward=only_forward)

    def _query(self, sql: str, *params: Any) -> list[Any]:
        try:
            return self._db.execute(sql, params).fetchall()
        except sqlite3.Error as error:
            raise JournalError(f"the cursors {self._path} cannot be used: {error}") from error


def _name(params: dict[str, Any]) -> str:
    name = params.get("name")
    if isinstance(name, str) and 0 < len(name) <= MAX_NAME and name.isprintable():
        return name
    raise DataError(f"a cursor's name is printable text of 1 to {MAX_NAME} characters")


def _shown(row: _Row) -> dict[str, Any]:
    return {"bus_id": row[1], "seq": row[2], "at": row[3]}


def _open(path: Path | str, synchronous: str) -> sqlite3.Connection:
    rescued = _put_aside_if_damaged(path) if isinstance(path, Path) else []
    if isinstance(path, Path):
        path.touch(mode=0o600)
    db = sqlite3.connect(path, isolation_level=None, timeout=5)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {synchronous}")
        db.execute(_SCHEMA)
        db.executemany("INSERT OR REPLACE INTO cursors VALUES (?, ?, ?, ?)", rescued)
    except sqlite3.Error:
        db.close()
        raise
    return db


def _put_aside_if_damaged(path: Path) -> list[_Row]:
    """Move a damaged file out of the way and return the cursors that can be read in it."""
    if not path.exists():
        return []
    with contextlib.closing(sqlite3.connect(path, timeout=5)) as db:
        try:
            if db.execute("PRAGMA quick_check(1)").fetchone() == ("ok",):
                return []
        except sqlite3.DatabaseError as error:
            log.debug("%s: %s", path, error)
        rows: list[_Row] = []
        with contextlib.suppress(sqlite3.DatabaseError):
            rows.extend(db.execute(_ALL))
    aside = path.with_suffix(".damaged")
    for end in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + end).rename(aside.with_name(aside.name + end))
    log.error("%s is damaged: %d cursors were read, it is kept as %s", path, len(rows), aside)
    return rows
