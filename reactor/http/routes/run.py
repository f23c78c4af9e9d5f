"""``POST /`` and ``POST /run``: Salt's low data, for minions, runners and wheel functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request

from reactor.http import bodies, lowstate
from reactor.http.answers import Json, returned
from reactor.http.auth import Identity, address_of
from reactor.http.models import Returned
from reactor.http.routes.login import credentials
from reactor.http.services import Serves, Services, Who

router = APIRouter(tags=["functions"])

_LOW = {
    "type": "object",
    "required": ["client", "fun"],
    "properties": {
        "client": {"type": "string", "enum": list(lowstate.CLIENTS)},
        "fun": {"type": "string", "minLength": 1},
        "tgt": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
        "tgt_type": {"type": "string"},
        "arg": {"type": "array", "items": {}},
        "kwarg": {"type": "object"},
        "timeout": {"type": "number", "minimum": 0, "maximum": 3600},
        "full_return": {"type": "boolean"},
    },
}
LOW_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "anyOf": [
                        _LOW,
                        {"type": "array", "items": _LOW, "minItems": 1, "maxItems": 100},
                    ]
                }
            },
            "application/x-www-form-urlencoded": {"schema": _LOW},
        },
    }
}


@router.post("/", response_model=Returned, summary="Run functions", openapi_extra=LOW_BODY)
async def low(request: Request, services: Serves, who: Who) -> Json:
    """Run each chunk of low data and return a list with what each returned."""
    return await _run_all(services, await read(request), who)


@router.post("/run", response_model=Returned, summary="Run functions once", openapi_extra=LOW_BODY)
async def run(request: Request, services: Serves) -> Json:
    """Do as ``POST /`` does, with the credentials in the body as Salt takes them, or a token."""
    body = await read(request)
    first = body[0] if isinstance(body, list) and body else body
    if isinstance(first, Mapping) and (first.get("token") or first.get("username")):
        secret, who = await credentials(services, first, address_of(request))
        try:
            return await _run_all(services, body, who)
        finally:
            if who.token.user is not None and secret != first.get("token"):
                services.access.revoke(who.token.id)
    return await _run_all(services, body, services.auth.identify(request))


async def read(request: Request) -> Any:
    """Return a request's body in any of the forms that Salt takes."""
    return bodies.read(await request.body(), request.headers.get("content-type", ""))


async def _run_all(services: Services, body: Any, who: Identity) -> Json:
    chunks = lowstate.parse(body)
    for chunk in chunks:
        services.clients.check(chunk, who)
    return returned(*[await services.clients.run(chunk, who) for chunk in chunks])
