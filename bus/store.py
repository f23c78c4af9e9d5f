"""What keeps the events of a bus: the seam between the broker and a journal, or none."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from bus.frames import Fire


class Kept(NamedTuple):
    """What became of one fire.

    Attributes:
        first_seq: the number of its first event; 0 if it was kept before and is not known.
        fresh: it is new, and has to be published.
        missing: nothing was kept, since the producer's fires after this number are missing.
    """

    first_seq: int
    fresh: bool
    missing: int | None = None


class Store(Protocol):
    """Keeps events in order, once each."""

    @property
    def bus_id(self) -> str:
        """The name of the numbering: it changes when ``seq`` starts again."""
        ...

    @property
    def last_seq(self) -> int:
        """The number of the newest event, or 0."""
        ...

    def append(self, fires: Sequence[Fire]) -> list[Kept]:
        """Keep the events of several fires together.

        Raises:
            JournalError: nothing of it could be kept.
        """
        ...

    def status(self) -> dict[str, int]:
        """Return what is kept, for who asks how the bus does."""
        ...

    def close(self) -> None:
        """Let go of what is open."""
        ...


MAX_PRODUCERS = 100_000
"""How many producers are remembered; the longest silent one is forgotten first."""


def judge(fire: Fire, last: tuple[int, int]) -> Kept | None:
    """Return the answer to a fire that must not be kept, or None if it is the next one.

    Args:
        fire: what a producer sent.
        last: the number of the producer's last fire, and of its first event; zeros for none.
    """
    number, first_seq = last
    if fire.number <= number:
        return Kept(first_seq if fire.number == number else 0, fresh=False)
    if fire.number != max(number + 1, fire.base):
        return Kept(0, fresh=False, missing=max(number, fire.base - 1))
    return None


class Producers:
    """The last number of each producer: what makes a fire that is sent again count once.

    A producer's numbers are taken without gaps, starting at the base that it names, so a fire
    that was lost on the way can never be overtaken by a later one and then pass for a repeat.
    """

    def __init__(self, last: dict[bytes, tuple[int, int]] | None = None) -> None:
        self._last: OrderedDict[bytes, tuple[int, int]] = OrderedDict(last or {})

    def judge(self, fire: Fire) -> Kept | None:
        """`judge` a fire by its producer's last; a bare event is always new."""
        if not fire.producer:
            return None
        return judge(fire, self._last.get(fire.producer, (0, 0)))

    def note(self, fire: Fire, first_seq: int) -> None:
        """Remember that a fire was kept."""
        if fire.producer:
            self._last[fire.producer] = (fire.number, first_seq)
            self._last.move_to_end(fire.producer)

    def rows(self) -> list[tuple[bytes, int, int]]:
        """Return each producer with its last number and the number of that fire's first event."""
        return [(name, *last) for name, last in self._last.items()]

    def forget_silent(self) -> list[bytes]:
        """Forget the longest silent producers beyond the limit, and return them."""
        gone = []
        while len(self._last) > MAX_PRODUCERS:
            gone.append(self._last.popitem(last=False)[0])
        return gone


class MemoryStore:
    """Numbers events and keeps none: the minion's bus."""

    def __init__(self) -> None:
        self.bus_id = secrets.token_hex(6)
        self.last_seq = 0
        self._producers = Producers()

    def append(self, fires: Sequence[Fire]) -> list[Kept]:
        """Number the events of several fires."""
        return [self._append(fire) for fire in fires]

    def _append(self, fire: Fire) -> Kept:
        known = self._producers.judge(fire)
        if known:
            return known
        first_seq = self.last_seq + 1
        self.last_seq += len(fire.events)
        self._producers.note(fire, first_seq)
        self._producers.forget_silent()
        return Kept(first_seq, fresh=True)

    def status(self) -> dict[str, int]:
        """Nothing is kept."""
        return {}

    def close(self) -> None:
        """Nothing is open."""
