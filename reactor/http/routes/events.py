"""``GET /events``: server-sent events in Salt's form, resumed by their numbers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from reactor.http.auth import Identity
from reactor.http.buffers import pieces
from reactor.http.errors import NoSuchThingError
from reactor.http.filters import Filter
from reactor.http.models import HIGHEST, Returned
from reactor.http.permissions import need
from reactor.http.services import Serves, Services, Who
from reactor.http.streams import Stream, Streams, sse

router = APIRouter(tags=["events"])

RETRY = b"retry: 400\n"
"""Milliseconds before a browser connects again, as Salt says it."""

ALIVE = b": \n\n"

_GLOBS = Query(description="Globs of tags; several may be given. All that may be read without.")
_SINCE = Query(
    description="Begin after a number, at a time (ISO 8601), or at an age such as 1h.",
    max_length=100,
)
_LIMIT = Query(ge=0, le=1_000_000_000, description="End after so many events.")


class EventStream(Response):
    """An answer that goes on: whole events, as the client takes them."""

    media_type = "text/event-stream"

    def __init__(self, streams: Streams, stream: Stream) -> None:
        super().__init__(b"", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._streams = streams
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the client goes, or the stream is to end."""
        del scope
        start: Message = {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }
        leaving = asyncio.ensure_future(_gone(receive))
        leaving.add_done_callback(lambda _: self._stream.task and self._stream.task.cancel())

        async def pump() -> None:
            await send(start)
            await send(_part(RETRY))
            async for chunk in self._streams.chunks(self._stream, sse):
                for piece in pieces(ALIVE if chunk is None else chunk):
                    await send(_part(piece))
                    self._stream.sent()

        try:
            await self._streams.run(self._stream, pump)
        finally:
            is_gone = leaving.done()
            leaving.cancel()
        if not is_gone:
            with contextlib.suppress(OSError, TimeoutError, RuntimeError):
                async with asyncio.timeout(1.0):
                    await send(_part(b"", more=False))


def _part(body: bytes | memoryview, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def _gone(receive: Callable[[], Awaitable[Message]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@router.get(
    "/events",
    summary="Events as they happen",
    response_class=EventStream,
    status_code=200,
    responses={200: {"content": {"text/event-stream": {}}, "description": "Server-sent events."}},
)
async def events(
    services: Serves,
    who: Who,
    tag: Annotated[list[str] | None, _GLOBS] = None,
    since: Annotated[str | None, _SINCE] = None,
    limit: Annotated[int | None, _LIMIT] = None,
    last_event_id: Annotated[str | None, Header(max_length=30)] = None,
) -> Any:
    """Stream events in Salt's form: ``tag:``, ``data: {"tag", "data"}``, and ``id:``, the number.

    A client that comes back with ``Last-Event-ID`` misses nothing that the journal still has.
    """
    stream = await open_stream(services, who, tag, last_event_id or since, limit)
    return EventStream(services.streams, stream)


async def open_stream(
    services: Services,
    who: Identity,
    tags: list[str] | None,
    since: str | None,
    limit: int | None,
) -> Stream:
    """Take a client's stream in.

    Raises:
        ForbiddenError: it may read nothing.
        DataError: ``since`` cannot be read.
    """
    need(bool(who.may.read), "read events")
    wanted = Filter(tuple(tags or ()), who.may.read)
    stream = Stream(
        wanted,
        after=0,
        limit=limit,
        is_complete=since is not None,
        is_valid=services.auth.watch(who),
    )
    if since is None:
        await services.streams.open(stream)
        return stream
    # First the place, then the stream: what happens in between is behind the place.
    stream.after = await services.hub.place(_since(since), time.time())
    await services.streams.open(stream)
    return stream


def _since(text: str) -> str:
    # A plus sign in an address means a space, and times have one.
    return text.strip().replace(" ", "+") if "T" in text else text.strip()


@router.get("/events/recent", summary="The newest events")
async def recent(
    services: Serves,
    who: Who,
    tag: Annotated[list[str] | None, _GLOBS] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    before: Annotated[int | None, Query(ge=1, le=HIGHEST)] = None,
) -> Returned:
    """Return the newest events, the oldest of them first, each with its number."""
    need(bool(who.may.read), "read events")
    rows = await services.hub.recent(Filter(tuple(tag or ()), who.may.read), limit, before)
    return Returned(value=[{"seq": row.seq, **json.loads(row.json)} for row in rows])


@router.get("/events/{seq}", summary="One event")
async def event(
    services: Serves, who: Who, seq: Annotated[int, Path(ge=1, le=HIGHEST)]
) -> Returned:
    """Return an event whole, by its number."""
    row = await services.hub.find(seq)
    if row is None:
        raise NoSuchThingError(f"there is no event {seq} in the journal")
    need(who.may.may_read(row.tag), f"read {row.tag}")
    return Returned(value=[{"seq": row.seq, **json.loads(row.json)}])
