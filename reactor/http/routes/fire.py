"""``POST /fire``: an event of any tag that the token may fire."""

from __future__ import annotations

from fastapi import APIRouter

from reactor.http.models import Fired, FireRequest
from reactor.http.permissions import need
from reactor.http.services import Serves, Who

router = APIRouter(tags=["events"])


@router.post("/fire", summary="Fire an event")
async def fire(services: Serves, who: Who, event: FireRequest) -> Fired:
    """Fire an event; the answer comes once it is in the journal, with its number."""
    need(who.may.may_fire(event.tag), f"fire {event.tag[:200]}")
    return Fired(seq=await services.fire(event.tag, event.data))
