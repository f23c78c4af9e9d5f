"""The direct line to a bus for one who does not wait: fires go out, answers come when they come.

See `bus.direct` for the line itself. ZeroMQ's threads would have to wake up twice on the way there
and twice on the way back. What the line does not take goes over ZeroMQ, as do fires that are large,
and all of them while the bus is slow: it is for the moments in which somebody waits for one.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from bus.direct.framing import MAX_ANSWER_BYTES, answer_parts, message
from bus.direct.stream import Stream

log = logging.getLogger(__name__)

MAX_UNANSWERED_BYTES: Final = 65_536
"""A third of what the kernel keeps for a stream by default, so that sending never waits."""


class SteadyLine(Stream):
    """A connection to a bus, for a loop that polls `fileno`. For one thread.

    Args:
        path: the bus's socket.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, MAX_ANSWER_BYTES)
        self._unanswered = 0

    def send(self, head: bytes, body: bytes) -> int:
        """Send a fire if the line has room for it.

        Returns:
            How many bytes are to be `settled` once it is answered; 0 if it was not sent.
        """
        size = len(head) + len(body)
        if self._unanswered + size > MAX_UNANSWERED_BYTES or not self.open():
            return 0
        assert self._socket is not None
        data = message(head, body)
        try:
            sent = self._socket.send(data)
        except OSError as error:
            log.debug("the line to %s is cut: %s", self._path, error)
            sent = 0
        if sent < len(data):
            # What came in part is not taken; what was sent before it is sent again.
            self._cut()
            return 0
        self._unanswered += size
        return size

    def settled(self, size: int) -> None:
        """What was sent is answered, or nobody waits for its answer any more."""
        self._unanswered = max(0, self._unanswered - size)

    def receive(self) -> list[list[bytes]]:
        """Return the answers that are there, see `bus.frames.parse_answer`."""
        return [answer_parts(head, body) for head, body in self.messages()]

    def _cut(self) -> None:
        super()._cut()
        self._unanswered = 0
