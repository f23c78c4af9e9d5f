"""How long to wait before trying again, so that a fleet does not come back all at once. Pure.

When a master ends, all of its minions see so in the same moment. What spreads them is that each
one waits for a time of its own, and that the times grow: the longer a master was away, the longer
the stretch over which its minions return.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

Jitter = Callable[[], float]
"""Returns a number from 0 to 1, another one each time."""

FIRST_MS = (50, 400)
LONGEST_MS = (2_000, 6_000)


class Reconnect(NamedTuple):
    """Between two tries of ZeroMQ to connect; it doubles from the one to the other.

    Attributes:
        first_ms: after the first.
        longest_ms: at most.
    """

    first_ms: int
    longest_ms: int


def reconnect(jitter: Jitter) -> Reconnect:
    """Return one minion's times.

    They are drawn once for each minion, since ZeroMQ itself varies them by next to nothing: of
    equal times, all minions would try in the same moment, again and again.
    """
    return Reconnect(_between(FIRST_MS, jitter()), _between(LONGEST_MS, jitter()))


def _between(ends: tuple[int, int], place: float) -> int:
    low, high = ends
    return round(low + (high - low) * place)


def spread(delay: float, jitter: Jitter) -> float:
    """Return a delay that is up to a quarter shorter or longer."""
    return delay * (0.75 + 0.5 * jitter())
