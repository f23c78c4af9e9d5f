"""When a minion says hello to a master that has not let it in, and the words of it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bus.errors import BusError, TooLargeError
from bus.link import protocol
from bus.link.protocol import Hello

Grains = Mapping[str, Any] | Callable[[], Mapping[str, Any]]

FIRST_DELAY = 0.1
ABSENT_DELAY = 0.5
"""Between tries that stay on this host, since nobody is connected."""
REPEAT_DELAY = 1.0
"""Before a hello that was sent is sent again: it does not get lost, but a busy master is late."""
LAST_DELAY = 20.0


class Hellos:
    """The pauses between hellos, which grow, and what is said.

    Args:
        ident: the minion.
        grains: what it says of itself; a function is asked each time.
        run: which process of it this is.
        now: seconds that never run backwards; the first is due then.
        spread: varies a pause.

    Attributes:
        due: when the next one is.
    """

    def __init__(
        self,
        ident: str,
        grains: Grains,
        run: bytes,
        *,
        now: float,
        spread: Callable[[float], float],
    ) -> None:
        self._ident = ident
        self._grains = grains
        self._run = run
        self._spread = spread
        self.restart(now)

    def restart(self, now: float) -> None:
        """Say the next one now, and begin with short pauses."""
        self.due = now
        self._delay = FIRST_DELAY

    def said(self, now: float, *, sent: bool) -> None:
        """One was said.

        Args:
            now: the time.
            sent: whether there was a connection to send it over.
        """
        self._delay = max(self._delay, REPEAT_DELAY if sent else FIRST_DELAY)
        self.due = now + self._spread(self._delay)
        self._delay = min(self._delay * 2, LAST_DELAY if sent else ABSENT_DELAY)

    def hurry(self, now: float) -> None:
        """The master does not know this connection: say it as soon as after the last pause."""
        self.due = min(self.due, now + self._spread(self._delay))

    def wait(self, now: float, seconds: float) -> None:
        """The master has heard it and does not let us in: ask again after so long."""
        self.due = now + self._spread(seconds)

    def frame(self, warn: Callable[[str], None]) -> bytes:
        """Return a hello; without grains if they cannot be sent.

        Args:
            warn: told why they cannot.
        """
        grains = self._grains() if callable(self._grains) else self._grains
        try:
            return self._encode(dict(grains))
        except BusError as error:
            warn(f"the grains cannot be sent: {error}")
            return self._encode({})

    def _encode(self, grains: dict[str, Any]) -> bytes:
        frame = protocol.encode(Hello(self._ident, protocol.VERSION, grains, self._run))
        if len(frame) > protocol.MAX_HELLO_BYTES:
            raise TooLargeError(f"{len(frame)} bytes are more than {protocol.MAX_HELLO_BYTES}")
        return frame
