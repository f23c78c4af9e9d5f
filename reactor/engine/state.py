"""What the engine must not forget: how far it has read, and which reactions are under way.

A group of writes is one transaction, so the cursor never passes an event whose reactions are
not written down, and a finished reaction is gone before anybody hears that it is done.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bus import wire
from bus.errors import JournalError
from bus.journal import JournalReader, journal_path
from reactor.engine.transactions import transaction
from reactor.errors import DeposedError, ReactorError
from reactor.rules.memory import HOLDS_EVENTS, Row
from reactor.rules.switches import Switch

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
CREATE TABLE IF NOT EXISTS cells (  -- what policies remember, see reactor.rules.memory
    rule TEXT NOT NULL,
    policy TEXT NOT NULL,
    key TEXT NOT NULL,
    cell BLOB NOT NULL,             -- msgpack
    written INTEGER NOT NULL,       -- counts up: cells are read in the order of their writing
    PRIMARY KEY (rule, policy, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS leader (  -- which reactor may write here, see reactor.engine.lease
    only INTEGER PRIMARY KEY CHECK (only = 1),
    term INTEGER NOT NULL,
    name TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS producers (  -- in whose names reactors fired that may still be heard of
    producer BLOB PRIMARY KEY
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS switches (  -- rules that are off, see reactor.engine.switchboard
    rule TEXT PRIMARY KEY,
    user TEXT NOT NULL,
    at REAL NOT NULL
) WITHOUT ROWID;
"""

_LATER = ("window", "replies")
"""Columns of ``firings`` that a database of the first version has not, both msgpack."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A reaction that was under way.

    Attributes:
        seq: the event's number.
        rule: the rule's key, see `reactor.engine.firing.rule_key`.
        done: the numbers of its calls that are done.
        window: what its policies found out, or None.
        replies: how the calls of its program ended that did, by ident: (result, error).
    """

    seq: int
    rule: str
    done: frozenset[int]
    window: dict[str, Any] | None = None
    replies: Mapping[str, Any] = field(default_factory=dict)


