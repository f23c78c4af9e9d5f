"""Slows down who guesses: after some failures each further attempt has to wait. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

FREE = 5
"""Failures that cost nothing: people mistype."""

LONGEST = 60.0
"""Seconds to wait at most."""

FORGET_AFTER = 900.0
"""Seconds without a failure after which it begins anew."""

MOST = 10_000
"""Keys that are remembered; the oldest is forgotten first."""


class Slowdown:
    """Counts the failures of each key, such as an address or a user.

    Args:
        clock: seconds that never run backwards.
        free: failures that cost nothing.
    """

    def __init__(self, clock: Callable[[], float], free: int = FREE) -> None:
        self._clock = clock
        self._free = free
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait(self, *keys: str) -> float:
        """Return the seconds that must pass before the next attempt, 0 for none."""
        return max((self._wait(key) for key in keys), default=0.0)

    def _wait(self, key: str) -> float:
        count, at = self._failures.get(key, (0, 0.0))
        if count < self._free:
            return 0.0
        penalty = min(2.0 ** min(count - self._free, 16), LONGEST)
        return max(0.0, at + penalty - self._clock())

    def failed(self, *keys: str) -> None:
        """Note a failure of each key."""
        now = self._clock()
        for key in keys:
            count, at = self._failures.pop(key, (0, now))
            self._failures[key] = (1 if now - at > FORGET_AFTER else count + 1, now)
        while len(self._failures) > MOST:
            self._failures.popitem(last=False)

    def succeeded(self, *keys: str) -> None:
        """Forget the failures of each key."""
        for key in keys:
            self._failures.pop(key, None)


class Rate:
    """Lets so many a second pass for each key, with as many at once.

    Args:
        per_second: how many; 0 for no limit.
        clock: seconds that never run backwards.
    """

    def __init__(self, per_second: int, clock: Callable[[], float]) -> None:
        self._rate = float(per_second)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> float:
        """Take one; return 0, or the seconds after which there is one."""
        if not self._rate:
            return 0.0
        now = self._clock()
        left, at = self._buckets.pop(key, (self._rate, now))
        left = min(self._rate, left + (now - at) * self._rate)
        passes = left >= 1
        self._buckets[key] = (left - 1 if passes else left, now)
        if len(self._buckets) > MOST:
            self._buckets.popitem(last=False)
        return 0.0 if passes else (1 - left) / self._rate
