"""``/rules``: what the reactor has in force, and its switches."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from bus.errors import RemoteError
from reactor.http.answers import Json, returned
from reactor.http.auth import Identity
from reactor.http.errors import NoSuchThingError
from reactor.http.models import Returned
from reactor.http.permissions import need
from reactor.http.services import Serves, Services, Who, need_reading

router = APIRouter(tags=["rules"])

Name = Annotated[str, Field(min_length=1, max_length=1000)]


_LONGEST = 200


class SwitchRequest(BaseModel):
    """Which rules: their names, or globs."""

    model_config = ConfigDict(extra="forbid")

    rules: list[Name] = Field(min_length=1, max_length=500)


@router.get("/rules", response_model=Returned, summary="The rules and their counters")
async def rules(services: Serves, who: Who) -> Json:
    """Return the rules with state, counters, last error and source, and what is wrong in files."""
    need_reading(who, "reactor/rules/reloaded", "rules")
    found: dict[str, Any] = await services.ask("reactor", "rules")
    return returned(found)


@router.post("/rules/reload", response_model=Returned, summary="Read the rule files again")
async def reload(services: Serves, who: Who) -> Json:
    """Have the rule files read again; ``reactor/rules/reloaded`` tells what came of it."""
    need(who.may.may_administer("*"), "administer all rules")
    return returned(await services.ask("reactor", "reload"))


@router.post("/rules/disable", response_model=Returned, summary="Switch rules off")
async def disable(services: Serves, who: Who, wanted: SwitchRequest) -> Json:
    """Switch rules off until they are switched on again; ``reactor/rule/<rule>/disabled`` tells."""
    return await _switch(services, who, wanted.rules, on=False)


@router.post("/rules/enable", response_model=Returned, summary="Switch rules on again")
async def enable(services: Serves, who: Who, wanted: SwitchRequest) -> Json:
    """Switch rules on again that were switched off; one that its file disables stays off."""
    return await _switch(services, who, wanted.rules, on=True)


async def _switch(services: Services, who: Identity, wanted: list[str], *, on: bool) -> Json:
    try:
        names = await services.ask("reactor", "rules.named", {"rules": wanted, "on": on})
    except RemoteError as error:
        _need_rules(who, wanted, wanted)  # whoever may not is not told whether there is one
        raise NoSuchThingError(_told_to(who, str(error))) from error
    _need_rules(who, names, wanted)
    params = {"rules": names, "on": on, "user": who.name}
    return returned(*await services.ask("reactor", "rules.switch", params))


def _need_rules(who: Identity, names: list[str], wanted: list[str]) -> None:
    """Refuse who may not administer each of the rules, in the words of the request."""
    allowed = all(who.may.may_administer(name) for name in names)
    need(allowed, f"administer every rule that is meant by {', '.join(wanted)[:_LONGEST]}")


def _told_to(who: Identity, text: str) -> str:
    """Leave out the name of the nearest rule where the rules may not be read."""
    return text if who.may.may_read("reactor/rules/reloaded") else text.partition(":")[0]
