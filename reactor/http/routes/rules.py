"""``/rules``: what the reactor has in force."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from reactor.http.answers import Json, returned
from reactor.http.models import Returned
from reactor.http.permissions import need
from reactor.http.services import Serves, Who, need_reading

router = APIRouter(tags=["rules"])


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
