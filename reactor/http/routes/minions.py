"""``/minions`` and ``/keys``: who is there, and who may be."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict

from reactor.http import lowstate
from reactor.http.answers import Json, returned
from reactor.http.auth import Identity
from reactor.http.errors import HttpError, NoSuchThingError
from reactor.http.lowstate import Low
from reactor.http.models import KeysReturned, Returned, Sent
from reactor.http.routes.run import JOB_BODY, read
from reactor.http.services import Serves, Services, Who, need_reading

router = APIRouter(tags=["jobs and minions"])

MinionId = Annotated[str, Path(min_length=1, max_length=200)]

_FOLDERS = ("minions", "minions_pre", "minions_rejected", "minions_denied")


class KeyAction(StrEnum):
    """What may be done to a key."""

    ACCEPT = "accept"
    REJECT = "reject"
    DELETE = "delete"


class KeyRequest(BaseModel):
    """What to do to a minion's key, in whatever state it is."""

    model_config = ConfigDict(extra="forbid")

    action: KeyAction


@router.get("/minions", response_model=Returned, summary="The accepted minions")
async def minions(services: Serves, who: Who) -> Json:
    """Return the grains of each accepted minion that has told them, and whether it is connected."""
    return returned(await _minions(services, who))


@router.get("/minions/{mid}", response_model=Returned, summary="One minion")
async def minion(services: Serves, who: Who, mid: MinionId) -> Json:
    """Return the grains of one minion."""
    need_reading(who, f"salt/minion/{mid}/start", f"minion {mid}")
    found = await _minions(services, who)
    if mid not in found:
        raise NoSuchThingError(f"there is no accepted minion {mid}")
    return returned({mid: found[mid]})


async def _minions(services: Services, who: Identity) -> dict[str, Any]:
    every = {"tgt": "*", "tgt_type": "glob"}
    known: list[str] = await services.ask("link", "minions.match", every)
    connected = set(await services.ask("link", "minions.connected"))
    grains: dict[str, Any] = await services.ask("link", "minions.grains") or {}
    return {
        each: {**(grains.get(each) or {}), "id": each, "connected": each in connected}
        for each in known
        if who.may.may_read(f"salt/minion/{each}/start")
    }


@router.post(
    "/minions",
    response_model=Sent,
    status_code=202,
    summary="Send a job",
    openapi_extra=JOB_BODY,
)
async def send(request: Request, services: Serves, who: Who) -> Json:
    """Send a job without waiting, as Salt's route does: low data without ``client``."""
    body = await read(request)
    chunks = body if isinstance(body, list) else [body]
    if not all(isinstance(chunk, dict) for chunk in chunks):
        raise HttpError("low data is a mapping with 'tgt' and 'fun'")
    parsed = lowstate.parse([{**chunk, "client": "local_async"} for chunk in chunks])
    for low in parsed:
        services.clients.check(low, who)
    sent = [await services.clients.run(low, who) for low in parsed]
    links = [{"href": f"/jobs/{job['jid']}"} for job in sent if job]
    return Json({"return": sent, "_links": {"jobs": links}}, 202)


@router.get("/keys", response_model=KeysReturned, summary="The keys by their state")
async def keys(services: Serves, who: Who) -> Json:
    """Return the ids of minions by the states of their keys, with the fingerprints."""
    need_reading(who, "salt/key", "keys")
    listed = await _fingerprints(services)
    return Json(
        {
            "return": {folder: sorted(found) for folder, found in listed.items()},
            "fingerprints": listed,
        }
    )


@router.get("/keys/{mid}", response_model=KeysReturned, summary="One key")
async def key(services: Serves, who: Who, mid: MinionId) -> Json:
    """Return the fingerprint of a minion's key, under its state."""
    need_reading(who, "salt/key", "keys")
    listed = await _fingerprints(services)
    found = {folder: {mid: fingers[mid]} for folder, fingers in listed.items() if mid in fingers}
    if not found:
        raise NoSuchThingError(f"there is no key of {mid}")
    return Json({"return": found})


@router.post("/keys/{mid}", response_model=Returned, summary="Accept, reject or delete a key")
async def change_key(services: Serves, who: Who, mid: MinionId, wanted: KeyRequest) -> Json:
    """Change one key; it needs the permission of the wheel function, such as ``key.accept``."""
    options = {
        KeyAction.ACCEPT: {"include_rejected": True},
        KeyAction.REJECT: {"include_accepted": True},
        KeyAction.DELETE: {},
    }[wanted.action]
    low = Low("wheel", f"key.{wanted.action.value}", [mid], dict(options))
    services.clients.check(low, who)
    if mid not in set().union(*(await _fingerprints(services)).values()):  # no glob, no list
        raise NoSuchThingError(f"there is no key of {mid}")
    done = await services.clients.run(low, who)
    changed: dict[str, Any] = done["data"]["return"] or {}
    if not any(mid in names for names in changed.values()):
        raise NoSuchThingError(f"no key of {mid} can be {wanted.action.value}ed")
    return returned(changed)


async def _fingerprints(services: Services) -> dict[str, dict[str, str]]:
    import asyncio

    from bus.keys import KeyStore

    found = await asyncio.to_thread(lambda: KeyStore(services.opts["pki_dir"]).finger())
    return {folder: dict(found.get(folder) or {}) for folder in _FOLDERS}
