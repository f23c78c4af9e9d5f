"""When a chain of reactions counts as a loop: too long, or a rule that feeds itself too fast."""

from __future__ import annotations

from collections import deque

MAX_CHAIN = 32
"""Reactions in one chain before it counts as a loop; TTL fields of networks are the precedent."""

_WINDOW = 10.0
_HELD = 60.0


class SelfFeeding:
    """Stops a rule that reacts, faster than a limit, to events that it fired itself.

    A rule may well count down through events of its own; one that does so all the time at a
    rate that nobody meant takes the machine. Stopped, it takes no event of its own for a minute.

    Args:
        limit: reactions of a rule to its own events within ten seconds; 0 for no limit.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._times: dict[str, deque[float]] = {}
        self._until: dict[str, float] = {}

    def stops(self, rule: str, now: float) -> tuple[bool, bool]:
        """Note that a rule meets an event of its own.

        Returns:
            Whether it is stopped, and whether that is news.
        """
        if not self._limit:
            return False, False
        until = self._until.get(rule)
        if until is not None:
            if now < until:
                return True, False
            del self._until[rule]
        times = self._times.setdefault(rule, deque(maxlen=self._limit + 1))
        times.append(now)
        if len(times) <= self._limit or now - times[0] > _WINDOW:
            return False, False
        self._until[rule] = now + _HELD
        times.clear()
        return True, True

    @property
    def limit(self) -> int:
        """Reactions of a rule to its own events within ten seconds."""
        return self._limit
