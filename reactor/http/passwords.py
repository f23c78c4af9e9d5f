"""Passwords: kept as scrypt hashes, or asked of PAM."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from base64 import b64decode, b64encode
from typing import Any

from reactor.errors import ReactorError

N, R, P = 1 << 14, 8, 5
"""OWASP's parameters of scrypt with 16 MiB: two logins at once stay within the memory budget."""

PAM = "pam"
"""Stands in place of a hash for a user whom PAM knows."""

SHORTEST = 8

_MEMORY = 64 << 20


def hashed(password: str) -> str:
    """Return what is kept of a password: ``scrypt$n$r$p$salt$hash``."""
    salt = secrets.token_bytes(16)
    digest = _scrypt(password, salt, N, R, P)
    return "$".join(["scrypt", str(N), str(R), str(P), *map(_text, (salt, digest))])


def matches(password: str, kept: str) -> bool:
    """Say whether a password is the one that ``kept`` was made of."""
    try:
        _, n, r, p, salt, digest = kept.split("$")
        found = _scrypt(password, b64decode(salt), int(n), int(r), int(p))
    except ValueError:
        return False
    return hmac.compare_digest(found, b64decode(digest))


def matches_pam(user: str, password: str, service: str) -> bool:
    """Ask PAM.

    Raises:
        ReactorError: PAM cannot be asked from here.
    """
    pamela = pam_library()
    try:
        pamela.authenticate(user, password, service=service, resetcred=0)
    except (pamela.PAMError, UnicodeError):  # what is no UTF-8 is nobody's
        return False
    return True


def pam_library() -> Any:
    """Return the library that asks PAM.

    Raises:
        ReactorError: it is not installed, or finds no PAM on this system.
    """
    try:
        import pamela  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except (ImportError, OSError, AttributeError) as error:
        raise ReactorError(
            "logins of PAM need the system's PAM and one more library: "
            "pip install 'reactor-bus[pam]'"
        ) from error
    return pamela


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=_MEMORY, dklen=32)


def _text(raw: bytes) -> str:
    return b64encode(raw).decode()
