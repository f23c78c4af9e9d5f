"""The master's record of jobs: what was sent to whom, and what came back."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bus import wire
from bus.errors import JournalError
from bus.jid import format_jid
from bus.link.protocol import LINEAGE_BYTES

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    jid TEXT PRIMARY KEY, key TEXT UNIQUE, job BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS returns (
    jid TEXT NOT NULL, id TEXT NOT NULL, ret BLOB NOT NULL, PRIMARY KEY (jid, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS gone (
    jid TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (jid, id)
) WITHOUT ROWID;
"""

MAX_IN_MEMORY = 200_000
"""Minions of recent jobs, counted once a job; older jobs are looked up in the file."""

_PRUNE_AT_ONCE = 1_000
_NO_RUN = bytes(LINEAGE_BYTES)

_SHOWN = ("return", "retcode", "success")


@dataclass(frozen=True, slots=True)
class _Known:
    job: dict[str, Any]
    sent_to: frozenset[str]


def packed_runs(runs: Iterable[bytes]) -> bytes:
    """Return which processes of its minions a job goes to, as it is kept with the job.

    Args:
        runs: of each minion, in their order; empty if none is connected.
    """
    return b"".join([run or _NO_RUN for run in runs])


def runs_of(job: Mapping[str, Any]) -> dict[str, bytes]:
    """Return which process of each minion a job went to."""
    packed = job.get("runs", b"")
    size = LINEAGE_BYTES
    found = (packed[at : at + size] for at in range(0, len(packed), size))
    return {ident: run for ident, run in zip(job["minions"], found, strict=False) if run != _NO_RUN}


