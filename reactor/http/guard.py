"""The outermost layer: limits of size, headers of security, a line of log without secrets. ASGI."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("reactor.http.requests")

_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = [
    (b"content-security-policy", _PAGE_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    # A token may stand in the address of a stream: no other site is to be told of it.
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]

BODY_SECONDS = 60.0
"""Seconds until a request is there as a whole."""

_TRACES = logging.Formatter()
_SECRET = re.compile(r"(token=|/ws/)[^&\s\"'\\]+")


class Guard:
    """Wraps the application.

    Args:
        app: what is wrapped.
        max_body: bytes of the largest request.
        count: told the status of each answer.
    """

    def __init__(self, app: ASGIApp, max_body: int, count: Callable[[int], None]) -> None:
        self._app = app
        self._max_body = max_body
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.monotonic()
        status = 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._count(status)
                message = {**message, "headers": [*message.get("headers", ()), *HEADERS]}
            await send(message)

        try:
            await self._app(scope, self._limited(scope, receive), sending)
        finally:
            _write_line(scope, status, time.monotonic() - begun)

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        """Refuse a body beyond the limit, whatever length it announced."""
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit() and int(value) > self._max_body:
                return _refusing(self._max_body)
        left, late, is_whole = self._max_body, time.monotonic() + BODY_SECONDS, False

        async def receiving() -> Message:
            nonlocal left, is_whole
            # Afterwards a message is that the client has gone, which may take its time.
            left_time = None if is_whole else max(0.0, late - time.monotonic())
            try:
                async with asyncio.timeout(left_time):
                    message = await receive()
            except TimeoutError as error:
                raise HTTPException(408, "the request did not come in time") from error
            is_whole = not message.get("more_body")
            left -= len(message.get("body", b""))
            if left < 0:
                raise too_large(self._max_body)
            return message

        return receiving


def too_large(limit: int) -> HTTPException:
    """Return the error of a request that is too large: of the kind that FastAPI lets through."""
    return HTTPException(413, f"the request is larger than http_max_body, {limit} bytes")


def _refusing(limit: int) -> Callable[[], Awaitable[MutableMapping[str, Any]]]:
    async def receiving() -> Message:
        raise too_large(limit)

    return receiving


def _write_line(scope: Scope, status: int, seconds: float) -> None:
    """Log a request: its path only, since the rest of an address may hold a token."""
    client = scope.get("client")
    log.info(
        "%s %s %s %d %.3f s",
        client[0] if client else "-",
        scope["method"],
        scrub(scope["path"])[:200],
        status,
        seconds,
    )


def scrub(text: str) -> str:
    """Return a text without what looks like a token in an address."""
    return _SECRET.sub(r"\1***", text)


class Scrubbing(logging.Filter):
    """Takes tokens out of every line of the log, whichever library writes it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record if need be; all pass."""
        message = record.getMessage()
        clean = scrub(message)
        if clean != message:
            record.msg, record.args = clean, ()
        if record.exc_info and not record.exc_text:
            # What a formatter finds there, it does not make anew.
            record.exc_text = scrub(_TRACES.formatException(record.exc_info))
        return True
