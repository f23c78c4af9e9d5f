"""How a minion that was away while its master took a new key learns of it, by UDP.

It asks on the link's port number, as at the first contact (`bus.link.firstcontact`), and names the
key that it knows and its own. The master proves the new key by the old one, which it keeps for a
time: the proof can be made only with the secret of the old key or with that of the minion.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
from collections.abc import Sequence

from zmq.utils import z85

from bus.keys import Keypair
from bus.link.firstcontact import NONCE_BYTES, QUESTION_BYTES, Question

MAGIC = b"RBUSNEXT"
ANSWERS_PER_SECOND = 500
"""A proof costs about 0.1 ms, and anybody can ask; a minion asks again."""

_KEY = 32
_HEAD = len(MAGIC) + NONCE_BYTES
_ANSWER_BYTES = _HEAD + 2 * _KEY


def question(nonce: bytes, asker: bytes, known: bytes) -> bytes:
    """Return the datagram that asks for the successor of a key.

    Args:
        nonce: random.
        asker: the minion's public key in Z85.
        known: the master's key, in Z85, that it knows.
    """
    return (MAGIC + nonce + z85.decode(asker) + z85.decode(known)).ljust(QUESTION_BYTES, b"\0")


def answer(datagram: bytes, current: bytes, own: Sequence[Keypair]) -> bytes | None:
    """Return the answer to a datagram; None if it is no question that can be answered.

    Args:
        datagram: what came.
        current: the master's key in use, in Z85.
        own: the master's key pairs, those that were before among them.
    """
    if len(datagram) != QUESTION_BYTES or not datagram.startswith(MAGIC):
        return None
    head, rest = datagram[:_HEAD], datagram[_HEAD:]
    asker, known = z85.encode(rest[:_KEY]), z85.encode(rest[_KEY : 2 * _KEY])
    pair = next((pair for pair in own if pair.public == known), None)
    shared = _shared(pair.secret, asker) if pair else None
    if shared is None:
        return None
    new = z85.decode(current)
    return head + new + _proof(shared, datagram, new)


def parse_answer(datagram: bytes, asked: bytes, pair: Keypair) -> bytes | None:
    """Return the successor, in Z85, of the key in our question; None if nothing proves it.

    Args:
        datagram: what came.
        asked: our question.
        pair: the minion's own key pair.
    """
    if len(datagram) != _ANSWER_BYTES or datagram[:_HEAD] != asked[:_HEAD]:
        return None
    new, proof = datagram[_HEAD : _HEAD + _KEY], datagram[_HEAD + _KEY :]
    known = z85.encode(asked[_HEAD + _KEY : _HEAD + 2 * _KEY])
    shared = _shared(pair.secret, known)
    if shared is None or not hmac.compare_digest(proof, _proof(shared, asked, new)):
        return None
    return z85.encode(new)


def _shared(secret: bytes, public: bytes) -> bytes | None:
    """Return what only the owners of the two keys can compute; None for a key that is none."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

    own = X25519PrivateKey.from_private_bytes(z85.decode(secret))
    try:
        return own.exchange(X25519PublicKey.from_public_bytes(z85.decode(public)))
    except ValueError:  # a point of low order, which is nobody's key
        return None


def _proof(shared: bytes, asked: bytes, new: bytes) -> bytes:
    return hmac.digest(shared, MAGIC + asked + new, hashlib.sha256)


class HandoverQuestion(Question):
    """The minion's side: asks for the successors of the keys that it knows, one after the other.

    Args:
        host: the master's name or address.
        port: its port.
        pair: the minion's own key pair.
        known: the master's keys that it knows, in Z85.

    Attributes:
        answered: the key whose successor `poll` has returned.

    Raises:
        NotRunningError: the name cannot be resolved.
    """

    def __init__(self, host: str, port: int, pair: Keypair, known: Sequence[bytes]) -> None:
        super().__init__(host, port)
        self.answered = b""
        self._pair = pair
        self._asked = {key: question(self._nonce, pair.public, key) for key in known}
        self._turns = itertools.cycle(self._asked.values())

    def _datagram(self) -> bytes:
        return next(self._turns)

    def _key_in(self, datagram: bytes) -> bytes | None:
        for known, asked in self._asked.items():
            key = parse_answer(datagram, asked, self._pair)
            if key is not None:
                self.answered = known
                return key
        return None
