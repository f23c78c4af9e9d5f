"""Whether a master is still there: when to ping it, and when it has been silent too long. Pure."""

from __future__ import annotations

from collections.abc import Callable

PING_SECONDS = 5.0
SILENCE_SECONDS = 20.0
"""Three pings without an answer, and a little; less than those wait who fire with half a minute's
time-out, so that what they fire goes into the spool in time."""

ADMISSION_SECONDS = 35.0
"""How long a master may take to let us in: ten thousand may have come back to it at once."""

FAILOVER_SECONDS = 5.0
"""How long to try one of several masters that does not answer."""


class Vigil:
    """How long one master has been waited for. All times are seconds that never run backwards.

    Args:
        now: when the waiting begins.
        acceptance_wait: seconds between two hellos of a minion that waits for acceptance.
        spread: varies a pause.

    Attributes:
        heard: when the master last said something; to be set.
        next_ping: when to ping it.
    """

    def __init__(
        self, now: float, acceptance_wait: float, spread: Callable[[float], float]
    ) -> None:
        self._acceptance_wait = acceptance_wait
        self._spread = spread
        self._began = self.heard = self.next_ping = now

    def begin(self, now: float) -> None:
        """A master is tried from now on."""
        self._began = self.heard = now

    def lost(self, now: float) -> None:
        """The connection has ended.

        A master that was never heard keeps its time, or it would be tried for ever.
        """
        if self.heard > self._began:
            self.begin(now)

    def gives_up(self, now: float, *, early: bool) -> bool:
        """Say whether a master that does not let us in is not to be waited for any longer.

        Args:
            now: the time.
            early: whether there is something else to try if this one was never heard.
        """
        unheard = self.heard <= self._began
        patience = (
            FAILOVER_SECONDS if unheard and early else ADMISSION_SECONDS + self._acceptance_wait
        )
        return now - max(self._began, self.heard) > patience

    def is_silent(self, now: float) -> bool:
        """Say whether a master that had let us in has not answered for too long."""
        return now - self.heard > SILENCE_SECONDS

    def takes_ping(self, now: float) -> bool:
        """Say whether to ping; true once each time."""
        if now < self.next_ping:
            return False
        self.pinged(now)
        return True

    def pinged(self, now: float) -> None:
        """The master has heard of us; the next ping is due in a while."""
        self.next_ping = now + self._spread(PING_SECONDS)
