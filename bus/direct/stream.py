"""A connection to a server's direct line for one who never waits."""

from __future__ import annotations

import contextlib
import select
import socket
from pathlib import Path

from bus.direct.connecting import connect
from bus.direct.framing import RECEIVE_BYTES, Inbox


class Stream:
    """A connection that comes and goes, behind a descriptor that stays. For one thread.

    Args:
        path: the server's socket, which need not be there yet.
        limit: the longest second part of a message in bytes.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self._path = path
        self._limit = limit
        self._socket: socket.socket | None = None
        self._inbox = Inbox(limit)
        self._epoll = select.epoll()

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._socket is not None

    def fileno(self) -> int:
        """The descriptor to poll for input."""
        return self._epoll.fileno()

    def open(self) -> bool:
        """Connect if that is still to be done; say whether a server is there."""
        if self._socket is None:
            self._socket = connect(self._path)
            if self._socket is None:
                return False
            self._inbox = Inbox(self._limit)
            self._epoll.register(self._socket, select.EPOLLIN)
        return True

    def messages(self) -> list[tuple[bytes, bytes]]:
        """Return the messages that are there."""
        found: list[tuple[bytes, bytes]] = []
        while self._socket is not None:
            try:
                data = self._socket.recv(RECEIVE_BYTES)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            found += self._inbox.add(data)
            if not data or self._inbox.error:
                self._cut()
            elif len(data) < RECEIVE_BYTES:
                break
        return found

    def close(self) -> None:
        """Close everything; a copy of it in a forked child too."""
        self._cut()
        self._epoll.close()

    def _cut(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError, ValueError):
                self._epoll.unregister(self._socket)
            self._socket.close()
            self._socket = None
