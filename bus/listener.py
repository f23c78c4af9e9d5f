"""The listening half of a connection to a bus: from a known number on, nothing unnoticed."""

from __future__ import annotations

import logging
import math
import os
import time
from collections import deque
from collections.abc import Sequence
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

log = logging.getLogger(__name__)

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


class Listener:
    """Hears what a bus publishes. For one thread at a time.

    After a broken connection the bus sends a mark again, and after many events one is asked for, so
    a listener knows of every event that it did not hear, the last one before a silence too.

    Args:
        address: where the bus publishes events in groups, see `bus.endpoints`.
        prefix: the beginning of the tags to hear; empty for everything, None for nothing.
    """

    def __init__(self, address: str, prefix: str | None = "") -> None:
        self.address = address
        self.bus_id = ""
        self.socket: Socket = connect(zmq.SUB, address, queue=QUEUE)
        self._prefix = (prefix or "").encode()
        self._topic = frames.topic_of(self._prefix)
        if prefix is not None:
            self.socket.subscribe(self._topic)
        self._backlog: deque[Heard] = deque()
        self._sync = b""
        self._away = False
        self._pieces = frames.Pieces()
        self._sent = 0
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
            self._forget_question()
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
        self._sync = frames.sync_topic(os.urandom(8).hex(), self._prefix)
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

    def _decode(self, head: bytes, place: bytes) -> Heard | None:
        try:
            if head.startswith(frames.SYNC):
                return self._take_mark(head, place) if head.startswith(self._sync) else None
            if frames.is_published(place) and head.startswith(self._topic):
                group = self._pieces.add(head[len(self._topic) :], place)
                return self._heard(group) if group else None
        except WireError as error:
            log.warning("what the bus at %s publishes cannot be read: %s", self.address, error)
            return None
        skip_rest(self.socket)
        return None

    def _heard(self, group: frames.Group) -> Heard:
        numbers, events = frames.unpack_group(group, chosen=bool(self._prefix))
        lost = self._count(group.sent, group.size) if self._prefix else 0
        return Heard(events, numbers, group.last, self.bus_id, lost)

    def _count(self, sent: int, heard: int) -> int:
        """Return how many events are missing, by how many the bus says that it has sent."""
        before, self._sent = self._sent, sent
        same_run = before >> frames.RUN_BITS == sent >> frames.RUN_BITS  # else it counts anew
        return max(0, sent - heard - before) if before and same_run else 0

    def _take_mark(self, mark: bytes, place: bytes) -> Heard | None:
        seq, bus_id = frames.unpack_place(place)
        refusal, sent = frames.read_mark(mark[len(self._sync) :])
        if refusal:
            self._leave()
            raise refusal
        self.bus_id = bus_id
        self._unconfirmed = 0
        return Heard((), (), seq, bus_id, self._count(sent, 0) if sent else 0)

    def _leave(self) -> None:
        """Hear nothing more: a bus that has no room for us is not to work for us either."""
        disconnect(self.socket, self.address)
        self._away = True
        self._forget_question()

    def _forget_question(self) -> None:
        """Ask anew the next time: under a topic that a bus has heard already there is no answer."""
        if self._sync:
            self.socket.unsubscribe(self._sync)
        self._sync, self._asked = b"", False

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
