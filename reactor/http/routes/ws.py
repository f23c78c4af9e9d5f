"""``GET /ws``: the events of ``/events`` over a WebSocket, with Salt's handshake."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Query, WebSocket, WebSocketDisconnect

from bus.errors import BusError, DataError
from reactor.http.auth import Identity, address_of
from reactor.http.errors import HttpError, TooManyError
from reactor.http.routes.events import open_stream
from reactor.http.services import Services
from reactor.http.streams import websocket, websocket_numbered

router = APIRouter()

READY = "websocket client ready"
"""What a client says first: Salt sends nothing before."""

_READY_SECONDS = 30.0
Tags = Annotated[list[str] | None, Query()]
Since = Annotated[str | None, Query(max_length=100)]
Seq = Annotated[bool, Query()]

_POLICY_VIOLATION, _GOING_AWAY, _TRY_LATER = 1008, 1001, 1013


class Asked(NamedTuple):
    """What a client wants: which events, from where on, and whether with their numbers."""

    tags: list[str] | None
    since: str | None
    seq: bool


@router.websocket("/ws")
async def ws(
    socket: WebSocket,
    tag: Tags = None,
    since: Since = None,
    seq: Seq = False,
) -> None:
    """Send events to a client that has shown a token in any way that ``/events`` takes."""
    services: Services = socket.app.state.services
    await _serve(socket, lambda: services.auth.identify(socket), Asked(tag, since, seq))


@router.websocket("/ws/{token}")
async def ws_with_token(
    socket: WebSocket,
    token: str,
    tag: Tags = None,
    since: Since = None,
    seq: Seq = False,
) -> None:
    """Send events to a client that has its token in the address, as Salt's clients do."""
    services: Services = socket.app.state.services
    await _serve(
        socket, lambda: services.auth.by_secret(token, address_of(socket)), Asked(tag, since, seq)
    )


async def _serve(
    socket: WebSocket,
    identify: Callable[[], Identity],
    asked: Asked,
) -> None:
    services: Services = socket.app.state.services
    try:
        who = identify()
    except BusError:
        await socket.close(_POLICY_VIOLATION)  # before accept, this is the status 403
        return
    await socket.accept()
    try:
        async with asyncio.timeout(_READY_SECONDS):
            while await socket.receive_text() != READY:
                pass
        stream = await open_stream(services, who, asked.tags, asked.since, None)
    except (WebSocketDisconnect, KeyError):
        return
    except (TimeoutError, BusError) as error:
        await socket.close(_code_of(error), str(error)[:100])
        return
    leaving = asyncio.ensure_future(_gone(socket))
    leaving.add_done_callback(lambda _: stream.task and stream.task.cancel())

    async def pump() -> None:
        async for chunk in services.streams.chunks(
            stream, websocket_numbered if asked.seq else websocket
        ):
            # A message is one event; uvicorn's own pings are the sign of life.
            for message in (chunk or b"").decode().split("\n\n")[:-1]:
                await socket.send_text(f"{message}\n\n")
                stream.sent()

    try:
        await services.streams.run(stream, pump)
    except (WebSocketDisconnect, RuntimeError):
        pass
    finally:
        is_gone = leaving.done()
        leaving.cancel()
    if not is_gone:
        with contextlib.suppress(OSError, RuntimeError, TimeoutError):
            async with asyncio.timeout(1.0):
                await socket.close(_GOING_AWAY)


def _code_of(error: Exception) -> int:
    """Return the code that says whether it is worth to try again."""
    is_refused = isinstance(error, DataError | HttpError) and not isinstance(error, TooManyError)
    return _POLICY_VIOLATION if is_refused else _TRY_LATER


async def _gone(socket: WebSocket) -> None:
    with contextlib.suppress(WebSocketDisconnect, RuntimeError, KeyError):
        while True:
            await socket.receive_text()
