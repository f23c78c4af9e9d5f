"""Who asks: the token of a request, wherever it stands, and what it allows."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from reactor.http import passwords
from reactor.http.access import Access, Token
from reactor.http.errors import ForbiddenError, TooManyError, UnauthorizedError
from reactor.http.permissions import Permissions
from reactor.http.slowdown import Slowdown

log = logging.getLogger(__name__)

COOKIE = "session_id"
"""Salt's name of it."""

HEADER = "x-auth-token"

_BY_USER = 20
"""Wrong passwords of one user, from wherever, that cost nothing."""

_SAFE = ("GET", "HEAD", "OPTIONS")
_LOGINS_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks.

    Attributes:
        token: what is known of the token.
    """

    token: Token

    @property
    def name(self) -> str:
        """The user, or the token's name."""
        return self.token.user or self.token.name

    @property
    def may(self) -> Permissions:
        """What the token allows."""
        return self.token.permissions


class Authenticator:
    """Finds out who asks, and slows down who guesses.

    Args:
        access: the tokens and users.
        lifetime: seconds that the token of a login lasts.
        pam_service: which service of PAM checks its users.
        clock: seconds that never run backwards.
    """

    def __init__(
        self,
        access: Access,
        *,
        lifetime: float,
        pam_service: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.access = access
        self._lifetime = lifetime
        self._pam_service = pam_service
        self._by_address = Slowdown(clock)
        self._by_user = Slowdown(clock, _BY_USER)
        self._room = asyncio.Semaphore(_LOGINS_AT_ONCE)

    def identify(self, connection: HTTPConnection) -> Identity:
        """Return who makes a request.

        Raises:
            UnauthorizedError: no token, or none that holds.
            ForbiddenError: a page of another site sent the cookie.
        """
        secret, by_cookie = secret_of(connection)
        if not secret:
            raise UnauthorizedError("no token: see 'reactor token create'")
        if by_cookie and not is_same_origin(connection):
            raise ForbiddenError("a page of another site made this request")
        return self.by_secret(secret, address_of(connection))

    def by_secret(self, secret: str, address: str) -> Identity:
        """Return whose token this is.

        Raises:
            UnauthorizedError: nobody's; asked again and again, it says when to come back.
        """
        token = self.access.token(secret)
        if token:
            return Identity(token)
        wait = self._by_address.wait(address)
        self._by_address.failed(address)
        # No guess of a random token is slowed by a wait: the wait is for who asks by mistake.
        raise UnauthorizedError("this token is not known, or has ended", retry_after=wait)

    def watch(self, identity: Identity) -> Callable[[], bool]:
        """Return what says, again and again, whether a token has neither ended nor changed."""
        seen: object = None

        def holds() -> bool:
            nonlocal seen
            expires = identity.token.expires
            if expires is not None and expires <= time.time():
                return False
            version = self.access.version()
            if version != seen:
                found = self.access.token_of(identity.token.id)
                if found is None or found.permissions != identity.may:
                    return False
                seen = version
            return True

        return holds

    async def login(
        self, user: str, password: str, address: str, eauth: str = "auto"
    ) -> tuple[str, Identity]:
        """Check a password; return the secret of a new token, and who has it.

        Raises:
            UnauthorizedError: the user or the password is wrong.
            TooManyError: it was, too often.
        """
        _refuse_for(max(self._by_address.wait(address), self._by_user.wait(user)))
        async with self._room:
            found = self.access.user(user)
            kept = self.access.password_of(user) or _NOBODYS
            if eauth == "pam" and kept != passwords.PAM:
                kept = _NOBODYS
            is_right = await asyncio.to_thread(self._check, user, password, kept)
        if not is_right or found is None:
            self._by_address.failed(address)
            self._by_user.failed(user)
            log.warning("a login failed, from %s", address)
            raise UnauthorizedError("wrong user or password")
        self._by_address.succeeded(address)
        self._by_user.succeeded(user)
        secret, token = self.access.create_token(
            f"login {user}"[:100], found.permissions, self._lifetime, user
        )
        return secret, Identity(token)

    def _check(self, user: str, password: str, kept: str) -> bool:
        if kept == passwords.PAM:
            return passwords.matches_pam(user, password, self._pam_service)
        return passwords.matches(password, kept)


_NOBODYS = f"scrypt${passwords.N}${passwords.R}${passwords.P}${'A' * 22}==${'A' * 43}="
"""Checked where there is no such user, so that the answer takes as long; no password gives it."""


def secret_of(connection: HTTPConnection) -> tuple[str, bool]:
    """Return a request's token, and whether the browser sent it by itself."""
    header = connection.headers.get(HEADER, "")
    scheme, _, bearer = connection.headers.get("authorization", "").partition(" ")
    if header:
        return header, False
    if scheme.lower() == "bearer" and bearer:
        return bearer.strip(), False
    asked = connection.query_params.get("token", "")
    if asked:
        return asked, False
    return connection.cookies.get(COOKIE, ""), True


def is_same_origin(connection: HTTPConnection) -> bool:
    """Say whether a request with a cookie comes from a page of this server."""
    is_websocket = connection.scope["type"] == "websocket"
    if not is_websocket and connection.scope["method"] in _SAFE:
        return True
    origin = connection.headers.get("origin", "")
    if not origin:
        return connection.headers.get("sec-fetch-site", "none") in ("same-origin", "none")
    return urlsplit(origin).netloc == connection.headers.get("host", "")


def address_of(connection: HTTPConnection) -> str:
    """Return where a request comes from."""
    client: Any = connection.scope.get("client")
    return str(client[0]) if client else "unknown"


def _refuse_for(seconds: float) -> None:
    if seconds > 0:
        raise TooManyError(
            f"too many wrong attempts: try again in {seconds:.0f} s", retry_after=seconds
        )
