"""Which of the events that came together go to whom: chosen by the beginnings of tags. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bus import frames


class Chosen(NamedTuple):
    """The events for those who want one prefix.

    Attributes:
        prefix: what their tags begin with.
        numbers: of the events.
        events: as they go over the wire.
        sent: how many there were for this prefix so far, these included.
    """

    prefix: bytes
    numbers: list[int]
    events: list[bytes]
    sent: int


class Choices:
    """The prefixes that somebody wants, and how many events there were for each.

    Args:
        run: a number of this run of the bus: its counts are never taken for those of another.
    """

    def __init__(self, run: int) -> None:
        self._base = run << frames.RUN_BITS
        self._sent: dict[bytes, int] = {}
        self._counts: Counter[int] = Counter()
        self._lengths: tuple[int, ...] = ()

    def add(self, prefix: bytes) -> None:
        """Somebody wants a prefix that nobody wanted."""
        self._sent[prefix] = self._base
        self._counts[len(prefix)] += 1
        self._lengths = tuple(self._counts)

    def remove(self, prefix: bytes) -> None:
        """Nobody wants a prefix any more."""
        if self._sent.pop(prefix, None) is None:
            return
        self._counts[len(prefix)] -= 1
        self._counts = +self._counts
        self._lengths = tuple(self._counts)

    def sent(self, prefix: bytes) -> int:
        """Return how many events there were for a prefix so far."""
        return self._sent.get(prefix, self._base)

    def split(self, events: Sequence[bytes], first: int) -> Iterator[Chosen]:
        """Yield the events for each prefix.

        A look-up for each length of a prefix, however many prefixes there are.

        Args:
            events: that came together.
            first: the number of the first; the others follow.
        """
        if not self._sent:
            return
        if len(events) == 1:
            yield from self._split_one(events, first)
            return
        found: dict[bytes, tuple[list[int], list[bytes]]] = {}
        for number, event in enumerate(events, first):
            for length in self._lengths:
                head = event[:length]
                if head in self._sent:
                    numbers, chosen = found.setdefault(head, ([], []))
                    numbers.append(number)
                    chosen.append(event)
        for prefix, (numbers, chosen) in found.items():
            self._sent[prefix] += len(chosen)
            yield Chosen(prefix, numbers, chosen, self._sent[prefix])

    def _split_one(self, events: Sequence[bytes], number: int) -> Iterator[Chosen]:
        """As `split`, for one event by itself, which somebody may be waiting for."""
        for length in self._lengths:
            head = events[0][:length]
            if head in self._sent:
                self._sent[head] += 1
                yield Chosen(head, [number], list(events), self._sent[head])
