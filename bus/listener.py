"""The listening half of a connection to a bus: from a known number on, nothing unnoticed."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Iterable, Sequence
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
"""Messages that wait in this process before some wait in the bus, which drops beyond its limit."""

_DOUBT = 16
"""Messages after which, in a moment of quiet, the bus is asked where it stands: the last ones may
have been dropped. No queue of a bus can be shorter."""

_ASK_AFTER = 0.25
"""Seconds between two such questions."""


class Heard(NamedTuple):
    r"""What was published together, still packed.

    Attributes:
        events: each ``tag + "\n\n" + msgpack``; none for a mark, which only says where the bus
            stands.
        seq: the number of the last one; for a mark, that of the last event before it.
        bus_id: which numbering this is.
    """

    events: Sequence[bytes]
    seq: int
    bus_id: str

    @property
    def before(self) -> int:
        """The number before that of the first event."""
        return self.seq - len(self.events)


def everything(address: str) -> Listener:
    """Return a listener to all events, many together.

    Args:
        address: where the bus publishes fires.
    """
    return Listener(address)


class Listener:
    """Hears what a bus publishes. For one thread at a time.

    After a broken connection the bus sends a mark again, and after many events one is asked for, so
    a listener that compares numbers knows of every event that it did not hear, the last one before
    a silence too.

    Args:
        address: where the bus publishes single events or fires, see `bus.endpoints`.
        prefixes: the beginnings of the tags to hear; an empty one hears everything. Fires are
            not chosen by their tags: where they are published, hear everything or nothing.
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
        self._pieces = frames.Pieces()
        self._unconfirmed = 0
        self._ask()
        self._asked = True

    def wait_ready(self, timeout: float = 1.0) -> int:
        """Wait until the subscriptions are in force. It can be called again.

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
                if heard.events:
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
        self._backlog = deque(one._replace(bus_id=self.bus_id) for one in self._backlog)
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

        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while not poll_until(self.socket, self._wake_at(deadline), turn):
            if time.monotonic() >= deadline:
                return None
        return found[0]

    def _wake_at(self, deadline: float) -> float | None:
        """Return until when to wait at most: until the deadline, or until the bus can be asked."""
        wake = self._asked_at + _ASK_AFTER if self._unconfirmed >= _DOUBT else math.inf
        wake = min(wake, deadline)
        return None if wake == math.inf else wake

    def close(self) -> None:
        """Close the connection."""
        close(self.socket)

    def _ask(self) -> None:
        """Have the bus send a mark once all subscriptions so far are in force."""
        if self._sync:
            self.socket.unsubscribe(self._sync)
        self._sync = frames.SYNC + os.urandom(8).hex().encode()
        self.socket.subscribe(self._sync)
        self._unconfirmed = 0
        self._asked_at = time.monotonic()

    def _read(self) -> Heard | None:
        while True:
            pair = receive_pair(self.socket)
            if pair is None:
                self._ask_if_in_doubt()
                return None
            self._unconfirmed += 1
            heard = self._decode(*pair)
            if heard:
                return heard

    def _ask_if_in_doubt(self) -> None:
        """Ask where the bus stands if the last of many events may have been dropped."""
        if self._unconfirmed < _DOUBT or time.monotonic() - self._asked_at < _ASK_AFTER:
            return
        if not self.socket.closed:
            self._ask()

    def _decode(self, body: bytes, place: bytes) -> Heard | None:
        try:
            if frames.is_published(place):
                found = self._pieces.add(body, place)
                return Heard(*found, self.bus_id) if found else None
            seq, bus_id = frames.unpack_place(place)
        except WireError:
            skip_rest(self.socket)
            return None
        if not body.startswith(frames.SYNC):
            return Heard((body,), seq, self.bus_id)
        # Who hears everything hears the marks of other listeners too. They come in order, so
        # they say the same to whoever has his own already, and save him a question.
        if body.startswith(self._sync) or self.bus_id:
            return self._take_mark(body, seq, bus_id)
        return None

    def _take_mark(self, mark: bytes, seq: int, bus_id: str) -> Heard | None:
        try:
            refusal = frames.refusal_in(mark)
        except WireError:
            return None
        if refusal and not mark.startswith(self._sync):
            return None
        if refusal:
            self._leave()
            raise refusal
        self.bus_id = bus_id
        self._unconfirmed = 0
        return Heard((), seq, bus_id)

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
