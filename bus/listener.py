"""The listening half of a connection to a bus: from a known number on, nothing unnoticed."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import zmq

from bus import frames
from bus.errors import WireError
from bus.sockets import (
    Socket,
    close,
    connect,
    disconnect,
    is_listening,
    not_running,
    poll_until,
    receive_pair,
    reconnect,
    skip_rest,
)

QUEUE = 20_000
"""Events that wait in this process before the bus is slowed into dropping for this listener."""

_LONG = QUEUE // 2
_LARGE = 16 << 20
"""So many events, or bytes, without a moment of quiet may have been more than the queues took."""


class Heard(NamedTuple):
    r"""One published event, still packed.

    Attributes:
        wire: ``tag + "\n\n" + msgpack``; empty for a mark, which only says where the bus stands.
        seq: the event's number; for a mark, that of the last event before it.
        bus_id: which numbering this is.
    """

    wire: bytes
    seq: int
    bus_id: str


class Listener:
    """Hears what a bus publishes. For one thread at a time.

    After a broken connection the bus sends a mark again, and after a long run of events one is
    asked for, so a listener that compares numbers knows of every event that it did not hear, the
    last one before a silence too.

    Args:
        address: where the bus publishes, see `bus.endpoints`.
        prefixes: the beginnings of the tags to hear; an empty one hears everything.
    """

    def __init__(self, address: str, prefixes: Iterable[str] = ("",)) -> None:
        self.address = address
        self.bus_id = ""
        self.socket: Socket = connect(zmq.SUB, address, queue=QUEUE)
        self._backlog: deque[Heard] = deque()
        for prefix in prefixes:
            self.socket.subscribe(prefix.encode())
        self._sync = b""
        self._away = False
        self._run = self._run_size = 0
        self._ask()
        self._asked = True

    def subscribe(self, prefix: str) -> None:
        """Hear also the tags that begin with ``prefix``, from about now on."""
        self.socket.subscribe(prefix.encode())

    def unsubscribe(self, prefix: str) -> None:
        """Take back one `subscribe`."""
        self.socket.unsubscribe(prefix.encode())

    def wait_ready(self, timeout: float = 1.0) -> int:
        """Wait until the subscriptions are in force. It can be called again after `subscribe`.

        Returns:
            The number of the last event before that.

        Raises:
            NotRunningError: no bus answered within ``timeout`` seconds.
            ListenerLimitError: the bus has no room for this listener, which hears nothing then;
                it can be tried again.
        """
        marks: list[Heard] = []
        self._come_back()
        if not self._asked:
            self._ask()

        def turn() -> bool:
            while not marks and (heard := self._read()):
                if heard.wire:
                    self._backlog.append(heard)
                else:
                    marks.append(heard)
            return bool(marks)

        if not is_listening(self.address) and not _appears(self.address, timeout):
            raise not_running(self.address)
        if not poll_until(self.socket, time.monotonic() + timeout, turn):
            raise not_running(self.address)
        self._asked = False
        # What came before the mark did not yet know whose numbers it has.
        self._backlog = deque(Heard(one.wire, one.seq, self.bus_id) for one in self._backlog)
        return marks[0].seq

    def receive(self, timeout: float | None = None) -> Heard | None:
        """Return the next event or mark, or None at the time-out.

        Args:
            timeout: seconds; 0 only looks, None waits for ever.
        """
        if self._backlog:
            return self._backlog.popleft()
        heard = self._read()
        if heard or timeout == 0:
            return heard
        found: list[Heard] = []

        def turn() -> bool:
            heard = self._read()
            if heard:
                found.append(heard)
            return heard is not None

        deadline = None if timeout is None else time.monotonic() + timeout
        poll_until(self.socket, deadline, turn)
        return found[0] if found else None

    def close(self) -> None:
        """Close the connection."""
        close(self.socket)

    def _ask(self) -> None:
        """Have the bus send a mark once all subscriptions so far are in force."""
        if self._sync:
            self.socket.unsubscribe(self._sync)
        self._sync = frames.SYNC + os.urandom(8).hex().encode()
        self.socket.subscribe(self._sync)

    def _read(self) -> Heard | None:
        while True:
            pair = receive_pair(self.socket)
            if pair is None:
                self._after_run()
                return None
            self._run += 1
            self._run_size += len(pair[0])
            heard = self._decode(*pair)
            if heard:
                return heard

    def _after_run(self) -> None:
        """Ask where the bus stands if the last of a long run of events may have been dropped."""
        if (self._run >= _LONG or self._run_size >= _LARGE) and not self.socket.closed:
            self._ask()
        self._run = self._run_size = 0

    def _decode(self, event: bytes, place: bytes) -> Heard | None:
        try:
            seq, bus_id = frames.unpack_place(place)
        except WireError:
            skip_rest(self.socket)
            return None
        if not event.startswith(frames.SYNC):
            return Heard(event, seq, self.bus_id)
        if not event.startswith(self._sync):
            return None  # who hears everything hears the marks of other listeners too
        try:
            refusal = frames.refusal_in(event)
        except WireError:
            return None
        if refusal:
            self._leave()
            raise refusal
        self.bus_id = bus_id
        return Heard(b"", seq, bus_id)

    def _leave(self) -> None:
        """Hear nothing more: a bus that has no room for us is not to work for us either."""
        disconnect(self.socket, self.address)
        self._away = True

    def _come_back(self) -> None:
        """Ask a bus that had no room whether it has by now."""
        if self._away:
            reconnect(self.socket, self.address)
            self._away = False


def _appears(address: str, timeout: float) -> bool:
    """Wait briefly for a socket file: a server that is just starting is worth a moment."""
    deadline = time.monotonic() + min(timeout, 0.2)
    while time.monotonic() < deadline:
        if is_listening(address):
            return True
        time.sleep(0.01)
    return False
