"""What the engine must not forget: how far it has read, and which reactions are under way.

A group of writes is one transaction, so the cursor never passes an event whose reactions are
not written down, and a finished reaction is gone before anybody hears that it is done.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bus.errors import JournalError
from bus.journal import JournalReader, journal_path
from reactor.errors import ReactorError

FILE_NAME = "reactor.db"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS cursor (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    bus_id TEXT NOT NULL,
    seq INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS firings (
    seq INTEGER NOT NULL,
    rule TEXT NOT NULL,
    done TEXT NOT NULL,    -- JSON list of the numbers of the calls that are done
    PRIMARY KEY (seq, rule)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A reaction that was under way.

    Attributes:
        seq: the event's number.
        rule: the rule's key, see `reactor.engine.firing.rule_key`.
        done: the numbers of its calls that are done.
    """

    seq: int
    rule: str
    done: frozenset[int]


class State:
    """The engine's database. One process writes it.

    Args:
        path: the file; its directory must be there.

    Raises:
        ReactorError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.touch(mode=0o600, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None, timeout=5)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.executescript(_SCHEMA)
        except (sqlite3.Error, OSError) as error:
            raise ReactorError(
                f"cannot open the reactor's database {path}: {error}; check the directory"
            ) from error

    def cursor(self) -> tuple[str, int] | None:
        """Return the bus and the number of the last event that was read, or None."""
        row = self._db.execute("SELECT bus_id, seq FROM cursor").fetchone()
        return (str(row[0]), int(row[1])) if row else None

    def unfinished(self) -> list[Unfinished]:
        """Return the reactions that were under way, oldest first."""
        rows = self._db.execute("SELECT seq, rule, done FROM firings ORDER BY seq, rule")
        return [Unfinished(seq, rule, frozenset(json.loads(done))) for seq, rule, done in rows]

    def reset(self, bus_id: str, seq: int) -> None:
        """Begin with another journal."""
        with self._transaction():
            self._db.execute("DELETE FROM firings")
            self._db.execute("INSERT OR REPLACE INTO cursor VALUES (1, ?, ?)", (bus_id, seq))

    def save(
        self,
        *,
        bus_id: str,
        seq: int,
        begun: Iterable[tuple[int, str]] = (),
        finished: Iterable[tuple[int, str]] = (),
        progress: Mapping[tuple[int, str], Iterable[int]] | None = None,
    ) -> None:
        """Write one turn of the engine.

        Args:
            bus_id: the bus whose numbers these are.
            seq: the last event that was read.
            begun: (seq, rule key) of the reactions that begin.
            finished: the same of those that ended.
            progress: for those still under way, the numbers of the calls that are done.

        Raises:
            ReactorError: the disk did not take it; nothing was written.
        """
        with self._transaction():
            self._db.executemany("DELETE FROM firings WHERE seq = ? AND rule = ?", finished)
            self._db.executemany("INSERT OR IGNORE INTO firings VALUES (?, ?, '[]')", begun)
            self._db.executemany(
                "UPDATE firings SET done = ? WHERE seq = ? AND rule = ?",
                [(json.dumps(sorted(done)), *key) for key, done in (progress or {}).items()],
            )
            self._db.execute("INSERT OR REPLACE INTO cursor VALUES (1, ?, ?)", (bus_id, seq))

    @contextlib.contextmanager
    def _transaction(self) -> Any:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise ReactorError(
                f"the reactor's database {self.path} cannot be written: {error}"
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def state_path(state_dir: str | Path) -> Path:
    """Return the file of the engine's database in a master's ``state_dir``."""
    return Path(state_dir) / FILE_NAME


def prepare(state_dir: str | Path) -> None:
    """Note, before the bus serves for the first time, that the reactor reads from here on.

    Without this, what is fired between the first start of the bus and that of the reactor
    would count as history, which a new reactor does not react to.
    """
    path = state_path(state_dir)
    if path.exists():
        return
    bus_id, seq = "", 0
    with contextlib.suppress(JournalError), JournalReader(journal_path(state_dir)) as journal:
        bus_id, seq = journal.bus_id, journal.last_seq()
    state = State(path)
    try:
        state.reset(bus_id, seq)
    finally:
        state.close()
