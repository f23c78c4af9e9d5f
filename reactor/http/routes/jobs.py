"""``/jobs``: what minions were sent, and what came back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from reactor.http.answers import Json, returned
from reactor.http.auth import Identity
from reactor.http.errors import NoSuchThingError
from reactor.http.models import JobReturned, Returned
from reactor.http.permissions import need
from reactor.http.services import Serves, Who

router = APIRouter(tags=["jobs and minions"])


@router.get("/jobs", response_model=Returned, summary="The newest jobs")
async def jobs(
    services: Serves, who: Who, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> Json:
    """Return the newest jobs that the token may read, by their ids."""
    need(bool(who.may.read), "read jobs")
    found: dict[str, Any] = await services.ask("link", "jobs.list", {"limit": limit})
    shown = {jid: _described(jid, job) for jid, job in found.items() if _may_see(who, jid)}
    return returned(shown)


@router.get("/jobs/{jid}", response_model=JobReturned, summary="One job")
async def job(
    services: Serves, who: Who, jid: Annotated[str, Path(pattern=r"^[0-9]{20}$")]
) -> Json:
    """Return a job and what each minion returned, as far as the token may read it."""
    need(_may_see(who, jid), f"read job {jid}")
    found: dict[str, Any] = await services.ask("link", "jobs.get", {"jid": jid})
    if not found:
        raise NoSuchThingError(f"there is no job {jid}")
    all_returns: Mapping[str, Any] = found.get("returns") or {}
    returns = {
        minion: value
        for minion, value in all_returns.items()
        if who.may.may_read(f"salt/job/{jid}/ret/{minion}")
    }
    info = {
        **_described(jid, found),
        "Result": {minion: _result(data) for minion, data in returns.items()},
    }
    plain = {minion: data.get("return") for minion, data in returns.items()}
    return Json({"info": [info], "return": [plain]})


def _may_see(who: Identity, jid: str) -> bool:
    return who.may.may_read(f"salt/job/{jid}/new")


def _described(jid: str, job: Mapping[str, Any]) -> dict[str, Any]:
    """Return a job as Salt's runner ``jobs.list_jobs`` shows it."""
    return {
        "jid": jid,
        "Function": job.get("fun", ""),
        "Arguments": list(job.get("arg") or ()),
        "Target": job.get("tgt", ""),
        "Target-type": job.get("tgt_type", ""),
        "User": job.get("user", ""),
        "Minions": list(job.get("minions") or ()),
        "Missing": list(job.get("missing") or ()),
    }


def _result(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "return": data.get("return"),
        "retcode": data.get("retcode", 0),
        "success": data.get("success", True),
    }
