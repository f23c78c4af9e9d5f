"""The listening half of a connection to a bus: from a known number on, nothing unnoticed."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from bus import endpoints
from bus.sockets import Socket


class Heard(NamedTuple):
    r"""What was published together, still packed.

    Attributes:
        events: each ``tag + "\n\n" + msgpack``; none for a mark, which only says where the bus
            stands.
        numbers: of the events.
        seq: the number of the last one; for a mark, that of the last event before it.
        bus_id: which numbering this is.
        lost: how many events of the listener's prefix were lost before these. Who hears
            everything sees that by the numbers.
    """

    events: Sequence[bytes]
    numbers: Sequence[int]
    seq: int
    bus_id: str
    lost: int = 0

    @property
    def before(self) -> int:
        """The number before that of the first event; of a mark, its own."""
        return self.numbers[0] - 1 if self.numbers else self.seq


class Listener(ABC):
    """Hears what a bus publishes. For one thread at a time.

    After a broken connection the bus sends a mark again, and it says what a listener that was too
    slow has lost, the last event before a silence too.

    Attributes:
        address: where the bus publishes, see `bus.endpoints`.
        bus_id: which numbering the events have, once the bus has answered.
    """

    address: str
    bus_id: str

    @property
    @abstractmethod
    def socket(self) -> Socket | int:
        """What to poll among other things, if `has_read` is false.

        A look now and then is needed all the same: a bus that went away may be back.
        """

    @property
    def has_read(self) -> bool:
        """Whether there is something that no longer waits in the socket."""
        return False

    @abstractmethod
    def wait_ready(self, timeout: float = 1.0) -> int:
        """Wait until the subscriptions are in force. It can be called again.

        Returns:
            The number of the last event before that.

        Raises:
            NotRunningError: no bus answered within ``timeout`` seconds.
            ListenerLimitError: the bus has no room for this listener, which hears nothing then;
                it can be tried again.
        """

    @abstractmethod
    def read(self) -> Heard | None:
        """Return the next event or mark if one is there."""

    @abstractmethod
    def wait(self, seconds: float) -> None:
        """Wait until there may be something to read, at most so long (`math.inf`: for ever)."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection."""

    def receive(self, timeout: float | None = None) -> Heard | None:
        """Return the next event or mark, or None at the time-out.

        Args:
            timeout: seconds; 0 only looks, None waits for ever.
        """
        heard = self.read()
        if heard or timeout == 0:
            return heard
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            self.wait(left)
            if heard := self.read():
                return heard
        return None


def open_listener(address: str, prefix: str | None = "") -> Listener:
    """Return a listener to a bus.

    Args:
        address: where the bus publishes events together: `bus.endpoints.master_fires` or
            ``minion_fires``.
        prefix: the beginning of the tags to hear; empty for everything, None for nothing.
    """
    path = endpoints.line_path(address)
    if path:
        from bus.direct.hearing import LineListener

        return LineListener(path, prefix)
    from bus.grouped import GroupListener

    return GroupListener(address, prefix)
