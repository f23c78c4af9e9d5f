"""Reactions that failed for good, kept with all that is needed to try them again."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reactor.errors import ReactorError

FILE_NAME = "dead.db"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS letters (
    id TEXT PRIMARY KEY,
    at REAL NOT NULL,
    key TEXT NOT NULL,
    rule TEXT NOT NULL,
    source TEXT NOT NULL,
    bus_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    tag TEXT NOT NULL,
    error TEXT NOT NULL,
    progress TEXT NOT NULL,  -- JSON: what was done, and what the rule's policies had found out
    tries INTEGER NOT NULL,
    event BLOB               -- as it goes over the wire; NULL if it was gone already
);
CREATE INDEX IF NOT EXISTS by_time ON letters (at);
"""
_COLUMNS = "id, at, key, rule, source, bus_id, seq, tag, error, progress, tries, event"


@dataclass(frozen=True, slots=True)
class Letter:
    """A reaction that failed for good.

    Attributes:
        id: the reaction's id.
        at: when it failed, in seconds since 1970.
        key: the key under which the rule's reactions are remembered.
        rule: the rule's name.
        source: where the rule stood.
        bus_id: the bus that counted ``seq``.
        seq: the event's number.
        tag: its tag.
        error: what went wrong, in one line.
        event: the event as it goes over the wire; None if it was gone already.
        done: the numbers of the calls that were done, and that a retry leaves out.
        tries: how often it was tried.
        replies: how the calls of a program ended that were done, by ident.
        window: what the rule's policies had found out.
    """

    id: str
    at: float
    key: str
    rule: str
    source: str
    bus_id: str
    seq: int
    tag: str
    error: str
    event: bytes | None = None
    done: frozenset[int] = field(default_factory=frozenset)
    tries: int = 1
    replies: Mapping[str, Any] = field(default_factory=dict)
    window: Mapping[str, Any] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """Return what people are shown."""
        return {
            "id": self.id,
            "at": self.at,
            "rule": self.rule,
            "source": self.source,
            "event": {"tag": self.tag, "seq": self.seq, "id": f"{self.bus_id}-{self.seq}"},
            "error": self.error,
            "done": sorted(self.done),
            "tries": self.tries,
            "can_retry": self.event is not None,
        }


class DeadLetters:
    """The file of the dead letters. One process writes it.

    Args:
        path: the file.
        keep: how many there may be; of more the oldest go.

    Attributes:
        dropped: how many had to go since the start.

    Raises:
        ReactorError: it cannot be opened.
    """

    def __init__(self, path: Path, keep: int) -> None:
        self._path = path
        self._keep = keep
        self.dropped = 0
        try:
            path.touch(mode=0o600, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None, timeout=5)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.executescript(_SCHEMA)
            self._count = int(self._db.execute("SELECT count(*) FROM letters").fetchone()[0])
        except (sqlite3.Error, OSError) as error:
            raise ReactorError(f"cannot open the dead letters {path}: {error}") from error

    def __len__(self) -> int:
        return self._count

    def add(self, letters: Collection[Letter]) -> int:
        """Keep letters; one that is there already is replaced, and counts its tries.

        Returns:
            How many old ones had to go for them.

        Raises:
            ReactorError: the disk did not take them; none was kept.
        """
        rows = [
            (
                *(letter.id, letter.at, letter.key, letter.rule, letter.source, letter.bus_id),
                *(letter.seq, letter.tag, letter.error, _progress(letter)),
                *(letter.tries, letter.event),
            )
            for letter in letters
        ]
        with self._transaction():
            self._db.executemany(
                f"INSERT INTO letters ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?) "  # noqa: S608
                "ON CONFLICT (id) DO UPDATE SET at = excluded.at, error = excluded.error, "
                "progress = excluded.progress, event = coalesce(excluded.event, event), "
                "source = excluded.source, tries = tries + 1",
                rows,
            )
            count = int(self._db.execute("SELECT count(*) FROM letters").fetchone()[0])
            gone = max(0, count - self._keep)
            if gone:
                self._db.execute(
                    "DELETE FROM letters WHERE id IN "
                    "(SELECT id FROM letters ORDER BY at, rowid LIMIT ?)",
                    (gone,),
                )
        self._count = count - gone
        self.dropped += gone
        return gone

    def find(self, ids: Collection[str] = (), rule: str = "", limit: int = 0) -> list[Letter]:
        """Return letters, the newest first: these, or those of a rule, or all."""
        where, values = _where(ids, rule)
        query = f"SELECT {_COLUMNS} FROM letters{where} ORDER BY at DESC, rowid DESC LIMIT ?"  # noqa: S608
        try:
            rows = self._db.execute(query, (*values, limit or -1)).fetchall()
        except sqlite3.Error as error:
            raise ReactorError(f"cannot read the dead letters {self._path}: {error}") from error
        return [_letter(row) for row in rows]

    def drop(self, ids: Collection[str] = (), rule: str = "") -> int:
        """Forget letters: these, or those of a rule, or all; return how many.

        Raises:
            ReactorError: the disk did not take it.
        """
        where, values = _where(ids, rule)
        with self._transaction():
            count = self._db.execute(f"DELETE FROM letters{where}", values).rowcount  # noqa: S608
        self._count -= count
        return int(count)

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
                f"the dead letters {self._path} cannot be written: {error}"
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def _where(ids: Collection[str], rule: str) -> tuple[str, tuple[str, ...]]:
    if ids:
        return f" WHERE id IN ({','.join('?' * len(ids))})", tuple(ids)
    return (" WHERE rule = ?", (rule,)) if rule else ("", ())


def _progress(letter: Letter) -> str:
    found = {
        "done": sorted(letter.done),
        "replies": dict(letter.replies),
        "window": dict(letter.window),
    }
    return json.dumps(found, default=str)


def _letter(row: tuple[Any, ...]) -> Letter:
    *head, progress, tries, event = row
    found = json.loads(progress)
    names = ("id", "at", "key", "rule", "source", "bus_id", "seq", "tag", "error")
    known: dict[str, Any] = dict(zip(names, head, strict=True))
    return Letter(
        **known,
        event=event,
        done=frozenset(found["done"]),
        tries=tries,
        replies={ident: tuple(reply) for ident, reply in found["replies"].items()},
        window=found["window"],
    )


def dead_path(state_dir: str | Path) -> Path:
    """Return the file of the dead letters in a master's ``state_dir``."""
    return Path(state_dir) / FILE_NAME
