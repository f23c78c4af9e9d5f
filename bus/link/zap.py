"""Answers ZeroMQ's question who may connect: whoever proves a CURVE key, under that key's name.

Nothing is decided here about a minion. The proven key is the ``User-Id`` of every message of
that connection, and the server looks up the key's state for each message, since a connection
outlives the revocation of its key.
"""

from __future__ import annotations

import zmq
from zmq.utils import z85

from bus.errors import AlreadyRunningError
from bus.sockets import Socket

ADDRESS = "inproc://zeromq.zap.01"
"""Fixed by ZeroMQ (RFC 27): one handler a context."""

DOMAIN = b"link"
_VERSION = b"1.0"
_KEY_BYTES = 32


def answer(question: list[bytes]) -> list[bytes] | None:
    """Return the frames that answer a ZAP question; None if these frames are no question."""
    if len(question) < 6 or question[0] != _VERSION:
        return None
    mechanism, credentials = question[5], question[6:]
    if mechanism == b"CURVE" and len(credentials) == 1 and len(credentials[0]) == _KEY_BYTES:
        status, text, user = b"200", b"OK", z85.encode(credentials[0])
    else:
        status, text, user = b"400", b"a CURVE key is needed", b""
    return [_VERSION, question[1], status, text, user, b""]


class ZapHandler:
    """The handler, for a loop that polls its socket.

    Args:
        context: that of the sockets whose peers are to be let in.

    Raises:
        AlreadyRunningError: the context has one, or has not let go of it yet.
    """

    def __init__(self, context: zmq.Context[Socket]) -> None:
        # A ROUTER, not a REP: a question that is no question can be left without an answer.
        self.socket: Socket = context.socket(zmq.ROUTER)
        self.socket.set(zmq.LINGER, 0)
        try:
            self.socket.bind(ADDRESS)
        except zmq.ZMQError as error:
            self.socket.close(linger=0)  # else the end of the context would wait for it for ever
            raise AlreadyRunningError(f"this process has a link server already: {error}") from error

    def handle(self) -> None:
        """Answer what waits."""
        while True:
            try:
                asker, empty, *question = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            reply = answer(question)
            if reply is not None:
                self.socket.send_multipart([asker, empty, *reply])

    def close(self) -> None:
        """Close the socket."""
        self.socket.close(linger=0)
