"""A bound of what strangers can make the master do. Pure."""

from __future__ import annotations

from collections.abc import Callable


class Budget:
    """So many things a second, and a second's worth at once.

    Args:
        per_second: how many.
        clock: seconds, monotonic.
    """

    def __init__(self, per_second: float, clock: Callable[[], float]) -> None:
        self._per_second = per_second
        self._clock = clock
        self._left = per_second
        self._at = clock()

    def take(self) -> bool:
        """Take one if one is left."""
        now = self._clock()
        self._left = min(self._per_second, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
