"""Where a listener begins: a number, a time, or an age."""

from __future__ import annotations

import contextlib
import time
from datetime import datetime, timedelta

from bus import durations
from bus.errors import DataError
from bus.journal import JournalReader, microseconds

Since = int | float | str | datetime | timedelta | None
"""Where to begin: after a sequence number (int), at a time (datetime, seconds since 1970 as a
float, or ISO 8601 text), an age (``"1h"`` or a timedelta), or with what comes next (None)."""


def resolve_since(
    since: Since, journal: JournalReader, now: float | None = None, *, name: str = "since"
) -> int:
    """Return the sequence number after which ``since`` begins.

    Args:
        since: see `Since`.
        journal: where a time is looked up.
        now: what an age counts from, in seconds since 1970; by default this moment.
        name: what the caller knows ``since`` as, for the error.

    Raises:
        DataError: ``since`` cannot be read.
    """
    if isinstance(since, bool) or since is None:
        raise _unreadable(since, name)
    if isinstance(since, int):
        return max(0, since)
    if isinstance(since, str) and since.isdecimal():
        return int(since)
    try:
        moment = _moment(since, time.time() if now is None else now)
    except (TypeError, ValueError, OverflowError) as error:
        raise _unreadable(since, name) from error
    return journal.seq_before(moment)


def _unreadable(since: Since, name: str) -> DataError:
    return DataError(
        f"{name}={since!r}: give a sequence number, a time such as 2026-11-22T09:30, "
        "or an age such as '1h'"
    )


def _moment(since: float | str | datetime | timedelta, now: float) -> int:
    """Return a point in time in microseconds since 1970."""
    if isinstance(since, datetime):
        return microseconds(since)
    if isinstance(since, timedelta):
        if since < timedelta():
            raise ValueError("an age is not negative")
        return int((now - since.total_seconds()) * 1_000_000)
    if isinstance(since, float):
        return int(since * 1_000_000)
    with contextlib.suppress(ValueError):
        return microseconds(datetime.fromisoformat(since))
    return int((now - durations.seconds(since)) * 1_000_000)
