"""Questions over plain UNIX sockets, with the messages of the direct line.

Not ZeroMQ, which ends a process that has no descriptor left to take a local connection with:
the servers of network ports are asked here, and strangers can take their descriptors.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from bus import frames
from bus.complaints import Complaints
from bus.direct import framing
from bus.direct.connecting import try_connect
from bus.direct.framing import RECEIVE_BYTES, Inbox
from bus.direct.serving import Client, DirectSocket
from bus.direct.stream import Stream
from bus.endpoints import line_address
from bus.errors import BusError, NotRunningError
from bus.lock import DirectoryLock
from bus.rpc.base import (
    GRACE_SECONDS,
    MAX_CALL_BYTES,
    MAX_CALLS_PER_TURN,
    Caller,
    Connection,
    Server,
    too_late,
    value_of,
)
from bus.rpc.methods import Methods, answer_frames
from bus.sockets import is_listening, not_running, shown

MAX_WAITING_BYTES: Final = 64 << 20
"""Answers that may wait for a client that reads them slowly; beyond that it is cut off."""

MAX_ANSWER_BYTES: Final = (1 << 32) - 1
"""What a server of ours answers is not the client's to refuse."""

_MAX_UNSENT: Final = 8 << 20
"""Questions that wait in a caller for a busy server; what comes after is asked again later."""

_LOOK_SECONDS: Final = 0.02


class LineServer(Server):
    """Answers calls at a UNIX socket.

    Args:
        path: where to bind.
        methods: what can be called.
        complaints: counts what is malformed or fails.

    Raises:
        AlreadyRunningError: another server has this socket.
        BusError: the path cannot be bound.
    """

    def __init__(self, path: Path, methods: Methods, complaints: Complaints) -> None:
        self._methods = methods
        self._complaints = complaints
        self._lock = DirectoryLock.for_address(line_address(path))
        try:
            self._direct = DirectSocket(
                path, MAX_CALL_BYTES, MAX_WAITING_BYTES, complaints, _Nobody()
            )
        except BusError:
            self._lock.release()
            raise

    @property
    def socket(self) -> int:
        """See `Server.socket`."""
        return self._direct.fileno()

    def handle(self) -> None:
        """See `Server.handle`."""
        taken = 0
        for client, messages in self._direct.receive():
            for head, body in messages:
                self._answer(client, head, body)
            taken += len(messages)
            if taken >= MAX_CALLS_PER_TURN:
                break

    def _answer(self, client: Client, head: bytes, body: bytes) -> None:
        answer = answer_frames(self._methods, framing.call_parts(head, body), self._complaints)
        if answer:
            client.post_always(framing.reply_message(answer))

    def close(self) -> None:
        """See `Server.close`."""
        self._direct.close()
        self._lock.release()


class _Nobody:
    """Who need not be told of clients."""

    def leave(self, client: Client) -> None:
        """A client has gone."""

    def drained(self, client: Client) -> None:
        """A client that lost events has read all that it had."""


