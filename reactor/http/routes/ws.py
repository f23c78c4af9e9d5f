"""``GET /ws``: the events of ``/events`` over a WebSocket, with Salt's handshake."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query, WebSocket, WebSocketDisconnect

from bus.errors import BusError
from reactor.http.auth import Identity, address_of
from reactor.http.routes.events import open_stream
from reactor.http.services import Services
from reactor.http.streams import send_within, websocket

router = APIRouter()

READY = "websocket client ready"
"""What a client says first: Salt sends nothing before."""

_READY_SECONDS = 30.0
_POLICY_VIOLATION, _GOING_AWAY, _TRY_LATER = 1008, 1001, 1013


@router.websocket("/ws")
async def ws(
    socket: WebSocket,
    tag: Annotated[list[str] | None, Query()] = None,
    since: str | None = None,
) -> None:
    """Send events to a client that has shown a token in any way that ``/events`` takes."""
    services: Services = socket.app.state.services
    await _serve(socket, lambda: services.auth.identify(socket), tag, since)


@router.websocket("/ws/{token}")
async def ws_with_token(
    socket: WebSocket,
    token: str,
    tag: Annotated[list[str] | None, Query()] = None,
    since: str | None = None,
) -> None:
    """Send events to a client that has its token in the address, as Salt's clients do."""
    services: Services = socket.app.state.services
    await _serve(socket, lambda: services.auth.by_secret(token, address_of(socket)), tag, since)


async def _serve(
    socket: WebSocket,
    identify: Callable[[], Identity],
    tags: list[str] | None,
    since: str | None,
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
        stream = await open_stream(services, who, tags, since, None)
    except (WebSocketDisconnect, KeyError):
        return
    except (TimeoutError, BusError) as error:
        await socket.close(_TRY_LATER, str(error)[:100])
        return
    leaving = asyncio.ensure_future(_gone(socket))
    leaving.add_done_callback(lambda _: stream.task and stream.task.cancel())

    async def pump() -> None:
        async for chunk in services.streams.chunks(stream, websocket):
            # A message is one event; uvicorn's own pings are the sign of life.
            for message in (chunk or b"").decode().split("\n\n")[:-1]:
                await send_within(socket.send_text(f"{message}\n\n"))

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


async def _gone(socket: WebSocket) -> None:
    with contextlib.suppress(WebSocketDisconnect, RuntimeError, KeyError):
        while True:
            await socket.receive_text()
