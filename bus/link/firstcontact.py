"""How a minion that knows no key of its master asks for it, by UDP on the link's port number.

CURVE needs the server's public key before the first byte. The answer is shorter than the
question, so that nobody can use a master to flood a third party.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import time
from collections.abc import Callable

from zmq.utils import z85

from bus.errors import AnswerTimeoutError, NotRunningError

MAGIC = b"RBUSKEY1"
NONCE_BYTES = 16
QUESTION_BYTES = 96
ANSWER_BYTES = len(MAGIC) + NONCE_BYTES + 32
_MAX_PER_TURN = 100
_REPEAT_SECONDS = 0.3


def question(nonce: bytes) -> bytes:
    """Return the datagram that asks for the key."""
    return (MAGIC + nonce).ljust(QUESTION_BYTES, b"\0")


def answer(datagram: bytes, public: bytes) -> bytes | None:
    """Return the answer to a datagram; None if it is no question.

    Args:
        datagram: what came.
        public: the master's key in Z85.
    """
    if len(datagram) != QUESTION_BYTES or not datagram.startswith(MAGIC):
        return None
    return datagram[: len(MAGIC) + NONCE_BYTES] + z85.decode(public)


def parse_answer(datagram: bytes, nonce: bytes) -> bytes | None:
    """Return the key, in Z85, of an answer to our question; None if it is none."""
    if len(datagram) != ANSWER_BYTES or not datagram.startswith(MAGIC + nonce):
        return None
    return z85.encode(datagram[-32:])


Answerer = Callable[[bytes], bytes | None]
"""Returns the answer to a datagram, or None if it gets none."""


class Responder:
    """The master's side, for a loop that polls its socket.

    Args:
        interface: the address to listen on.
        port: the number of the link's port.
        public: the master's key in Z85.
        hand_over: answers a datagram that asks for the successor of a key.

    Attributes:
        public: may be changed.

    Raises:
        OSError: the address cannot be bound.
    """

    def __init__(
        self, interface: str, port: int, public: bytes, hand_over: Answerer = lambda _: None
    ) -> None:
        family = socket.AF_INET6 if ":" in interface else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.public = public
        self._hand_over = hand_over
        try:
            self.socket.setblocking(False)
            self.socket.bind((interface.strip("[]"), port))
        except OSError:
            self.close()
            raise

    def handle(self) -> None:
        """Answer what waits, but no more than a share, so that a flood stops nothing else."""
        for _ in range(_MAX_PER_TURN):
            try:
                datagram, sender = self.socket.recvfrom(QUESTION_BYTES + 1)
            except OSError:  # nothing waits, or an ICMP error of an earlier answer
                return
            reply = answer(datagram, self.public) or self._hand_over(datagram)
            if reply is not None:
                with contextlib.suppress(OSError):
                    self.socket.sendto(reply, sender)

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()


class Question:
    """The minion's side: asks again and again, and never blocks.

    Args:
        host: the master's name or address.
        port: its port.

    Raises:
        NotRunningError: the name cannot be resolved.
    """

    def __init__(self, host: str, port: int) -> None:
        self._nonce = secrets.token_bytes(NONCE_BYTES)
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        except (OSError, UnicodeError) as error:
            raise NotRunningError(f"the master's name {host!r} cannot be resolved") from error
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        with contextlib.suppress(OSError):
            # Connected, so that only the master's address can answer.
            self.socket.connect(address)

    def send(self) -> None:
        """Ask (again)."""
        with contextlib.suppress(OSError):
            self.socket.send(self._datagram())

    def _datagram(self) -> bytes:
        return question(self._nonce)

    def _key_in(self, datagram: bytes) -> bytes | None:
        return parse_answer(datagram, self._nonce)

    def poll(self) -> bytes | None:
        """Return the key in Z85 if the answer has come."""
        for _ in range(_MAX_PER_TURN):
            try:
                key = self._key_in(self.socket.recv(QUESTION_BYTES + 1))
            except OSError:  # nothing waits, or nobody listens there yet
                return None
            if key is not None:
                return key
        return None

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()


def ask(host: str, port: int, timeout: float = 5.0) -> bytes:
    """Return the public key, in Z85, of the master at ``host``; waits.

    Args:
        host: name or address.
        port: the link's port.
        timeout: seconds.

    Raises:
        NotRunningError: the name cannot be resolved.
        AnswerTimeoutError: no answer came in time.
    """
    deadline = time.monotonic() + timeout
    asked = Question(host, port)
    try:
        while (left := deadline - time.monotonic()) > 0:
            asked.send()
            asked.socket.settimeout(min(left, _REPEAT_SECONDS))
            with contextlib.suppress(OSError):
                key = parse_answer(asked.socket.recv(ANSWER_BYTES + 1), asked._nonce)  # noqa: SLF001
                if key is not None:
                    return key
    finally:
        asked.close()
    raise AnswerTimeoutError(
        f"no master answers at {host} port {port} (UDP) within {timeout:g} s: is it running, "
        "and does a firewall let UDP through? with master_finger set, UDP is not needed"
    )
