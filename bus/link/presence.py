"""Which minions are there, as Salt's presence events say it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

PRESENT_SECONDS = 30.0
"""Seconds between two ``salt/presence/present``: Salt's interval of the same event."""


class Presence:
    """Turns the set of connected minions into events."""

    def __init__(self) -> None:
        self._before: frozenset[str] = frozenset()
        self._due = 0.0

    def is_due(self, now: float) -> bool:
        """Say whether something is to be said though nobody has come or gone."""
        return now >= self._due

    def events(self, connected: Iterable[str], now: float) -> list[tuple[str, dict[str, Any]]]:
        """Return the events that are due, as (tag, data).

        Args:
            connected: the ids of the minions that are connected.
            now: seconds, monotonic.
        """
        present = frozenset(connected)
        found: list[tuple[str, dict[str, Any]]] = []
        if present != self._before:
            change = {
                "new": sorted(present - self._before),
                "lost": sorted(self._before - present),
            }
            found.append(("salt/presence/change", change))
            self._before = present
        if now >= self._due:
            self._due = now + PRESENT_SECONDS
            found.append(("salt/presence/present", {"present": sorted(present)}))
        return found
