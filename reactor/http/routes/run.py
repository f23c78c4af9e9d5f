"""``POST /`` and ``POST /run``: Salt's low data, for minions, runners and wheel functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import APIRouter, Request

from bus.targets import TARGET_TYPES
from reactor.http import bodies, lowstate
from reactor.http.answers import Json, returned
from reactor.http.auth import Identity, address_of
from reactor.http.models import Returned
from reactor.http.routes.login import credentials
from reactor.http.services import Serves, Services, Who

router = APIRouter(tags=["functions"])

_TEXT = {"type": "string", "minLength": 1}
_CALL = {"fun": _TEXT, "arg": {}, "kwarg": {"type": ["object", "null"]}}
_JOB = {
    "timeout": {"type": ["number", "null"], "minimum": 0, "maximum": 3600},
    "full_return": {"type": "boolean"},
}
_FORMS = {
    "grain": {"pattern": "^[^:]+:"},
    "pcre": {"format": "regex"},
    "grain_pcre": {"pattern": "^[A-Za-z0-9_]+:[A-Za-z0-9_]+$"},
    "ipcidr": {"format": "ipv4"},
}


def _of(targets: Mapping[str, Any], *types: str) -> dict[str, Any]:
    return {"tgt": targets, "tgt_type": {"type": "string", "enum": list(types)}}


_BY_TEXT = _of(_TEXT, *(name for name in TARGET_TYPES if name not in _FORMS))
_BY_FORM = [_of({**_TEXT, **form}, name) for name, form in _FORMS.items()]
_BY_LIST = _of({"type": "array", "items": {"type": "string"}}, "list")


def _low(properties: Mapping[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "required": ["fun", *required], "properties": properties}


def _jobs(client: Mapping[str, Any]) -> list[dict[str, Any]]:
    more = {**client, **_CALL, **_JOB}
    return [
        _low({**more, **_BY_TEXT}, "tgt", *client),
        *(_low({**more, **by}, "tgt", "tgt_type", *client) for by in (*_BY_FORM, _BY_LIST)),
    ]


def _client(names: Iterable[str]) -> dict[str, Any]:
    return {"client": {"type": "string", "enum": list(names)}}


def _body(lows: list[dict[str, Any]], form: Mapping[str, Any]) -> dict[str, Any]:
    low = {"anyOf": lows}
    several = {"type": "array", "items": low, "minItems": 1, "maxItems": lowstate.MOST_CHUNKS}
    return {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"anyOf": [*lows, several]}},
                "application/x-www-form-urlencoded": {"schema": form},
            },
        }
    }


_IN_FORM = {"fun": _TEXT, **_BY_TEXT, "arg": {"type": "string"}}
_OF_MINIONS = tuple(name for name in lowstate.CLIENTS if name.startswith("local"))
_OF_MASTER = tuple(name for name in lowstate.CLIENTS if not name.startswith("local"))
LOW_BODY = _body(
    [
        *_jobs(_client(_OF_MINIONS)),
        _low({**_client(_OF_MASTER), **_CALL}, "client"),
    ],
    _low({**_client(_OF_MINIONS), **_IN_FORM}, "client", "tgt"),
)
"""What `/` and `/run` take."""

JOB_BODY = _body(_jobs({}), _low(_IN_FORM, "tgt"))
"""What `/minions` takes: low data of a job, without a client."""


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
