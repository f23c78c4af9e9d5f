"""Which of several masters is tried, by which of its keys, and what after a refusal. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bus.link.trust import Address

NEXT_KEY = "next key"
ASK_SUCCESSOR = "ask for a successor"
REFUSED = "refused"

HANDOVER_DELAY = 30.0
"""Between two times to ask a master for the key after those that it does not prove."""

REFUSED_DELAY = 0.5
LONGEST_REFUSED_DELAY = 5.0
"""After a master has proved none of its keys: so much for each key that was tried, up to this."""


class Turns:
    """The masters in their order, and the keys of the one whose turn it is.

    Args:
        masters: in the order in which to try them; at least one.
        now: seconds that never run backwards.
        spread: varies a pause.
    """

    def __init__(
        self, masters: Sequence[Address], now: float, spread: Callable[[float], float]
    ) -> None:
        self._masters = masters
        self._spread = spread
        self._turn = 0
        self._key_turn = 0
        self._next_handover = now

    @property
    def master(self) -> Address:
        """The master whose turn it is."""
        return self._masters[self._turn % len(self._masters)]

    @property
    def first(self) -> Address:
        """The master to try before all others."""
        return self._masters[0]

    @property
    def has_others(self) -> bool:
        """Whether there is more than one master."""
        return len(self._masters) > 1

    @property
    def is_elsewhere(self) -> bool:
        """Whether it is not the first one's turn."""
        return self._turn % len(self._masters) != 0

    def next_master(self) -> None:
        """The next one's turn."""
        self._turn += 1

    def go_back(self) -> None:
        """The first one's turn."""
        self._turn = 0

    def key(self, known: Sequence[bytes]) -> bytes:
        """Return the key to try, of those that are known; at least one is."""
        return known[self._key_turn % len(known)]

    def proved(self) -> None:
        """A key was proved, or another one is to be tried: begin with the first of them again."""
        self._key_turn = 0

    def refused(self, known: int, now: float) -> str:
        """A master has not proved the key that was tried; return what to do now.

        Args:
            known: how many of its keys are known.
            now: the time.

        Returns:
            `NEXT_KEY`; once all were tried `ASK_SUCCESSOR`, now and then; else `REFUSED`.
        """
        self._key_turn += 1
        if self._key_turn % max(known, 1):
            return NEXT_KEY
        if known and now >= self._next_handover:
            self._next_handover = now + self._spread(HANDOVER_DELAY)
            return ASK_SUCCESSOR
        return REFUSED

    def refused_by_all(self) -> float | None:
        """All keys were tried: the next master's turn, after the seconds that are returned.

        None to go on with the connection that there is, which tries again by itself: a single
        master that has refused once may be about to take the key that we know.
        """
        if not self.has_others and self._key_turn <= 1:
            return None
        self._turn += 1
        return self._spread(min(REFUSED_DELAY * self._key_turn, LONGEST_REFUSED_DELAY))
