"""When the engine says that it is behind: a policy over one number."""

from __future__ import annotations

BEHIND = 10_000
"""Events unread before it is said: a third of a second of the load that one engine is made for."""

CAUGHT_UP = 1_000


class Backlog:
    """Turns a number that changes all the time into two announcements: behind, and caught up."""

    def __init__(self) -> None:
        self._is_behind = False

    def changed(self, unread: int) -> bool | None:
        """Return True when the engine has fallen behind, False when it caught up, else None."""
        if not self._is_behind and unread >= BEHIND:
            self._is_behind = True
            return True
        if self._is_behind and unread <= CAUGHT_UP:
            self._is_behind = False
            return False
        return None
