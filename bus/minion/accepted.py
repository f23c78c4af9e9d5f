"""The jobs that a minion has accepted and not finished, on disk: what a kill leaves behind.

A job's minion that is killed cannot say so. The next one can: it finds here what was begun.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from bus.calls import MAX_NAME
from bus.errors import JournalError
from bus.minion.jobs import Job

log = logging.getLogger(__name__)

FILE = "accepted.db"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS accepted (jid TEXT PRIMARY KEY, fun TEXT NOT NULL) WITHOUT ROWID
"""


class AcceptedJobs:
    """A small SQLite file of job ids and functions. The only writer of its file.

    Args:
        path: the file; readable by its owner only.

    Attributes:
        unfinished: the jobs that an earlier process accepted and did not finish, oldest first;
            their arguments are not kept, for the master has them.

    Raises:
        JournalError: the file cannot be opened.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        try:
            self._database = self._open_or_replace()
            rows = self._database.execute("SELECT jid, fun FROM accepted ORDER BY jid").fetchall()
        except (sqlite3.Error, OSError) as error:
            raise self._failed(error) from error
        self.unfinished = [Job(jid, fun) for jid, fun in rows]

    def _open_or_replace(self) -> sqlite3.Connection:
        """Open the file; one that is damaged is kept under another name, and said aloud."""
        try:
            return self._open()
        except sqlite3.OperationalError:
            raise  # no room, no right: the file itself may be whole
        except sqlite3.DatabaseError as error:
            aside = self._path.with_name(f"{self._path.name}.damaged-{time.time_ns()}")
            log.warning("the file of accepted jobs is damaged (%s): kept as %s", error, aside)
            self._path.rename(aside)
            for suffix in ("-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            return self._open()

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        with contextlib.ExitStack() as stack:
            database = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            stack.callback(database.close)
            database.execute("PRAGMA journal_mode=WAL")
            # A killed process loses nothing this way, and a job need not wait for the disk.
            database.execute("PRAGMA synchronous=NORMAL")
            database.execute(_SCHEMA)
            stack.pop_all()
        return database

    def add(self, job: Job) -> None:
        """Note a job before it runs.

        Raises:
            JournalError: the file cannot be written.
        """
        with self._errors():
            self._database.execute(
                "INSERT OR REPLACE INTO accepted VALUES (?, ?)", (job.jid, job.name[:MAX_NAME])
            )

    def remove(self, jid: str) -> None:
        """Forget a job whose return is safe.

        Raises:
            JournalError: the file cannot be written.
        """
        with self._errors():
            self._database.execute("DELETE FROM accepted WHERE jid = ?", (jid,))

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> JournalError:
        return JournalError(
            f"the file of accepted jobs {self._path} cannot be used: {error}: "
            "look at the disk, and at the rights of the option state_dir"
        )
