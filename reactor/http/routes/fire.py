"""``POST /fire`` and ``POST /hook/<path>``: events from outside, answered once they are kept."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request

from bus.errors import BusError
from bus.tags import tagify
from reactor.http.auth import HEADER
from reactor.http.errors import HttpError
from reactor.http.models import Fired, FireRequest
from reactor.http.permissions import need
from reactor.http.services import Serves, Who

router = APIRouter(tags=["events"])

_PRIVATE = ("authorization", "cookie", HEADER)
"""Headers that let somebody in: they are in no event."""


@router.post("/fire", summary="Fire an event")
async def fire(services: Serves, who: Who, request: FireRequest) -> Fired:
    """Fire an event; the answer comes once it is in the journal."""
    need(who.may.may_fire(request.tag), f"fire {request.tag[:200]}")
    return Fired(seq=await _fired(services, request.tag, request.data))


@router.post("/hook/{path:path}", summary="Fire what a webhook brings")
async def hook(services: Serves, who: Who, path: str, request: Request) -> Fired:
    """Fire ``salt/netapi/hook/<path>`` with ``body``, ``post`` and ``headers``, as Salt does."""
    tag = tagify(["netapi", "hook", *filter(None, path.split("/"))])
    need(who.may.may_fire(tag), f"fire {tag[:200]}")
    raw = await request.body()
    headers = {name: value for name, value in request.headers.items() if name not in _PRIVATE}
    data = {
        "body": raw.decode(errors="replace"),
        "post": posted(raw, request.headers.get("content-type", "")),
        "headers": headers,
    }
    return Fired(seq=await _fired(services, tag, data))


def posted(raw: bytes, kind: str) -> Any:
    """Return what a body means by its content type: JSON, a form, or nothing.

    Raises:
        HttpError: it says that it is JSON, and is none.
    """
    media = kind.partition(";")[0].strip().lower()
    if media == "application/json" or media.endswith("+json"):
        try:
            return json.loads(raw) if raw.strip() else {}
        except (ValueError, RecursionError) as error:
            raise HttpError(f"the body is no JSON: {error}") from error
    if media == "application/x-www-form-urlencoded":
        return dict(parse_qsl(raw.decode(errors="replace"), keep_blank_values=True))
    return {}


async def _fired(services: Serves, tag: str, data: dict[str, Any]) -> int:
    try:
        return await services.fire(tag, data)
    except BusError:
        raise
    except (ValueError, OverflowError) as error:  # a number that no event can carry
        raise HttpError(str(error)) from error
