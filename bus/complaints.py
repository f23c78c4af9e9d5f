"""Counts what went wrong and says it in the log, but not a thousand times a second."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable

log = logging.getLogger(__name__)

QUIET_SECONDS = 10.0


class Complaints:
    """Counters whose growth is logged at most every ten seconds a kind.

    Args:
        clock: seconds, monotonic.

    Attributes:
        counters: how often each kind has happened.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.counters: Counter[str] = Counter()
        self._clock = clock
        self._said: dict[str, tuple[float, int]] = {}

    def add(
        self,
        kind: str,
        text: str,
        count: int = 1,
        *,
        level: int = logging.WARNING,
        trace: bool = False,
    ) -> None:
        """Count, and say it unless the same kind was said a moment ago.

        Args:
            kind: a name from our own code, never from outside.
            text: what happened.
            count: how often.
            level: how loud, as in `logging`.
            trace: whether the log shows where the exception that is being handled came from.
        """
        self.counters[kind] += count
        now = self._clock()
        said_at, said_count = self._said.get(kind, (now - QUIET_SECONDS, 0))
        if now - said_at < QUIET_SECONDS:
            return
        total = self.counters[kind]
        self._said[kind] = (now, total)
        more = total - said_count - count
        hidden = f" (and {more} more since the last such line)" if more else ""
        log.log(level, "%s%s", text, hidden, exc_info=trace)
