"""``/livez`` and ``/readyz``: for those who start and watch processes. No token, no detail."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Response

from reactor.http.models import Health
from reactor.http.services import Serves

router = APIRouter(tags=["health"])

PARTS = ("bus", "link", "reactor")

PING_SECONDS = 2.0
"""How long a part may take: one that hangs is not ready, and who asks does not wait long."""


@router.get("/livez", summary="Whether this process answers")
async def livez() -> Health:
    """Say that this process answers."""
    return Health(ok=True)


@router.get("/readyz", summary="Whether bus, link and reactor answer")
async def readyz(services: Serves, response: Response) -> Health:
    """Say whether the parts of the master answer; 503 if one does not."""
    asked = (services.ask(part, "ping", seconds=PING_SECONDS) for part in PARTS)
    answers = await asyncio.gather(*asked, return_exceptions=True)
    ok = all(answer is True for answer in answers)
    response.status_code = 200 if ok else 503
    return Health(ok=ok)