class State:
    """The engine's database. One process writes it.

    Args:
        path: the file; its directory must be there.

    Attributes:
        term: the term in which it may be written; None before `take_over`, which is for tools and
            for a minion's reactor, which is the only one.

    Raises:
        ReactorError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.term: int | None = None
        try:
            path.touch(mode=0o600, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None, timeout=5)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.executescript(_SCHEMA)
            self._add_columns()
            self._written = self._last_written()
        except (sqlite3.Error, OSError) as error:
            raise ReactorError(
                f"cannot open the reactor's database {path}: {error}; check the directory"
            ) from error

    def _add_columns(self) -> None:
        known = {row[1] for row in self._db.execute("PRAGMA table_info(firings)")}
        for name in _LATER:
            if name not in known:
                self._db.execute(f"ALTER TABLE firings ADD COLUMN {name} BLOB")

    def _last_written(self) -> int:
        return int(self._db.execute("SELECT COALESCE(MAX(written), 0) FROM cells").fetchone()[0])

    def cursor(self) -> tuple[str, int] | None:
        """Return the bus and the number of the last event that was read, or None."""
        row = self._db.execute("SELECT bus_id, seq FROM cursor").fetchone()
        return (str(row[0]), int(row[1])) if row else None

    def unfinished(self) -> list[Unfinished]:
        """Return the reactions that were under way, oldest first."""
        rows = self._db.execute(
            "SELECT seq, rule, done, window, replies FROM firings ORDER BY seq, rule"
        )
        return [
            Unfinished(
                seq,
                rule,
                frozenset(json.loads(done)),
                None if window is None else wire.unpack(window),
                {} if replies is None else wire.unpack(replies),
            )
            for seq, rule, done, window, replies in rows
        ]

    def cells(self) -> list[Row]:
        """Return what policies remember, in the order in which it was written."""
        rows = self._db.execute("SELECT rule, policy, key, cell FROM cells ORDER BY written")
        return [(rule, policy, key, wire.unpack(cell)) for rule, policy, key, cell in rows]

    def forget_events(self) -> None:
        """Forget what hangs on events that nobody keeps: reactions under way, and what waits."""
        with self._transaction():
            self._db.execute("DELETE FROM firings")
            for mark in HOLDS_EVENTS:
                self._db.execute("DELETE FROM cells WHERE policy GLOB ?", (f"{mark}-*",))

    def reset(self, bus_id: str, seq: int) -> None:
        """Begin with another journal."""
        with self._transaction():
            self._db.execute("DELETE FROM firings")
            self._db.execute("DELETE FROM cells")
            self._db.execute("INSERT OR REPLACE INTO cursor VALUES (1, ?, ?)", (bus_id, seq))

    def save(
        self,
        *,
        bus_id: str,
        seq: int,
        begun: Iterable[tuple[int, str]] = (),
        finished: Iterable[tuple[int, str]] = (),
        progress: Mapping[tuple[int, str], Iterable[int]] | None = None,
        windows: Mapping[tuple[int, str], Any] | None = None,
        replies: Mapping[tuple[int, str], Any] | None = None,
        cells: Iterable[Row] = (),
    ) -> None:
        """Write one turn of the engine.

        Args:
            bus_id: the bus whose numbers these are.
            seq: the last event that was read.
            begun: (seq, rule key) of the reactions that begin.
            finished: the same of those that ended.
            progress: for those still under way, the numbers of the calls that are done.
            windows: for those that begin, what their policies found out.
            replies: for those that run a program, how its calls ended.
            cells: what policies remember that changed; a cell that is None is forgotten.

        Raises:
            ReactorError: the disk did not take it; nothing was written.
            DeposedError: another reactor took over; nothing was written either.
        """
        with self._transaction():
            self._db.executemany("DELETE FROM firings WHERE seq = ? AND rule = ?", finished)
            self._db.executemany(
                "INSERT OR IGNORE INTO firings (seq, rule, done) VALUES (?, ?, '[]')", begun
            )
            self._blobs("window", windows)
            self._blobs("replies", replies)
            self._write_cells(cells)
            self._db.executemany(
                "UPDATE firings SET done = ? WHERE seq = ? AND rule = ?",
                [(json.dumps(sorted(done)), *key) for key, done in (progress or {}).items()],
            )
            self._db.execute("INSERT OR REPLACE INTO cursor VALUES (1, ?, ?)", (bus_id, seq))

    def _blobs(self, column: str, values: Mapping[tuple[int, str], Any] | None) -> None:
        if values:
            self._db.executemany(
                f"UPDATE firings SET {column} = ? WHERE seq = ? AND rule = ?",  # noqa: S608 - one of two names
                [(wire.pack(value), *key) for key, value in values.items()],
            )

    def _write_cells(self, cells: Iterable[Row]) -> None:
        gone, kept = [], []
        for rule, policy, key, cell in cells:
            if cell is None:
                gone.append((rule, policy, key))
            else:
                self._written += 1
                kept.append((rule, policy, key, wire.pack(cell), self._written))
        if gone:
            self._db.executemany(
                "DELETE FROM cells WHERE rule = ? AND policy = ? AND key = ?", gone
            )
        if kept:
            self._db.executemany("INSERT OR REPLACE INTO cells VALUES (?, ?, ?, ?, ?)", kept)

    # -- rules that are switched off ------------------------------------------------------

    def switches(self) -> list[Switch]:
        """Return the rules that are switched off."""
        return read_switches(self._db)

    def write_switches(self, off: Iterable[Switch], on: Iterable[str] = ()) -> None:
        """Write down which rules were switched off, and the names of those switched on.

        Raises:
            ReactorError: the disk did not take it; nothing was written.
            DeposedError: another reactor took over; nothing was written either.
        """
        with self._transaction():
            self._db.executemany("DELETE FROM switches WHERE rule = ?", [(name,) for name in on])
            rows = [(each.rule, each.user, each.at) for each in off]
            self._db.executemany("INSERT OR REPLACE INTO switches VALUES (?, ?, ?)", rows)

    # -- who may write --------------------------------------------------------------------

    def take_over(
        self, name: str, producer: bytes, seal: Callable[[int], None] = lambda _term: None
    ) -> int:
        """Begin a term: from now on whoever wrote before is refused.

        Args:
            name: of the reactor that begins it.
            producer: in whose name it fires.
            seal: called with the term before it is in force, while nobody else can write; what
                it raises leaves everything as it was.

        Returns:
            The term.

        Raises:
            ReactorError: the disk did not take it.
        """
        with transaction(self._db, f"the reactor's database {self.path}"):
            term = self._term_now() + 1
            seal(term)
            self._db.execute("INSERT OR REPLACE INTO leader VALUES (1, ?, ?)", (term, name))
            self._db.execute("INSERT OR IGNORE INTO producers VALUES (?)", (producer,))
        self.term = term
        return term

    def producers(self) -> list[bytes]:
        """Return in whose names reactors have fired that did not end in order."""
        return [bytes(row[0]) for row in self._db.execute("SELECT producer FROM producers")]

    def forget_producers(self, producers: Iterable[bytes]) -> None:
        """Forget those of whom nothing more can come."""
        with self._transaction():
            self._db.executemany(
                "DELETE FROM producers WHERE producer = ?", [(name,) for name in producers]
            )

    def _term_now(self) -> int:
        row = self._db.execute("SELECT term FROM leader").fetchone()
        return int(row[0]) if row else 0

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with transaction(self._db, f"the reactor's database {self.path}"):
            self.check_term()
            yield

    def check_term(self) -> None:
        """Make sure that this may be written.

        Raises:
            DeposedError: another reactor took over.
        """
        if self.term is not None and self._term_now() != self.term:
            raise DeposedError(
                f"another reactor took over after term {self.term}: this one stands down"
            )

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def read_switches(database: sqlite3.Connection) -> list[Switch]:
    """Return the rules that are switched off, by any connection to the engine's database."""
    rows = database.execute("SELECT rule, user, at FROM switches ORDER BY rule")
    return [Switch(str(rule), str(user), float(at)) for rule, user, at in rows]


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
