"""``/traces``, ``/dead``, ``/replay`` and the chain of an event: what rules made of events."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from bus.errors import WireError
from bus.journal import JournalReader, journal_path
from bus.record import Event
from reactor.cli.lookup import Reactor, event_at
from reactor.http import chains
from reactor.http.answers import Json, returned
from reactor.http.auth import Identity
from reactor.http.errors import NoSuchThingError
from reactor.http.models import HIGHEST, Returned
from reactor.http.permissions import need
from reactor.http.services import Serves, Who, need_reading

router = APIRouter(tags=["rules"])

LOOK_AHEAD = 5_000
"""Events behind one in which its effects are looked for."""

Seq = Annotated[int, Field(ge=1, le=HIGHEST)]
Number = Annotated[int, Path(ge=1, le=HIGHEST)]


class DeadRequest(BaseModel):
    """Which dead letters: by their ids, or all of a rule."""

    model_config = ConfigDict(extra="forbid")

    ids: list[str] = Field(default_factory=list, max_length=500)
    rule: str = Field("", max_length=200)


class ReplayRequest(BaseModel):
    """Which event, for which rule; without ``run`` it is only said what would happen."""

    model_config = ConfigDict(extra="forbid")

    seq: Seq
    rule: str = Field("", max_length=200, description="Only this rule.")
    run: bool = Field(
        default=False, strict=True, description="Have the reactions run, not only be worked out."
    )


@router.get("/traces", response_model=Returned, summary="What rules did, step by step")
async def traces(
    services: Serves,
    who: Who,
    rule: Annotated[str, Query(max_length=200)] = "",
    reaction: Annotated[str, Query(max_length=300)] = "",
    seq: Annotated[int | None, Query(ge=1, le=HIGHEST)] = None,
    failed: bool = False,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> Json:
    """Return the newest traces of firings and of events that rules turned away."""
    need_reading(who, "reactor/rules/reloaded", "traces")
    wanted = {"rule": rule, "reaction": reaction, "seq": seq, "failed": failed, "limit": limit}
    found: list[dict[str, Any]] = await services.ask("reactor", "traces", wanted)
    return returned(*[each for each in found if _may_see(who, each)])


@router.get("/why/{seq}", response_model=Returned, summary="What became of an event")
async def why(services: Serves, who: Who, seq: Number) -> Json:
    """Say what each rule made of an event, and why, with the value of every condition."""
    need_reading(who, "reactor/rules/reloaded", "rules")
    return returned(await asyncio.to_thread(_explained, services.opts, who, seq))


def _explained(opts: Any, who: Identity, seq: int) -> dict[str, Any]:
    from reactor.engine.explaining import explain

    reactor = Reactor(opts)
    snapshot = reactor.rules()
    with reactor.journal() as journal:
        event = _event(journal, who, seq)
        return dict(explain(event, snapshot, reactor.known(event, journal)))


def _event(journal: JournalReader, who: Identity, seq: int) -> Event:
    rows = journal.read(seq - 1, 1, seq)
    if not rows:
        raise NoSuchThingError(f"there is no event {seq} in the journal")
    event = event_at(seq, journal)
    need(who.may.may_read(event.tag), f"read {event.tag}")
    return event


@router.get("/events/{seq}/chain", response_model=Returned, summary="Its causes and effects")
async def chain(services: Serves, who: Who, seq: Number) -> Json:
    """Return what caused an event, the event, and what it caused, as far as it may be read."""
    return returned(await asyncio.to_thread(_chain, services.opts, who, seq))


def _chain(opts: Any, who: Identity, seq: int) -> dict[str, Any]:
    with JournalReader(journal_path(opts["state_dir"])) as journal:
        event = _event(journal, who, seq)

        def find(number: int) -> Event | None:
            rows = journal.read(number - 1, 1, number)
            return Event.from_wire(rows[0][1], number, journal.bus_id) if rows else None

        before = chains.causes(event, find)
        after = chains.effects(event, _later(journal, seq))
    return {
        "causes": [_shown(each) for each in before if who.may.may_read(each.tag)],
        "event": _shown(event),
        "effects": [_shown(each) for each in after if who.may.may_read(each.tag)],
    }


def _later(journal: JournalReader, seq: int) -> Iterator[Event]:
    for number, raw in journal.scan(seq, seq + LOOK_AHEAD):
        try:
            yield Event.from_wire(raw, number, journal.bus_id)
        except WireError:
            continue


def _shown(event: Event) -> dict[str, Any]:
    return {"seq": event.seq, "tag": event.tag, "data": event.data}


@router.get("/dead", response_model=Returned, summary="Reactions that failed for good")
async def dead(
    services: Serves,
    who: Who,
    rule: Annotated[str, Query(max_length=200)] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Json:
    """Return the dead letters, the newest first, and how many were dropped."""
    need_reading(who, "reactor/rules/reloaded", "dead letters")
    found: dict[str, Any] = await services.ask(
        "reactor", "dead.list", {"rule": rule, "limit": limit}
    )
    found["letters"] = [each for each in found["letters"] if _may_see(who, each)]
    return returned(found)


@router.post("/dead/retry", response_model=Returned, summary="Try dead letters again")
async def retry(services: Serves, who: Who, wanted: DeadRequest) -> Json:
    """Begin failed reactions again; each is told with the problem that it met, if any."""
    await _need_rules_of(services, who, wanted)
    params = {"ids": wanted.ids, "rule": wanted.rule}
    return returned(*await services.ask("reactor", "dead.retry", params))


@router.post("/dead/drop", response_model=Returned, summary="Forget dead letters")
async def drop(services: Serves, who: Who, wanted: DeadRequest) -> Json:
    """Forget failed reactions; the answer is how many."""
    await _need_rules_of(services, who, wanted)
    params = {"ids": wanted.ids, "rule": wanted.rule}
    return returned(await services.ask("reactor", "dead.drop", params))


async def _need_rules_of(services: Serves, who: Identity, wanted: DeadRequest) -> None:
    """Refuse who may not administer each rule whose letters are meant."""
    if wanted.rule and not wanted.ids:
        names = {wanted.rule}
    elif not wanted.ids:
        raise NoSuchThingError("name dead letters by 'ids', or their 'rule'")
    else:
        params = {"ids": wanted.ids, "limit": len(wanted.ids)}
        found: dict[str, Any] = await services.ask("reactor", "dead.list", params)
        names = {str(letter["rule"]) for letter in found["letters"]}
        if not names:
            raise NoSuchThingError("there is no such dead letter")
    for name in names:
        need(who.may.may_administer(name), f"administer the rule {name}")


@router.post("/replay", response_model=Returned, summary="What the present rules make of an event")
async def replay(services: Serves, who: Who, wanted: ReplayRequest) -> Json:
    """Say what would run for a past event, or have it run under ids of its own."""
    need_reading(who, "reactor/rules/reloaded", "rules")
    if not wanted.run:
        return returned(*await asyncio.to_thread(_simulated, services.opts, who, wanted))
    need(who.may.may_administer(wanted.rule or "*"), f"administer {wanted.rule or 'all rules'}")
    row = await services.hub.find(wanted.seq)
    if row is None:
        raise NoSuchThingError(f"there is no event {wanted.seq} in the journal")
    need(who.may.may_read(row.tag), f"read {row.tag}")
    params = {"seqs": [wanted.seq], "rule": wanted.rule, "run": uuid.uuid4().hex[:8]}
    return returned(await services.ask("reactor", "replay", params))


def _simulated(opts: Any, who: Identity, wanted: ReplayRequest) -> list[dict[str, Any]]:
    from reactor.rules.simulating import simulate

    reactor = Reactor(opts)
    snapshot = reactor.rules()
    with reactor.journal() as journal:
        event = _event(journal, who, wanted.seq)
    outcomes = (found.describe() for found in simulate([event], snapshot))
    return [each for each in outcomes if not wanted.rule or each["rule"] == wanted.rule]


def _may_see(who: Identity, record: dict[str, Any]) -> bool:
    event = record.get("event") or {}
    return who.may.may_read(str(event.get("tag", "")))