class JobStore:
    """Jobs and their returns in a small SQLite file, with the recent ones in memory.

    The only writer of its file. Returns are written by `flush`, many in one transaction.

    Args:
        path: the file; readable by its owner only.
        keep_seconds: after which a job is forgotten.

    Raises:
        JournalError: the file cannot be opened.
    """

    def __init__(self, path: str | Path, keep_seconds: float) -> None:
        self._path = Path(path)
        self._keep = keep_seconds
        self._recent: OrderedDict[str, _Known] = OrderedDict()
        self._in_memory = 0
        self._returns: list[tuple[str, str, bytes]] = []
        with self._errors():
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            self._database = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False
            )
            self._database.execute("PRAGMA journal_mode=WAL")
            # A killed process loses nothing this way; the journal of events is what is durable.
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.executescript(_SCHEMA)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise JournalError(f"the job record {self._path} cannot be used: {error}") from error

    def newest(self) -> str:
        """Return the greatest job id, or an empty string."""
        with self._errors():
            row = self._database.execute("SELECT max(jid) FROM jobs").fetchone()
        return str(row[0] or "")

    def put(self, job: dict[str, Any], key: str | None = None) -> None:
        """Keep a job, or what has changed of it.

        Args:
            job: with ``jid``, ``minions``, ``missing`` (of these, the ones it did not reach) and,
                if returns are owed, ``runs``, as `packed_runs` makes it.
            key: the caller's own name of the job, by which he can ask for it again.

        Raises:
            JournalError: the file cannot be written.
        """
        with self._errors():
            self._database.execute(
                "INSERT OR REPLACE INTO jobs VALUES (?, ?, ?)",
                (job["jid"], key, wire.pack(job)),
            )
        self._remember(job)

    def _remember(self, job: dict[str, Any]) -> _Known:
        self._forget(job["jid"])
        known = _Known(job, frozenset(job["minions"]) - frozenset(job["missing"]))
        self._recent[job["jid"]] = known
        self._in_memory += 1 + len(known.sent_to)
        while self._in_memory > MAX_IN_MEMORY and len(self._recent) > 1:
            self._forget(next(iter(self._recent)))
        return known

    def _forget(self, jid: str) -> None:
        known = self._recent.pop(jid, None)
        if known is not None:
            self._in_memory -= 1 + len(known.sent_to)

    def get(self, jid: str) -> dict[str, Any] | None:
        """Return a job, or None if there is none with this id."""
        known = self._find(jid)
        return known.job if known else None

    def by_key(self, key: str) -> dict[str, Any] | None:
        """Return the job that was put under ``key``."""
        with self._errors():
            row = self._database.execute("SELECT jid FROM jobs WHERE key = ?", (key,)).fetchone()
        return self.get(row[0]) if row else None

    def sent_to(self, jid: str, ident: str) -> dict[str, Any] | None:
        """Return a job if it was sent to the minion ``ident``."""
        known = self._find(jid)
        return known.job if known and ident in known.sent_to else None

    def _find(self, jid: str) -> _Known | None:
        known = self._recent.get(jid)
        if known is not None:
            return known
        with self._errors():
            row = self._database.execute("SELECT job FROM jobs WHERE jid = ?", (jid,)).fetchone()
        return self._remember(wire.unpack(row[0])) if row else None

    def returned(self, data: dict[str, Any]) -> None:
        """Note a return; it is in the file after the next `flush`."""
        shown = {name: data[name] for name in _SHOWN}
        self._returns.append((data["jid"], data["id"], wire.pack(shown)))

    def has_returned(self, jid: str, ident: str) -> bool:
        """Say whether a return of this minion is kept."""
        if any(row[:2] == (jid, ident) for row in self._returns):
            return True
        with self._errors():
            found = self._database.execute(
                "SELECT 1 FROM returns WHERE jid = ? AND id = ?", (jid, ident)
            ).fetchone()
        return found is not None

    def give_up(self, jid: str, ident: str) -> None:
        """Note that a minion will return nothing for a job.

        Raises:
            JournalError: the file cannot be written.
        """
        with self._errors():
            self._database.execute("INSERT OR IGNORE INTO gone VALUES (?, ?)", (jid, ident))

    def unreturned(self, limit: int) -> Iterator[tuple[dict[str, Any], set[str]]]:
        """Yield of the newest jobs, the oldest first, those that are owed, and by whom.

        Args:
            limit: how many jobs to look at.

        Raises:
            JournalError: the file cannot be read.
        """
        for job in reversed(self.newest_first(limit)):
            owing = set(runs_of(job))
            if owing:
                owing -= self._settled(job["jid"])
            if owing:
                yield job, owing

    def _settled(self, jid: str) -> set[str]:
        with self._errors():
            rows = self._database.execute(
                "SELECT id FROM returns WHERE jid = ? UNION SELECT id FROM gone WHERE jid = ?",
                (jid, jid),
            ).fetchall()
        return {ident for (ident,) in rows}

    def flush(self) -> None:
        """Write the returns that were noted.

        Raises:
            JournalError: the file cannot be written.
        """
        if not self._returns:
            return
        rows, self._returns = self._returns, []
        with self._errors(), self._database:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany("INSERT OR REPLACE INTO returns VALUES (?, ?, ?)", rows)

    def newest_first(self, limit: int = 100) -> list[dict[str, Any]]:
        """Return the newest jobs, the newest first.

        Args:
            limit: how many at most.
        """
        with self._errors():
            rows = self._database.execute(
                "SELECT job FROM jobs ORDER BY jid DESC LIMIT ?", (limit,)
            ).fetchall()
        return [wire.unpack(row[0]) for row in rows]

    def returns(self, jid: str) -> dict[str, dict[str, Any]]:
        """Return what came back for a job, by minion: ``return``, ``retcode``, ``success``."""
        self.flush()
        with self._errors():
            rows = self._database.execute(
                "SELECT id, ret FROM returns WHERE jid = ? ORDER BY id", (jid,)
            ).fetchall()
        return {ident: wire.unpack(ret) for ident, ret in rows}

    def prune(self, now: float, keep: Collection[str] = ()) -> bool:
        """Forget some of the jobs that are too old.

        Args:
            now: seconds since 1970.
            keep: the ids of jobs to remember all the same.

        Returns:
            Whether there may be more of them: so many at once, since nothing else goes on here
            meanwhile.

        Raises:
            JournalError: the file cannot be written.
        """
        oldest = format_jid(int(max(0.0, now - self._keep) * 1_000_000))
        with self._errors(), self._database:
            self._database.execute("BEGIN IMMEDIATE")
            old = self._database.execute(
                "SELECT jid FROM jobs WHERE jid < ? LIMIT ?", (oldest, _PRUNE_AT_ONCE + len(keep))
            ).fetchall()
            gone = [row for row in old if row[0] not in keep]
            self._database.executemany("DELETE FROM returns WHERE jid = ?", gone)
            self._database.executemany("DELETE FROM gone WHERE jid = ?", gone)
            self._database.executemany("DELETE FROM jobs WHERE jid = ?", gone)
        for (jid,) in gone:
            self._forget(jid)
        return len(gone) >= _PRUNE_AT_ONCE

    def close(self) -> None:
        """Write what is noted and let go of the file."""
        with contextlib.suppress(JournalError):
            self.flush()
        self._database.close()
