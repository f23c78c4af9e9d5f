"""Job ids: 20 digits that are a UTC time, unique and increasing on a master."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FORMAT = "%Y%m%d%H%M%S%f"
_JID = re.compile(r"[0-9]{20}\Z")

Clock = Callable[[], int]
"""Nanoseconds since 1970, as `time.time_ns` returns them."""


def is_jid(text: object) -> bool:
    """Say whether ``text`` has the form of a job id.

    >>> is_jid("20261122093000123456")
    True
    """
    return isinstance(text, str) and _JID.match(text) is not None


def format_jid(microseconds: int) -> str:
    """Return the job id of a moment, given in microseconds since 1970."""
    return (_EPOCH + timedelta(microseconds=microseconds)).strftime(_FORMAT)


def _parse(jid: str) -> int:
    try:
        moment = datetime.strptime(jid, _FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return 0
    return (moment - _EPOCH) // timedelta(microseconds=1)


def moment_of(jid: str) -> float:
    """Return when a job id was made, in seconds since 1970; 0 for what is none.

    >>> moment_of("19700101000001500000")
    1.5
    """
    return _parse(jid) / 1_000_000 if is_jid(jid) else 0.0


class JidMaker:
    """Makes job ids that never repeat, even when the clock steps back. Safe across threads.

    Args:
        clock: nanoseconds since 1970.
        after: a job id that was made before; all new ones are greater.
    """

    def __init__(self, clock: Clock = time.time_ns, after: str = "") -> None:
        self._clock = clock
        self._last = _parse(after) if is_jid(after) else 0
        self._lock = threading.Lock()

    def next(self) -> str:
        """Return the next job id."""
        with self._lock:
            self._last = max(self._clock() // 1000, self._last + 1)
            return format_jid(self._last)
