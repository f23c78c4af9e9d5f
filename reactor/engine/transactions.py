"""One transaction of one of the reactor's small databases."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

from reactor.errors import ReactorError


@contextlib.contextmanager
def transaction(database: sqlite3.Connection, what: str) -> Iterator[None]:
    """Do all of it, or nothing.

    Args:
        database: opened without a transaction of its own (``isolation_level=None``).
        what: what an error calls it, such as ``the dead letters /x/dead.db``.

    Raises:
        ReactorError: the disk did not take it.
        BaseException: what was raised inside; nothing is written then either.
    """
    try:
        database.execute("BEGIN IMMEDIATE")
        yield
        database.execute("COMMIT")
    except sqlite3.Error as error:
        _roll_back(database)
        raise ReactorError(f"{what} cannot be written: {error}") from error
    except BaseException:  # whatever it was: what is half done must not be kept
        _roll_back(database)
        raise


def _roll_back(database: sqlite3.Connection) -> None:
    with contextlib.suppress(sqlite3.Error):
        database.execute("ROLLBACK")
