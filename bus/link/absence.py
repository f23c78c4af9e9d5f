"""When to say that a master cannot be reached: soon, then ever more rarely. Pure."""

from __future__ import annotations

FIRST_SECONDS = 3.0
"""A master that restarts is back before that."""

REPEAT_SECONDS = 30.0
LONGEST_SECONDS = 300.0
"""Between two times that it is said: doubling from the one to the other."""


class Absence:
    """How long a master has been away, and when that was said.

    Args:
        now: seconds that never run backwards; away from then on.
    """

    def __init__(self, now: float) -> None:
        self._is_away = False
        self.begin(now)

    def begin(self, now: float) -> None:
        """Note that the master is away, unless it was away before."""
        if not self._is_away:
            self._is_away = True
            self._was_said = False
            self._due = now + FIRST_SECONDS
            self._pause = REPEAT_SECONDS

    def is_due(self, now: float) -> bool:
        """Say whether it is time to say so (again); true once each time."""
        if not self._is_away or now < self._due:
            return False
        self._was_said = True
        self._due = now + self._pause
        self._pause = min(self._pause * 2, LONGEST_SECONDS)
        return True

    def end(self) -> bool:
        """Note that the master is there; return whether it was said that it is not."""
        ended = self._is_away and self._was_said
        self._is_away = self._was_said = False
        return ended