class LineConnection(Connection):
    """A connection for one call at a time.

    Args:
        path: the server's socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._address = line_address(path)
        self._socket: socket.socket | None = None
        self._pid = os.getpid()

    def call(
        self, method: str, params: Mapping[str, Any] | None = None, timeout: float = 5.0
    ) -> Any:
        """See `Connection.call`."""
        ident = os.urandom(8)
        question = framing.call_message(frames.call(ident, method, dict(params or {})))
        deadline = time.monotonic() + timeout
        if not is_listening(self._address):
            self.close()
            raise not_running(self._address)
        try:
            answer = self._await_answer(self._send(question, deadline), ident, deadline)
        except TimeoutError as error:
            self.close()
            raise too_late(self._address, timeout) from error
        except ConnectionError as error:
            self.close()
            raise NotRunningError(
                f"the server at {shown(self._address)} hung up before it answered: it was ended, "
                "or it has no descriptor left; its log and 'reactor status' say more"
            ) from error
        except BaseException:  # Ctrl-C, too: it may have cut a message in two
            self.close()
            raise
        return value_of(answer)

    def close(self) -> None:
        """See `Connection.close`."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def _send(self, question: bytes, deadline: float) -> socket.socket:
        """Send the question; over a new connection if the server has left the one that was kept."""
        if self._socket is not None and self._pid == os.getpid():
            with contextlib.suppress(ConnectionError):  # nobody has read the question
                return _send_all(self._socket, question, deadline)
        self.close()
        self._socket, self._pid = self._connect(deadline), os.getpid()
        return _send_all(self._socket, question, deadline)

    def _connect(self, deadline: float) -> socket.socket:
        """Connect; a server that was killed has a moment to come back, a busy one all the time."""
        grace = time.monotonic() + GRACE_SECONDS
        while True:
            try:
                return try_connect(self._path)
            except BlockingIOError:  # its queue of new clients is full
                now, until = time.monotonic(), deadline
            except OSError as error:
                now, until = time.monotonic(), min(grace, deadline)
                if now >= until:
                    raise not_running(self._address) from error
            if now >= until:
                raise TimeoutError
            time.sleep(_LOOK_SECONDS)

    def _await_answer(self, sock: socket.socket, ident: bytes, deadline: float) -> list[bytes]:
        inbox = Inbox(MAX_ANSWER_BYTES)
        while True:
            _wait_until(sock, deadline)
            data = sock.recv(RECEIVE_BYTES)
            messages = inbox.add(data)
            if not data or inbox.error:
                raise ConnectionAbortedError
            for head, body in messages:
                parts = framing.reply_parts(head, body)
                if parts[1] == ident:
                    return parts


def _wait_until(sock: socket.socket, deadline: float) -> None:
    """Have the socket's operations end with a `TimeoutError` at the deadline."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    sock.settimeout(left)


def _send_all(sock: socket.socket, data: bytes, deadline: float) -> socket.socket:
    _wait_until(sock, deadline)
    sock.sendall(data)
    return sock


class LineCaller(Caller):
    """A connection for many calls at once.

    Args:
        path: the server's socket, which need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._stream = _Asking(path)

    @property
    def socket(self) -> int:
        """See `Caller.socket`."""
        return self._stream.fileno()

    def tick(self) -> None:
        """See `Caller.tick`; a server that is back is asked at once."""
        if self._open and not self._stream.is_open and self._stream.open():
            for ident in list(self._open):
                self._ask(ident)
        super().tick()

    def close(self) -> None:
        """See `Caller.close`."""
        super().close()
        self._stream.close()

    def _send(self, parts: list[bytes]) -> None:
        self._stream.send(framing.call_message(parts))

    def _receive(self) -> Iterator[list[bytes]]:
        for head, body in self._stream.receive():
            yield framing.reply_parts(head, body)


class _Asking(Stream):
    """A connection over which questions go out, as fast as the server reads them."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, MAX_ANSWER_BYTES)
        self._unsent: deque[memoryview] = deque()
        self._unsent_bytes = 0

    def send(self, data: bytes) -> None:
        """Send a message, now or when there is room; nothing if there is no server or no room."""
        is_full = self._unsent and self._unsent_bytes + len(data) > _MAX_UNSENT
        if is_full or not self.open():
            return
        self._unsent.append(memoryview(data))
        self._unsent_bytes += len(data)
        if len(self._unsent) == 1:
            self._flush()
            if self._socket is not None and self._unsent:
                self._epoll.modify(self._socket, select.EPOLLIN | select.EPOLLOUT)

    def receive(self) -> list[tuple[bytes, bytes]]:
        """Return the messages that are there, and send what waits."""
        if self._unsent:
            self._flush()
            if self._socket is not None and not self._unsent:
                self._epoll.modify(self._socket, select.EPOLLIN)
        return self.messages()

    def _flush(self) -> None:
        assert self._socket is not None
        try:
            while self._unsent:
                sent = self._socket.send(self._unsent[0])
                self._unsent_bytes -= sent
                if sent < len(self._unsent[0]):
                    self._unsent[0] = self._unsent[0][sent:]
                    return
                self._unsent.popleft()
        except BlockingIOError:
            pass
        except OSError:
            self._cut()

    def _cut(self) -> None:
        super()._cut()
        self._unsent.clear()
        self._unsent_bytes = 0
