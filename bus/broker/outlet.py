"""One publishing socket: who listens there, and the marks that say where the numbering stands."""

from __future__ import annotations

import zmq

from bus import frames
from bus.broker.limits import Listeners
from bus.complaints import Complaints
from bus.sockets import Socket, send_pair
from bus.store import Store

MAX_SUBSCRIPTIONS_PER_TURN = 1000

_WANTED, _UNWANTED = b"\x01", b"\x00"
"""What begins a message of a listener: it wants a prefix, or no longer wants it."""

_SYNC_WANTED, _SYNC_UNWANTED = _WANTED + frames.SYNC, _UNWANTED + frames.SYNC


class Outlet:
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

    Attributes:
        is_wanted: whether anybody wants to hear events here. What nobody wants need not be sent.
            A listener that has its mark was taken note of before.
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
        self.is_wanted = False
        self._listeners = listeners
        self._store = store
        self._complaints = complaints
        self._prefixes: set[bytes] = set()
        socket.set(zmq.SNDHWM, queue)
        socket.set(zmq.MAXMSGSIZE, 4096)

    def send(self, body: bytes, place: bytes) -> None:
        """Publish a message; it is dropped for those whose queue is full."""
        send_pair(self.socket, body, place)

    def take_subscriptions(self) -> None:
        """Take note of who comes and goes."""
        for _ in range(MAX_SUBSCRIPTIONS_PER_TURN):
            try:
                message = self.socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                break
            self._take_subscription(message)
        self.is_wanted = bool(self._prefixes)

    def _take_subscription(self, message: bytes) -> None:
        if message.startswith(_SYNC_WANTED):
            self._say_where(message[1:])
        elif message.startswith(_SYNC_UNWANTED):
            self._listeners.leave(message[1:])
        elif message.startswith(_WANTED):
            self._prefixes.add(message[1:])
        elif message.startswith(_UNWANTED):
            self._prefixes.discard(message[1:])
        else:
            self._complaints.add("malformed", "refused a message on the socket of listeners")

    def _say_where(self, topic: bytes) -> None:
        """Tell a listener from which number on its subscriptions are in force."""
        where = (topic, self._store.last_seq, self._store.bus_id)
        refusal = self._listeners.join(topic)
        if refusal:
            self._complaints.add("refused_listeners", f"refused a listener: {refusal}")
            self.send(*frames.no_mark(*where, refusal))
        else:
            self.send(*frames.mark(*where))
