"""Lets connections in while there are descriptors for them; the others wait outside.

asyncio's own way in takes what it can get. When the last descriptor is gone it tries again two
thousand times a second, each with a trace in the log; meanwhile nobody is answered, and whoever
asks how this process is hears nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
import ssl
from collections.abc import Callable

from bus.complaints import Complaints

log = logging.getLogger(__name__)

RESERVE = 50
"""Descriptors that no connection gets: for files, for the bus, for who asks how we are."""

PAUSE_SECONDS = 0.5
"""Until it is looked again whether there are descriptors: connections that end give them back."""

_AT_ONCE = 100
"""Connections that are taken in one turn of the loop, which has others to serve too."""


class Door:
    """The way in of one listening socket.

    Args:
        listener: non-blocking; it stays the caller's.
        protocol: makes the protocol of a connection.
        context: for TLS, if there is any.
        handshake_seconds: until a connection has to be encrypted.
        complaints: says that connections have to wait.
    """

    def __init__(
        self,
        listener: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        *,
        context: ssl.SSLContext | None,
        handshake_seconds: float,
        complaints: Complaints,
    ) -> None:
        self._listener = listener
        self._protocol = protocol
        self._context = context
        self._handshake_seconds = handshake_seconds if context else None
        self._complaints = complaints
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._coming: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Let connections in from now on."""
        self._loop.add_reader(self._listener, self._let_in)

    def close(self) -> None:
        """Let nobody in any more; who is in stays."""
        self._loop.remove_reader(self._listener)
        if self._pause is not None:
            self._pause.cancel()
        for task in self._coming:
            task.cancel()

    def _let_in(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                if not has_room(self._listener):
                    self._wait("too few are left")
                    return
                sock, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._wait(str(error.strerror))
                return
            sock.setblocking(False)
            task = self._loop.create_task(self._connect(sock))
            self._coming.add(task)
            task.add_done_callback(self._coming.discard)

    async def _connect(self, sock: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._protocol,
                sock,
                ssl=self._context,
                ssl_handshake_timeout=self._handshake_seconds,
            )
        except OSError as error:  # an ssl.SSLError too: it goes, or does not speak TLS
            log.debug("a connection did not come about: %s", error)

    def _wait(self, why: str) -> None:
        self._loop.remove_reader(self._listener)
        self._pause = self._loop.call_later(PAUSE_SECONDS, self.open)
        self._complaints.add(
            "connections_wait",
            f"new connections wait until this process has descriptors for them ({why}): raise the "
            "limit (LimitNOFILE= of the service, or 'ulimit -n')",
        )


def has_room(listener: socket.socket) -> bool:
    """Say whether this process has more descriptors left than its reserve.

    Args:
        listener: any open socket.

    Raises:
        OSError: it has none.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return True
    # The system gives the lowest number that is free, so it says how many are taken at least.
    lowest = os.dup(listener.fileno())
    os.close(lowest)
    return lowest < limit - min(RESERVE, limit // 4)
