"""So much a second, and some of it at once: what others can have a server do is bounded. Pure."""

from __future__ import annotations

from collections.abc import Callable


class Budget:
    """An allowance that grows with time.

    Args:
        per_second: how much it grows by.
        clock: seconds, monotonic.
        most: what it grows to, and begins with; by default what a second brings.
    """

    def __init__(
        self, per_second: float, clock: Callable[[], float], most: float | None = None
    ) -> None:
        self._per_second = per_second
        self._clock = clock
        self._most = per_second if most is None else most
        self._left = self._most
        self._at = clock()

    def take(self, amount: float = 1) -> bool:
        """Take so much, if so much is left."""
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < amount:
            return False
        self._left -= amount
        return True
