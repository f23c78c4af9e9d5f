"""The direct line to a bus for one who does not wait: fires go out, answers come when they come.

See `bus.direct` for the line itself. ZeroMQ's threads would have to wake up twice on the way there
and twice on the way back. What the line does not take goes over ZeroMQ, as do fires that are large,
and all of them while the bus is slow: it is for the moments in which somebody waits for one.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
from pathlib import Path
from typing import Final

from bus.direct.connecting import connect
from bus.direct.framing import MAX_ANSWER_BYTES, RECEIVE_BYTES, Inbox, answer_parts, message

log = logging.getLogger(__name__)

MAX_UNANSWERED_BYTES: Final = 65_536
"""A third of what the kernel keeps for a stream by default, so that sending never waits."""


class SteadyLine:
    """A connection to a bus, for a loop that polls `fileno`. For one thread.

    Args:
        path: the bus's socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._inbox = Inbox(MAX_ANSWER_BYTES)
        # The connection comes and goes, this descriptor stays.
        self._epoll = select.epoll()
        self._unanswered = 0

    def fileno(self) -> int:
        """The descriptor to poll for input."""
        return self._epoll.fileno()

    def send(self, head: bytes, body: bytes) -> int:
        """Send a fire if the line has room for it.

        Returns:
            How many bytes are to be `settled` once it is answered; 0 if it was not sent.
        """
        size = len(head) + len(body)
        if self._unanswered + size > MAX_UNANSWERED_BYTES or not self._open():
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
        found: list[list[bytes]] = []
        while self._socket is not None:
            try:
                data = self._socket.recv(RECEIVE_BYTES)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            found += [answer_parts(head, body) for head, body in self._inbox.add(data)]
            if not data or self._inbox.error:
                self._cut()
            elif len(data) < RECEIVE_BYTES:
                break
        return found

    def close(self) -> None:
        """Close everything; a copy of it in a forked child too."""
        self._cut()
        self._epoll.close()

    def _open(self) -> bool:
        if self._socket is not None:
            return True
        sock = connect(self._path)
        if sock is None:
            return False
        self._inbox = Inbox(MAX_ANSWER_BYTES)
        self._epoll.register(sock, select.EPOLLIN)
        self._socket = sock
        return True

    def _cut(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError, ValueError):
                self._epoll.unregister(self._socket)
            self._socket.close()
            self._socket = None
            self._unanswered = 0
