"""``POST /hook/<path>``: webhooks become events ``salt/netapi/hook/<path>``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request

from bus.tags import tagify
from reactor.http import bodies
from reactor.http.answers import Json
from reactor.http.auth import address_of
from reactor.http.errors import NoSuchThingError, TooManyError
from reactor.http.hooks import Signed, hook_for
from reactor.http.models import Fired
from reactor.http.permissions import need
from reactor.http.services import Serves, Services

router = APIRouter(tags=["events"])

_SECRETS = (
    "authorization", "cookie", "proxy-authorization", "x-auth-token", "x-gitlab-token",
    "x-hub-signature", "x-hub-signature-256", "x-slack-signature", "stripe-signature",
    "x-signature",
)  # fmt: skip
"""Headers that do not go into the event: it is kept in the journal, and rules read it."""

_BODY = {
    "requestBody": {
        "content": {
            "application/json": {"schema": {}},
            "application/x-www-form-urlencoded": {"schema": {"type": "object"}},
            "text/plain": {"schema": {"type": "string"}},
        }
    }
}


@router.post("/hook", response_model=Fired, summary="A webhook", openapi_extra=_BODY)
async def bare_hook(request: Request, services: Serves) -> Json:
    """Fire ``salt/netapi/hook``, as the route with a path does."""
    return await _take(request, services, "")


@router.post("/hook/{path:path}", response_model=Fired, summary="A webhook", openapi_extra=_BODY)
async def hook(request: Request, services: Serves, path: str) -> Json:
    """Fire ``salt/netapi/hook/<path>`` with the body and the headers.

    It takes a token that may fire this tag, or the signature that ``http_hooks`` asks for. The
    answer comes once the event is in the journal.
    """
    return await _take(request, services, path.strip("/"))


async def _take(request: Request, services: Services, path: str) -> Json:
    if not path.isprintable():
        raise NoSuchThingError("no webhook has a control character in its path")
    tag = tagify(["netapi", "hook", *filter(None, path.split("/"))])
    found = hook_for(services.hooks, path)
    if found is None:
        who = services.auth.identify(request)
        need(who.may.may_fire(tag), f"fire {tag[:200]}")
    shared = found.path if found else path
    if found and found.is_signed:
        # Whoever cannot sign takes none of the room of those who can.
        _limit(services, f"{shared} from {address_of(request)}", path)
    else:
        _limit(services, shared, path)
    body = await request.body()
    signed: Signed | None = None
    if found:
        signed = found.verify(request.headers, body)
        if signed:
            _limit(services, shared, path)
            services.replays.check(path, signed)
    try:
        seq = await services.fire(tag, event_of(request.headers, body))
    except BaseException:  # cancelled too: what was not fired may be sent again
        if signed:
            services.replays.forget(path, signed)
        raise
    return Json({"success": True, "seq": seq})


def _limit(services: Services, key: str, path: str) -> None:
    wait = services.hook_rate.take(key)
    if wait:
        raise TooManyError(f"more than http_hook_rate webhooks for {path}", retry_after=wait)


def event_of(headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """Return the data of the event: ``post`` as it is read, ``body`` as it came, ``headers``.

    Raises:
        HttpError: the body is not what its type says.
    """
    kind = headers.get("content-type", "")
    post = (bodies.read(body, kind) if bodies.is_known(kind) else None) or {}
    shown = {name: text for name, text in headers.items() if name not in _SECRETS}
    return {"post": post, "body": body.decode(errors="replace"), "headers": shown}
