"""The errors of HTTP: each has the status that it is answered with."""

from __future__ import annotations

from reactor.errors import ReactorError


class HttpError(ReactorError):
    """A request that is refused.

    Attributes:
        status: the HTTP status.
        retry_after: seconds after which it may be tried again; 0 if that would change nothing.
    """

    status = 400

    def __init__(self, message: str, *, retry_after: float = 0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UnauthorizedError(HttpError):
    """Nobody who is known asks: no token, an unknown one, or one that has ended."""

    status = 401


class ForbiddenError(HttpError):
    """Who asks is known, and may not do this."""

    status = 403


class NoSuchThingError(HttpError):
    """What is asked for is not there."""

    status = 404


class ReplayError(HttpError):
    """A signed request that came before, or is too old."""

    status = 409


class TooManyError(HttpError):
    """Too many requests, attempts or streams."""

    status = 429
