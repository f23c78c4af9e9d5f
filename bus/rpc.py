"""One question, one answer: what servers can be asked over their local sockets."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import zmq

from bus import frames, wire
from bus.complaints import Complaints
from bus.errors import AnswerTimeoutError, BusError, NotRunningError, RemoteError, WireError
from bus.frames import Call
from bus.lock import DirectoryLock
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
    shown,
)

log = logging.getLogger(__name__)

MAX_CALLS_PER_TURN = 1000

_GRACE = 0.5
"""Seconds that a server has to come back after it was killed, before it is said to be gone."""

Methods = Mapping[str, Callable[[dict[str, Any]], Any]]


def answer(methods: Methods, call: Call, complaints: Complaints) -> list[bytes]:
    """Return the frames that answer a call; ``complaints`` hears of a method that failed."""
    method = methods.get(call.method)
    if method is None:
        return frames.failed(call.ident, RemoteError(f"no method {call.method[:80]!r}"))
    try:
        return frames.result(call.ident, method(call.params))
    except BusError as error:
        return frames.failed(call.ident, error)
    except Exception as error:  # the boundary of a request: a server outlives a faulty method
        text = f"the method {call.method} failed: {error!r}"
        complaints.add("failed_calls", text, level=logging.ERROR, trace=True)
        return frames.failed(call.ident, RemoteError(f"{type(error).__name__}: {error}"))


class Server:
    """A ROUTER that answers calls, for a loop that polls its socket.

    Args:
        address: where to bind.
        methods: what can be called.
        context_: the ZeroMQ context, if not this process's own.
        complaints: counts what is malformed or fails.

    Raises:
        AlreadyRunningError: another server has this socket.
        BusError: the address cannot be bound.
    """

    def __init__(
        self,
        address: str,
        methods: Methods,
        context_: zmq.Context[Socket] | None = None,
        complaints: Complaints | None = None,
    ) -> None:
        self._lock = DirectoryLock.for_address(address)
        self.socket: Socket = (context_ or context()).socket(zmq.ROUTER)
        self.socket.set(zmq.MAXMSGSIZE, 8 << 20)
        self._address = address
        self._methods = methods
        self._complaints = complaints or Complaints()
        try:
            bind(self.socket, address)
        except BusError:
            self.close()
            raise

    def handle(self) -> None:
        """Answer what waits, a bounded number so that a flood does not keep the loop here."""
        for _ in range(MAX_CALLS_PER_TURN):
            try:
                client, *rest = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._answer(client, rest)

    def _answer(self, client: bytes, rest: list[bytes]) -> None:
        try:
            request = frames.parse_request(rest)
        except WireError as error:
            self._complaints.add("malformed", f"refused a malformed call: {error}")
            return
        if not isinstance(request, Call):
            self._complaints.add("malformed", "refused an event: this socket takes calls only")
            return
        parts = [client, *answer(self._methods, request, self._complaints)]
        try:
            self.socket.send_multipart(parts, zmq.NOBLOCK)
        except zmq.ZMQError:
            log.debug("a caller went away before its answer")

    def close(self) -> None:
        """Close the socket and let another server have it."""
        close_bound(self.socket, self._address)
        self._lock.release()


def call(
    address: str, method: str, params: Mapping[str, Any] | None = None, timeout: float = 5.0
) -> Any:
    """Ask the server at ``address`` and return its answer.

    Args:
        address: a ZeroMQ address, see `bus.endpoints`.
        method: the method's name.
        params: what it needs.
        timeout: seconds to wait.

    Raises:
        NotRunningError: nothing listens there.
        AnswerTimeoutError: no answer within ``timeout``.
        BusError: what the server says went wrong.
    """
    with contextlib.closing(Connection(address)) as connection:
        return connection.call(method, params, timeout)


class Connection:
    """A connection that is kept from call to call. For one thread; a forked child connects anew.

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
        """Ask the server and return its answer: arguments and errors are those of `call`."""
        if not is_listening(self._address):
            self.close()
            raise not_running(self._address)
        ident = os.urandom(8)
        request = frames.call(ident, method, dict(params or {}))
        try:
            socket = self._open(timeout)
            socket.send_multipart(request)
            return _await_answer(socket, ident, self._address, timeout)
        except (AnswerTimeoutError, NotRunningError):
            # What was not answered must not reach a server that comes back much later.
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; a call opens it again."""
        if self._pid == os.getpid():
            close(self._socket)
        self._socket = None

    def _open(self, timeout: float) -> Socket:
        if self._socket is None or self._pid != os.getpid():
            if _stays_refused(self._address, min(timeout, _GRACE)):
                raise not_running(self._address)
            self._socket, self._pid = connect(zmq.DEALER, self._address), os.getpid()
        return self._socket


def _stays_refused(address: str, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while is_refused(address):
        if time.monotonic() >= deadline:
            return True
        time.sleep(0.02)
    return False


def _await_answer(socket: Socket, ident: bytes, address: str, timeout: float) -> Any:
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
        if timeout < 1:
            raise not_running(address)
        raise AnswerTimeoutError(
            f"no answer from {shown(address)} within {timeout:g} s: "
            "is the server running and not overloaded? see 'reactor status'"
        )
    kind, _, value, *more = found[0]
    if kind == frames.FAILED and more:
        raise frames.parse_error(value, more[0])
    return wire.unpack(value)


OnReply = Callable[[Any, BusError | None], None]
"""Told the answer of a call, or what went wrong."""


class Caller:
    """Asks one server many things without waiting, for a loop that polls its socket.

    A call without an answer is asked again with the same id until it is answered or abandoned:
    a server that restarts is waited for, and methods that must not run twice take a ``key``.
    """

    RESEND_AFTER = 1.0
    """Seconds without an answer after which a call is asked again."""

    def __init__(self, address: str) -> None:
        self.socket: Socket = connect(zmq.DEALER, address)
        self._open: dict[bytes, tuple[list[bytes], OnReply]] = {}
        self._asked: dict[bytes, float] = {}

    @property
    def pending(self) -> int:
        """How many calls have no answer yet."""
        return len(self._open)

    def call(self, method: str, params: Mapping[str, Any], on_reply: OnReply) -> None:
        """Ask without waiting; `handle` tells ``on_reply``."""
        ident = os.urandom(8)
        parts = frames.call(ident, method, dict(params))
        self._open[ident] = (parts, on_reply)
        self._send(ident, parts)

    def handle(self) -> None:
        """Read the answers that wait."""
        while True:
            try:
                parts = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if len(parts) > 2 and parts[1] in self._open:
                self._finish(parts)

    def tick(self) -> None:
        """Ask again what has waited too long. To be called every now and then."""
        due = time.monotonic() - self.RESEND_AFTER
        for ident in [ident for ident, asked in self._asked.items() if asked < due]:
            self._send(ident, self._open[ident][0])

    def close(self) -> None:
        """Close the connection."""
        close(self.socket)
        self._open.clear()
        self._asked.clear()

    def _send(self, ident: bytes, parts: list[bytes]) -> None:
        self._asked[ident] = time.monotonic()
        try:
            self.socket.send_multipart(parts, zmq.NOBLOCK)
        except zmq.Again:
            log.debug("a call waits to be sent again")

    def _finish(self, parts: list[bytes]) -> None:
        kind, ident, value, *more = parts
        _, on_reply = self._open.pop(ident)
        self._asked.pop(ident, None)
        if kind == frames.FAILED and more:
            on_reply(None, frames.parse_error(value, more[0]))
            return
        try:
            result = wire.unpack(value)
        except WireError as error:
            on_reply(None, error)
        else:
            on_reply(result, None)
