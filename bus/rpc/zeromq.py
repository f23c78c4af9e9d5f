"""Questions over ZeroMQ: to a bus's ROUTER, and to every server where there are only ports."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

import zmq

from bus import frames
from bus.complaints import Complaints
from bus.errors import BusError
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
from bus.sockets import (
    Socket,
    bind,
    close,
    close_bound,
    connect,
    context,
    is_listening,
    is_refused,
    not_running,
    poll_until,
)

log = logging.getLogger(__name__)


class ZmqServer(Server):
    """A ROUTER that answers calls.

    Args:
        address: where to bind.
        methods: what can be called.
        complaints: counts what is malformed or fails.

    Raises:
        AlreadyRunningError: another server has this socket.
        BusError: the address cannot be bound.
    """

    def __init__(self, address: str, methods: Methods, complaints: Complaints) -> None:
        self._lock = DirectoryLock.for_address(address)
        self._socket: Socket = context().socket(zmq.ROUTER)
        self._socket.set(zmq.MAXMSGSIZE, MAX_CALL_BYTES)
        self._address = address
        self._methods = methods
        self._complaints = complaints
        try:
            bind(self._socket, address)
        except BusError:
            self.close()
            raise

    @property
    def socket(self) -> Socket:
        """See `Server.socket`."""
        return self._socket

    def handle(self) -> None:
        """See `Server.handle`."""
        for _ in range(MAX_CALLS_PER_TURN):
            try:
                client, *parts = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            answer = answer_frames(self._methods, parts, self._complaints)
            if answer:
                self._send([client, *answer])

    def _send(self, parts: list[bytes]) -> None:
        try:
            self._socket.send_multipart(parts, zmq.NOBLOCK)
        except zmq.ZMQError:
            log.debug("a caller went away before its answer")

    def close(self) -> None:
        """See `Server.close`."""
        close_bound(self._socket, self._address)
        self._lock.release()


class ZmqConnection(Connection):
    """A DEALER for one call at a time.

    Args:
        address: a ZeroMQ address, see `bus.endpoints`.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._socket: Socket | None = None
        self._pid = os.getpid()

    def call(
        self, method: str, params: Mapping[str, Any] | None = None, timeout: float = 5.0
    ) -> Any:
        """See `Connection.call`."""
        if not is_listening(self._address):
            self.close()
            raise not_running(self._address)
        ident = os.urandom(8)
        request = frames.call(ident, method, dict(params or {}))
        try:
            socket = self._open(timeout)
            socket.send_multipart(request)
            answer = self._await_answer(socket, ident, timeout)
        except BaseException:
            # What was not answered must not reach a server that comes back much later, and of
            # what Ctrl-C cut in two the next question must not become the other half.
            self.close()
            raise
        return value_of(answer)

    def close(self) -> None:
        """See `Connection.close`."""
        if self._pid == os.getpid():
            close(self._socket)
        self._socket = None

    def _open(self, timeout: float) -> Socket:
        if self._socket is None or self._pid != os.getpid():
            if _stays_refused(self._address, min(timeout, GRACE_SECONDS)):
                raise not_running(self._address)
            self._socket, self._pid = connect(zmq.DEALER, self._address), os.getpid()
        return self._socket

    def _await_answer(self, socket: Socket, ident: bytes, timeout: float) -> list[bytes]:
        found: list[list[bytes]] = []

        def take() -> bool:
            while not found:
                try:
                    parts = socket.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    return False
                if len(parts) > 2 and parts[1] == ident:
                    found.append(parts)
            return True

        if not poll_until(socket, time.monotonic() + timeout, take):
            raise too_late(self._address, timeout)
        return found[0]


def _stays_refused(address: str, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while is_refused(address):
        if time.monotonic() >= deadline:
            return True
        time.sleep(0.02)
    return False


class ZmqCaller(Caller):
    """A DEALER for many calls at once."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._socket: Socket = connect(zmq.DEALER, address)

    @property
    def socket(self) -> Socket:
        """See `Caller.socket`."""
        return self._socket

    def close(self) -> None:
        """See `Caller.close`."""
        super().close()
        close(self._socket)

    def _send(self, parts: list[bytes]) -> None:
        with contextlib.suppress(zmq.Again):  # sent again in a while
            self._socket.send_multipart(parts, zmq.NOBLOCK)

    def _receive(self) -> Iterator[list[bytes]]:
        while True:
            try:
                yield self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
