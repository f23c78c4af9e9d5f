"""The file in which traces survive a restart: written when the engine is idle, read when it starts.

It is a convenience, never needed: what it cannot read or write costs a word in the log.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

FILE_NAME = "traces.db"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS traces (rule TEXT NOT NULL, trace TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS by_rule ON traces (rule);
"""


class TraceStore:
    """The file of the traces. One process writes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None
        try:
            path.touch(mode=0o600, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None, timeout=1)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = OFF")
            self._db.executescript(_SCHEMA)
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        log.warning("traces will not survive a restart: %s: %s", self._path, error)
        self.close()

    def save(self, changes: Mapping[str, list[dict[str, Any]]]) -> None:
        """Put these traces in place of those of the same rules."""
        if self._db is None or not changes:
            return
        rows = [(key, json.dumps(trace, default=str)) for key in changes for trace in changes[key]]
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("DELETE FROM traces WHERE rule = ?", [(key,) for key in changes])
            self._db.executemany("INSERT INTO traces VALUES (?, ?)", rows)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            self._give_up(error)

    def close(self) -> None:
        """Close the file."""
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
            self._db = None


def trace_path(state_dir: str | Path) -> Path:
    """Return the file of the traces in a master's ``state_dir``."""
    return Path(state_dir) / FILE_NAME


def read_traces(state_dir: str | Path) -> list[dict[str, Any]]:
    """Return all traces of the file; none if there is no such file or it cannot be read."""
    path = trace_path(state_dir)
    if not path.is_file():
        return []
    try:
        return list(_rows(path))
    except (sqlite3.Error, ValueError) as error:
        log.warning("the traces of before are lost: %s: %s", path, error)
        return []


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with contextlib.closing(sqlite3.connect(path, timeout=1)) as db:
        for (text,) in db.execute("SELECT trace FROM traces ORDER BY rowid"):
            trace = json.loads(text)
            if isinstance(trace, dict) and isinstance(trace.get("event"), dict):
                yield trace
