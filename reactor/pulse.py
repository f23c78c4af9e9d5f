"""Whether a process still comes round: asked now and then, it has to answer. Pure.

Not how long an answer takes is counted, but how long it was asked for in vain while the asker
itself came round: a host that stood still for an hour has not made anybody hang.
"""

from __future__ import annotations

import math

_LOOKS = 8
"""Looks within the patience."""

_LONGEST_LOOK = 15.0
"""Seconds between two looks at most."""


class Pulse:
    """What is known of one process. A new one begins with a new process.

    Args:
        patience: seconds without an answer after which a process hangs; 0 for never.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._every = min(patience / _LOOKS, _LONGEST_LOOK) if patience else math.inf
        self._looked_at: float | None = None
        self._silence = 0.0
        self._is_known = False
        self._is_asked = False

    def due(self, now: float) -> float:
        """Return the seconds until the next look."""
        if self._looked_at is None:
            return 0.0 if self._patience else math.inf
        return max(0.0, self._looked_at + self._every - now)

    def look(self, now: float, *, has_answered: bool) -> bool:
        """Take note of whether there was an answer; return whether to ask (again).

        Until its first answer a process may take as long as it likes: it may be mending its files.
        """
        if has_answered:
            self._is_known, self._is_asked, self._silence = True, False, 0.0
        elif self._is_known and self._is_asked and self._looked_at is not None:
            self._silence += min(now - self._looked_at, 2 * self._every)
        self._looked_at = now
        asks = not self._is_asked
        self._is_asked = True
        return asks

    @property
    def hangs(self) -> bool:
        """Whether it has not come round for too long."""
        return self._silence > self._patience
