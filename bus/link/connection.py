"""One encrypted connection to a master: a DEALER whose ups and downs are told."""

from __future__ import annotations

import secrets

import zmq
from zmq.utils.monitor import recv_monitor_message

from bus.keys import Keypair
from bus.link.backoff import Reconnect
from bus.link.protocol import ROUTING_ID_BYTES
from bus.link.trust import Address
from bus.sockets import Socket

KEEPALIVE_SECONDS = 5
"""After so long a silence the kernel asks whether the host is there, and twice more; what was sent
and not taken by it ends the connection after six times as long."""
HANDSHAKE_MS = 40_000
"""A master to which ten thousand come back at once may need that long until it is our turn; to
give up earlier only makes the queue longer. Where there is another master, the link is not so
patient: `bus.link.vigil.FAILOVER_SECONDS`."""
SEND_QUEUE = 1_000

_WATCHED = (
    zmq.Event.CONNECTED
    | zmq.Event.CLOSED
    | zmq.Event.HANDSHAKE_SUCCEEDED
    | zmq.Event.DISCONNECTED
    | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
    | zmq.Event.HANDSHAKE_FAILED_PROTOCOL
    | zmq.Event.HANDSHAKE_FAILED_AUTH
)

UP = "up"
DOWN = "down"
FAILED = "failed"

NO_TCP = "no TCP connection: is it running, and does a firewall let TCP through?"
NO_HANDSHAKE = "a TCP connection, but no handshake: is it a master that listens there?"
NO_ANSWER = "a connection, but no answer"


_CHANGES: dict[int, str] = {zmq.Event.HANDSHAKE_SUCCEEDED: UP, zmq.Event.DISCONNECTED: DOWN}
_LACKS: dict[int, str] = {
    zmq.Event.CLOSED: NO_TCP,
    zmq.Event.CONNECTED: NO_HANDSHAKE,
    zmq.Event.HANDSHAKE_SUCCEEDED: NO_ANSWER,
}


def new_routing_id() -> bytes:
    """Return a name for a connection that nobody else can guess."""
    # Those that begin with a zero byte are ZeroMQ's own.
    return b"\x01" + secrets.token_bytes(ROUTING_ID_BYTES - 1)


def set_curve_client(socket: Socket, keypair: Keypair, server_key: bytes) -> None:
    """Give ``socket`` the keys that it needs to connect to a master."""
    socket.set(zmq.CURVE_PUBLICKEY, keypair.public)
    socket.set(zmq.CURVE_SECRETKEY, keypair.secret)
    socket.set(zmq.CURVE_SERVERKEY, server_key)


class Connection:
    """A socket that can be connected to one master after another.

    Args:
        context: the process's context.
        keypair: the minion's.
        max_message: the limit of a message from the master, in bytes.
        pauses: between two tries to connect.

    Attributes:
        keypair: the one in use.
        lacks: in words, how far the connection has come, for when nothing is heard on it.
    """

    def __init__(
        self,
        context: zmq.Context[Socket],
        keypair: Keypair,
        max_message: int,
        pauses: Reconnect,
    ) -> None:
        self.keypair = keypair
        self._endpoint = ""
        self.lacks = NO_TCP
        self.socket: Socket = context.socket(zmq.DEALER)
        for option, value in {
            zmq.LINGER: 0,
            # What was meant for one connection must not appear on the next.
            zmq.IMMEDIATE: 1,
            zmq.SNDHWM: SEND_QUEUE,
            zmq.MAXMSGSIZE: max_message,
            # Not ZeroMQ's heartbeats: libzmq aborts the process when one of its timers comes to a
            # connection that read wrong bytes and then ended. The kernel finds hosts that are
            # gone, `bus.link.vigil` masters that do nothing any more.
            zmq.TCP_KEEPALIVE: 1,
            zmq.TCP_KEEPALIVE_IDLE: KEEPALIVE_SECONDS,
            zmq.TCP_KEEPALIVE_INTVL: KEEPALIVE_SECONDS,
            zmq.TCP_KEEPALIVE_CNT: 2,
            zmq.TCP_MAXRT: 6_000 * KEEPALIVE_SECONDS,
            zmq.HANDSHAKE_IVL: HANDSHAKE_MS,
            zmq.RECONNECT_IVL: pauses.first_ms,
            zmq.RECONNECT_IVL_MAX: pauses.longest_ms,
        }.items():
            self.socket.set(option, value)
        self.monitor: Socket = self.socket.get_monitor_socket(_WATCHED)

    @property
    def is_open(self) -> bool:
        """Whether there is a master that it tries to reach."""
        return bool(self._endpoint)

    def open(self, address: Address, server_key: bytes) -> None:
        """Begin to connect, under a new routing id.

        Raises:
            zmq.ZMQError: the address cannot be used.
        """
        self.shut()
        set_curve_client(self.socket, self.keypair, server_key)
        self.socket.set(zmq.ROUTING_ID, new_routing_id())
        self.socket.set(zmq.IPV6, int(":" in address.host))
        self.socket.connect(address.endpoint)
        self._endpoint = address.endpoint

    def use(self, keypair: Keypair) -> None:
        """Use another key pair of the minion's from the next `open` on."""
        self.keypair = keypair

    def shut(self) -> None:
        """Disconnect; what was not sent is gone."""
        if self._endpoint:
            self.socket.disconnect(self._endpoint)
            self._endpoint = ""
            self.lacks = NO_TCP

    def send(self, frame: bytes) -> bool:
        """Send without waiting; False if there is no connection or its queue is full."""
        try:
            self.socket.send(frame, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def receive(self) -> bytes | None:
        """Return the next message of one frame, if one waits."""
        while True:
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return None
            if len(frames) == 1:
                return frames[0]

    def events(self) -> list[str]:
        """Return what has happened to the connection: `UP`, `DOWN`, `FAILED`."""
        found = []
        while self.monitor.poll(0):
            event = recv_monitor_message(self.monitor)["event"]
            self._note(event)
            if event not in (zmq.Event.CONNECTED, zmq.Event.CLOSED):
                found.append(_CHANGES.get(event, FAILED))
        return found

    def _note(self, event: int) -> None:
        # A connection that ends before its handshake is over was made all the same.
        if event == zmq.Event.DISCONNECTED and self.lacks == NO_ANSWER:
            self.lacks = NO_TCP
        self.lacks = _LACKS.get(event, self.lacks)

    def close(self) -> None:
        """Close the sockets; what was just sent has a moment to leave."""
        self.socket.disable_monitor()
        self.monitor.close(linger=0)
        self.socket.close(linger=200)
