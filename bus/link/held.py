"""Jobs for minions that are on their way back after a restart of the link server. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container

GRACE_SECONDS = 15.0
"""How long after its start the server waits for minions that it knows: longer than they need
to find out that their connection is gone, and to come back."""

MAX_HELD = 10_000


class Held:
    """Keeps what could not be sent in the first seconds; afterwards nobody is waited for.

    Args:
        started: when the server started, in seconds, monotonic.
    """

    def __init__(self, started: float) -> None:
        self._until = started + GRACE_SECONDS
        self._frames: defaultdict[str, list[bytes]] = defaultdict(list)
        self._count = 0

    def hold(self, ident: str, frame: bytes, now: float) -> bool:
        """Keep a frame for a minion; False if it is not waited for."""
        if now >= self._until or self._count >= MAX_HELD:
            return False
        self._frames[ident].append(frame)
        self._count += 1
        return True

    def take(self, ident: str) -> list[bytes]:
        """Return what is kept for a minion that has come, oldest first."""
        frames = self._frames.pop(ident, [])
        self._count -= len(frames)
        return frames

    def keep_only(self, idents: Container[str]) -> dict[str, int]:
        """Give up what is kept for all other minions; return how many frames for which."""
        gone = [ident for ident in self._frames if ident not in idents]
        return {ident: len(self.take(ident)) for ident in gone}

    def expire(self, now: float) -> dict[str, int]:
        """Return how many frames are given up for which minions, once the time is over."""
        if now < self._until or not self._frames:
            return {}
        given_up = {ident: len(frames) for ident, frames in self._frames.items()}
        self._frames.clear()
        self._count = 0
        return given_up
