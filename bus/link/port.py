"""The port that minions connect to: a ROUTER with the master's key, and first contact in UDP."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import zmq

from bus.errors import AlreadyRunningError
from bus.keys import Keypair
from bus.link.firstcontact import Responder
from bus.link.zap import DOMAIN
from bus.sockets import Socket

SEND_QUEUE = 2_000
RECEIVE_QUEUE = 100
"""Messages of one connection that wait in memory, each perhaps as large as the largest: some more
than a minion has batches on its way. What comes after waits with its sender."""
HANDSHAKE_MS = 20_000
"""A stranger who connects and says nothing is not kept; a busy minion host may be that slow."""
KEEPALIVE_SECONDS = 15
REBIND_SECONDS = 5.0
BACKLOG = 4_096
"""Connections that the system keeps until they are taken; it caps this at net.core.somaxconn.

With ZeroMQ's 100, most of ten thousand minions that come back at once find the queue full, and
TCP tries again only after one second, then three, then seven.
"""


class Port:
    """Where a link server listens.

    Args:
        opts: ``interface`` and ``ret_port``.
        context: of the socket.
        keypair: what proves who the master is.
        max_message: the largest message in bytes.

    Attributes:
        router: the socket.
        keypair: the one in use.
        number: of the port.
    """

    def __init__(
        self,
        opts: Mapping[str, Any],
        context: zmq.Context[Socket],
        keypair: Keypair,
        max_message: int,
    ) -> None:
        self._host = str(opts["interface"])
        self.keypair = keypair
        self.router: Socket = context.socket(zmq.ROUTER)
        for option, value in self._options(max_message).items():
            self.router.set(option, value)
        try:
            self.number = self._bind(int(opts["ret_port"]))
        except AlreadyRunningError:
            self.router.close(linger=0)
            raise

    def _options(self, max_message: int) -> dict[int, int | bytes]:
        return {
            zmq.LINGER: 0,
            zmq.CURVE_SERVER: 1,
            zmq.CURVE_SECRETKEY: self.keypair.secret,
            zmq.ZAP_DOMAIN: DOMAIN,
            zmq.ROUTER_MANDATORY: 1,
            zmq.ROUTER_HANDOVER: 1,
            zmq.SNDHWM: SEND_QUEUE,
            zmq.RCVHWM: RECEIVE_QUEUE,
            zmq.BACKLOG: BACKLOG,
            zmq.MAXMSGSIZE: max_message,
            zmq.HANDSHAKE_IVL: HANDSHAKE_MS,
            # Not ZeroMQ's heartbeats: to end one of its timers, libzmq looks through those of all
            # connections, and with ten thousand that took most of a processor. The kernel finds
            # the hosts that are gone, `Silence` the processes that do nothing any more.
            zmq.TCP_KEEPALIVE: 1,
            zmq.TCP_KEEPALIVE_IDLE: KEEPALIVE_SECONDS,
            zmq.TCP_KEEPALIVE_INTVL: KEEPALIVE_SECONDS // 3,
            zmq.TCP_KEEPALIVE_CNT: 3,
            zmq.TCP_MAXRT: 2_000 * KEEPALIVE_SECONDS,
            zmq.IPV6: int(":" in self._host),
        }

    def _bind(self, port: int) -> int:
        shown = f"[{self._host.strip('[]')}]" if ":" in self._host else self._host
        try:
            self.router.bind(f"tcp://{shown}:{port or '*'}")
        except zmq.ZMQError as error:
            raise AlreadyRunningError(
                f"cannot listen on {self._host} port {port} (options interface, ret_port): {error}"
            ) from error
        return int(self._endpoint().rsplit(":", 1)[1])

    def open_responder(self, hand_over: Callable[[bytes], bytes | None]) -> Responder:
        """Return what tells the master's key to a minion that does not know it yet.

        Args:
            hand_over: answers one who asks for the successor of a former key.

        Raises:
            AlreadyRunningError: the port is taken in UDP.
        """
        try:
            return Responder(self._host, self.number, self.keypair.public, hand_over)
        except OSError as error:
            raise AlreadyRunningError(
                f"cannot listen on {self._host} port {self.number} in UDP: {error.strerror}"
            ) from error

    def use(self, keypair: Keypair) -> None:
        """Open the port anew, since a listening socket keeps the key that it was opened with.

        Raises:
            AlreadyRunningError: the port cannot be opened again.
        """
        self.keypair = keypair
        endpoint = self._endpoint()
        self.router.unbind(endpoint)
        self.router.set(zmq.CURVE_SECRETKEY, keypair.secret)
        # ZeroMQ's own thread takes a moment to let go of it.
        deadline = time.monotonic() + REBIND_SECONDS
        while not self._binds(endpoint, last_try=time.monotonic() > deadline):
            time.sleep(0.005)

    def _binds(self, endpoint: str, *, last_try: bool) -> bool:
        try:
            self.router.bind(endpoint)
        except zmq.ZMQError as error:
            if last_try:
                raise AlreadyRunningError(f"cannot listen on {endpoint}: {error}") from error
            return False
        return True

    def _endpoint(self) -> str:
        endpoint = self.router.get(zmq.LAST_ENDPOINT)
        assert isinstance(endpoint, bytes)
        return endpoint.rstrip(b"\0").decode()
