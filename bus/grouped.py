"""Listening over ZeroMQ: for a bus on loopback ports, or a system without the direct line."""

from __future__ import annotations

import logging
import math
import os
import time
from collections import deque

import zmq

from bus import frames
from bus.errors import WireError
from bus.listener import Heard, Listener
from bus.sockets import (
    Socket,
    appears,
    await_input,
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


class GroupListener(Listener):
    """A listener to the XPUB socket of a bus that publishes events in groups.

    After a broken connection the bus sends a mark again, and after many events one is asked for, so
    a listener knows of every event that it did not hear, the last one before a silence too.

    Args:
        address: where the bus publishes, see `bus.endpoints`.
        prefix: the beginning of the tags to hear; empty for everything, None for nothing.
    """

    def __init__(self, address: str, prefix: str | None = "") -> None:
        self.address = address
        self.bus_id = ""
        self._socket: Socket = connect(zmq.SUB, address, queue=QUEUE)
        self._prefix = (prefix or "").encode()
        self._topic = frames.topic_of(self._prefix)
        if prefix is not None:
            self._socket.subscribe(self._topic)
        self._backlog: deque[Heard] = deque()
        self._name, self._asks = os.urandom(6).hex(), 0
        self._sync = b""
        self._away = False
        self._pieces = frames.Pieces()
        self._sent = 0
        self._unconfirmed = 0
        self._ask()
        self._asked = True

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._socket.closed

    @property
    def socket(self) -> Socket:
        """What to poll among other things."""
        return self._socket

    def wait_ready(self, timeout: float = 1.0) -> int:
        """See `Listener.wait_ready`."""
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

        if not is_listening(self.address) and not appears(self.address, timeout):
            raise not_running(self.address)
        if not poll_until(self._socket, time.monotonic() + timeout, turn):
            self._forget_question()
            raise not_running(self.address)
        self._asked = False
        # What came before the mark did not yet know whose numbers it has.
        self._backlog = deque(one._replace(bus_id=self.bus_id) for one in self._backlog)
        return marks[0].seq

    def read(self) -> Heard | None:
        """See `Listener.read`."""
        return self._backlog.popleft() if self._backlog else self._read()

    @property
    def has_read(self) -> bool:
        """Whether there is something that no longer waits in the socket."""
        return bool(self._backlog)

    def wait(self, seconds: float) -> None:
        """See `Listener.wait`; it ends too when the bus can be asked where it stands."""
        if self._unconfirmed >= _DOUBT:
            seconds = min(seconds, max(0.0, self._asked_at + _ASK_AFTER - time.monotonic()))
        await_input(self._socket, -1 if seconds == math.inf else int(seconds * 1000) + 1)

    def close(self) -> None:
        """See `Listener.close`."""
        close(self._socket)

    def _ask(self) -> None:
        """Have the bus send a mark once all subscriptions so far are in force."""
        before, self._asks = self._sync, (self._asks + 1) & 0xFFFF
        self._sync = frames.sync_topic(f"{self._name}{self._asks:04x}", self._prefix)
        self._socket.subscribe(self._sync)
        if before:
            self._socket.unsubscribe(before)
        self._unconfirmed = 0
        self._asked_at = time.monotonic()

    def _read(self) -> Heard | None:
        while True:
            pair = receive_pair(self._socket)
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
        if not self._socket.closed:
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
        skip_rest(self._socket)
        return None

    def _heard(self, group: frames.Group) -> Heard:
        numbers, events = frames.unpack_group(group, chosen=bool(self._prefix))
        lost = self._count(group.sent, group.size) if self._prefix else 0
        return Heard(events, numbers, group.last, self.bus_id, lost)

    def _count(self, sent: int, heard: int) -> int:
        """Return how many events are missing, by how many the bus says that there were."""
        before, self._sent = self._sent, sent
        return frames.missing(before, sent, heard)

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
        disconnect(self._socket, self.address)
        self._away = True
        self._forget_question()

    def _forget_question(self) -> None:
        """Ask anew the next time: under a topic that a bus has heard already there is no answer."""
        if self._sync:
            self._socket.unsubscribe(self._sync)
        self._sync, self._asked = b"", False

    def _come_back(self) -> None:
        """Ask a bus that had no room whether it has by now."""
        if self._away:
            reconnect(self._socket, self.address)
            self._away = False
