"""A client of the link without a minion's manners: it says what it likes and hears all it is sent."""

from __future__ import annotations

import contextlib
import time
from typing import Any, Self

import zmq

from bus.errors import WireError
from bus.keys import Keypair
from bus.link import protocol
from bus.link.connection import new_routing_id, set_curve_client


def stranger() -> Keypair:
    """Return a key pair that no master knows."""
    return Keypair(*zmq.curve_keypair())


class RawLink:
    """A connection to a link's port, with a key of its own.

    Args:
        port: where the master listens.
        public: the master's key.
        pair: its own.
        queue: messages that ZeroMQ takes for it until somebody hears them.

    Attributes:
        heard: every message that it was sent, as bytes.
    """

    def __init__(self, port: int, public: bytes, pair: Keypair, queue: int = 10_000) -> None:
        self.pair = pair
        self.heard: list[bytes] = []
        self._context: zmq.Context[Any] = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        for option, value in {
            zmq.LINGER: 0,
            zmq.ROUTING_ID: new_routing_id(),
            zmq.RCVHWM: queue,
            zmq.SNDHWM: 1_000,
            zmq.SNDTIMEO: 10_000,
        }.items():
            self.socket.set(option, value)
        set_curve_client(self.socket, pair, public)
        self.socket.connect(f"tcp://127.0.0.1:{port}")

    def say(self, message: bytes | protocol.Up) -> None:
        """Send a message, or bytes that are none."""
        frame = message if isinstance(message, bytes) else protocol.encode(message)
        self.socket.send(frame)

    def listen(self, seconds: float = 0.0) -> list[Any]:
        """Hear what comes within some seconds, and return all messages so far."""
        deadline = time.monotonic() + seconds
        while self.socket.poll(max(0, int((deadline - time.monotonic()) * 1000))):
            self.heard += self.socket.recv_multipart()
        return self.messages

    def ask(self, message: bytes | protocol.Up, seconds: float = 20.0) -> Any:
        """Send a message and return the next one that comes."""
        self.say(message)
        assert self.socket.poll(int(seconds * 1000)), f"no answer to {message!r}"
        (raw,) = self.socket.recv_multipart()
        self.heard.append(raw)
        return protocol.decode_down(raw)

    @property
    def messages(self) -> list[Any]:
        """What it was sent, as far as that is messages."""
        found = []
        for raw in self.heard:
            with contextlib.suppress(WireError):
                found.append(protocol.decode_down(raw))
        return found

    def close(self) -> None:
        """Hang up."""
        self._context.destroy(linger=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
