"""The publishing sockets: who listens there, and the marks that say where the numbering stands."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Sequence

import zmq

from bus import frames, wire
from bus.broker.choices import Choices
from bus.broker.limits import Listeners
from bus.complaints import Complaints
from bus.sockets import Socket, send_pair
from bus.store import Store

MAX_SUBSCRIPTIONS_PER_TURN = 1000

_WANTED, _UNWANTED = b"\x01", b"\x00"
"""What begins a message of a listener: it wants a topic, or no longer wants it."""

_SYNC_WANTED, _SYNC_UNWANTED = _WANTED + frames.SYNC, _UNWANTED + frames.SYNC


class Outlet(ABC):
    """An XPUB socket of a bus.

    Args:
        socket: not yet bound; it is the caller's to bind and close.
        queue: how many messages may wait for one listener. It never changes: if ZeroMQ lowers it
            for a listener that is there, that one may never be sent anything again (libzmq
            4.3.5: the reader reports what it has read by the old bound, and the writer waits
            for that report by the new one).
        listeners: those of all outlets of the bus together.
        store: says where the numbering stands.
        complaints: counts and says what is wrong.
    """

    def __init__(
        self,
        socket: Socket,
        queue: int,
        listeners: Listeners,
        store: Store,
        complaints: Complaints,
    ) -> None:
        self.socket = socket
        self._listeners = listeners
        self._store = store
        self._complaints = complaints
        socket.set(zmq.SNDHWM, queue)
        socket.set(zmq.MAXMSGSIZE, 8192)

    @abstractmethod
    def publish(self, events: Sequence[bytes], body: bytes) -> None:
        """Publish events; they are dropped for those whose queue is full.

        Args:
            events: those that the store has kept last.
            body: the same, packed as an array; empty if that is still to be done.
        """

    @abstractmethod
    def want(self, topic: bytes) -> None:
        """Somebody wants a topic that nobody wanted."""

    @abstractmethod
    def leave(self, topic: bytes) -> None:
        """Nobody wants a topic any more."""

    def sent(self, topic: bytes) -> int:  # noqa: ARG002 - for those that count
        """Return how many events there were for who asks with the mark ``topic``."""
        return 0

    def send(self, body: bytes, place: bytes) -> None:
        """Send one message."""
        send_pair(self.socket, body, place)

    def take_subscriptions(self) -> None:
        """Take note of who comes and goes."""
        for _ in range(MAX_SUBSCRIPTIONS_PER_TURN):
            try:
                message = self.socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._take_subscription(message)

    def _take_subscription(self, message: bytes) -> None:
        if message.startswith(_SYNC_WANTED):
            self._say_where(message[1:])
        elif message.startswith(_SYNC_UNWANTED):
            self._listeners.leave(frames.listener_of(message[1:]), message[1:])
        elif message.startswith(_WANTED):
            self.want(message[1:])
        elif message.startswith(_UNWANTED):
            self.leave(message[1:])
        else:
            self._complaints.add("malformed", "refused a message on the socket of listeners")

    def _say_where(self, topic: bytes) -> None:
        """Tell a listener from which number on its subscriptions are in force."""
        where = (topic, self._store.last_seq, self._store.bus_id)
        refusal = self._listeners.join(frames.listener_of(topic), topic)
        if refusal:
            self._complaints.add("refused_listeners", f"refused a listener: {refusal}")
            self.send(*frames.no_mark(*where, refusal))
        else:
            self.send(*frames.mark(*where, self.sent(topic)))


class SingleOutlet(Outlet):
    """Publishes each event by itself, as Salt does, for any ZeroMQ subscriber."""

    _wanted = 0

    def want(self, topic: bytes) -> None:
        """Somebody wants the tags that begin with ``topic``: how many such there are is enough."""
        del topic
        self._wanted += 1

    def leave(self, topic: bytes) -> None:
        """Nobody wants them any more."""
        del topic
        self._wanted -= 1

    def publish(self, events: Sequence[bytes], body: bytes) -> None:
        """Publish each event, if anybody listens here; ZeroMQ chooses for whom."""
        del body
        if self._wanted:
            send, pack = self.send, frames.pack_seq
            for seq, event in enumerate(events, self._store.last_seq - len(events) + 1):
                send(event, pack(seq))


class GroupOutlet(Outlet):
    """Publishes what came together in one message, for this library's listeners.

    What begins with a prefix that somebody wants is put together for all who want it, with a
    count, so that they too know how many they lost.
    """

    _wants_all = False

    def __init__(
        self,
        socket: Socket,
        queue: int,
        listeners: Listeners,
        store: Store,
        complaints: Complaints,
    ) -> None:
        super().__init__(socket, queue, listeners, store, complaints)
        self._choices = Choices(secrets.randbits(63 - frames.RUN_BITS))

    def want(self, topic: bytes) -> None:
        """Somebody wants everything, or what a prefix chooses."""
        prefix = frames.prefix_of(topic)
        if prefix is None:
            self._complaints.add("malformed", "refused a subscription to what is not published")
        elif prefix:
            self._choices.add(prefix)
        else:
            self._wants_all = True

    def leave(self, topic: bytes) -> None:
        """Nobody wants it any more."""
        prefix = frames.prefix_of(topic)
        if prefix:
            self._choices.remove(prefix)
        elif prefix is not None:
            self._wants_all = False

    def sent(self, topic: bytes) -> int:
        """Return how many events there were for the prefix of who asks."""
        prefix = frames.asked_for(topic)
        return self._choices.sent(prefix) if prefix else 0

    def publish(self, events: Sequence[bytes], body: bytes) -> None:
        """Publish the events together, and those that prefixes choose."""
        last = self._store.last_seq
        if self._wants_all:
            group = frames.Group(body or wire.pack(list(events)), last, len(events), 0)
            self._send_group(frames.ALL, group)
        for chosen in self._choices.split(events, last - len(events) + 1):
            packed = wire.pack([chosen.numbers, chosen.events])
            group = frames.Group(packed, chosen.numbers[-1], len(chosen.events), chosen.sent)
            self._send_group(frames.topic_of(chosen.prefix), group)

    def _send_group(self, topic: bytes, group: frames.Group) -> None:
        for message in frames.published(topic, group):
            self.send(*message)
