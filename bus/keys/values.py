"""Minion ids, public keys and their fingerprints. Pure."""

from __future__ import annotations

import binascii
import re

from zmq.utils import z85

from bus.errors import KeyStateError

MAX_ID_BYTES = 255
"""A minion id is a file name: POSIX's NAME_MAX."""

_KEY = re.compile(rb"[0-9A-Za-z.:+=^!/*?&<>()\[\]{}@%$#-]{40}\Z")
_NOT_IN_IDS = frozenset("/*?[], ")


def check_minion_id(ident: object) -> str:
    """Return ``ident`` if it can be the id of a minion.

    Raises:
        KeyStateError: it is no text, empty, too long, begins with a dot, or contains ``/``, a
            character that is not shown, by which it could pass for another, or one that a
            target reads as more than itself: a minion named ``*`` would get everybody's jobs.
    """
    if not isinstance(ident, str) or not ident:
        raise KeyStateError("a minion id is text that is not empty")
    if ident.startswith(".") or not ident.isprintable() or not _NOT_IN_IDS.isdisjoint(ident):
        raise KeyStateError(
            f"the minion id {ident[:80]!r} must not begin with '.' or contain blanks, "
            "'/', any of '*?[],' or characters that are not shown"
        )
    size = len(ident.encode())
    if size > MAX_ID_BYTES:
        raise KeyStateError(f"a minion id of {size} bytes: at most {MAX_ID_BYTES} are allowed")
    return ident


def check_public(key: bytes) -> bytes:
    """Return ``key`` if it is a public key: 40 characters in Z85 that are 32 bytes.

    Raises:
        KeyStateError: it is none.
    """
    if _KEY.match(key) is None:
        raise KeyStateError("a public key is 40 characters in Z85")
    try:
        z85.decode(key)
    except Exception as error:  # pyzmq lets struct.error through, which has no other base
        raise KeyStateError("a public key that is no valid Z85") from error
    return key


def fingerprint(public: bytes) -> str:
    """Return the 32 bytes of a key in hex with colons: it names the key and contains it.

    Raises:
        KeyStateError: ``public`` is no key in Z85.
    """
    return z85.decode(check_public(public)).hex(":")


def key_from_fingerprint(text: str) -> bytes:
    """Return the key, in Z85, that a fingerprint contains.

    Raises:
        KeyStateError: ``text`` is no fingerprint.
    """
    try:
        raw = binascii.unhexlify(text.strip().replace(":", ""))
    except (binascii.Error, ValueError) as error:
        raise KeyStateError(f"the fingerprint {text[:100]!r} is not hex with colons") from error
    if len(raw) != 32:
        raise KeyStateError(
            f"a fingerprint has 32 bytes, this one {len(raw)}: copy it whole, "
            "as 'reactor key finger' prints it"
        )
    return z85.encode(raw)
