"""``/stats`` for people, ``/metrics`` for Prometheus."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from bus.errors import BusError
from reactor.http.answers import Json, returned
from reactor.http.models import Returned
from reactor.http.services import Serves, Services, Who

router = APIRouter(tags=["operations"])

PARTS = ("bus", "link", "reactor")


@router.get("/stats", response_model=Returned, summary="What each part says of itself")
async def stats(services: Serves, who: Who) -> Json:
    """Return the status of bus, link and reactor, and of this server."""
    del who
    return returned(await statuses(services))


async def statuses(services: Services) -> dict[str, Any]:
    """Ask each part how it does; a part that does not answer is None."""
    asked = (services.ask(part, "status") for part in PARTS)
    answers = await asyncio.gather(*asked, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, BusError):
            raise answer
    found = {
        part: None if isinstance(answer, BaseException) else answer
        for part, answer in zip(PARTS, answers, strict=True)
    }
    return {**found, "http": services.describe()}


@router.get("/metrics", summary="For Prometheus", response_class=Response)
async def metrics(request: Request, services: Serves) -> Response:
    """Return counters and gauges in Prometheus' form; no label is a tag or a minion's id."""
    from reactor.http import metrics as form

    if not services.opts["http_open_metrics"]:
        services.auth.identify(request)
    text = form.exposition(await statuses(services))
    return Response(text, media_type=form.CONTENT_TYPE)
