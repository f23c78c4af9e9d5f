"""Says which jobs there were and what came of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bus import endpoints, rpc

__opts__: Mapping[str, Any]

_SECONDS = 10.0


def list_jobs(limit: int | None = None) -> dict[str, Any]:
    """Return the newest jobs that the master remembers, by job id; ``limit`` says how many.

    CLI example: ``reactor run jobs.list_jobs limit=20``
    """
    found = _ask("jobs.list", {"limit": int(limit)} if limit else {})
    return {jid: found[jid] for jid in sorted(found)}


def lookup_jid(jid: str) -> dict[str, Any]:
    """Return what each minion returned for a job.

    CLI example: ``reactor run jobs.lookup_jid 20261122093000123456``
    """
    return dict(_ask("jobs.lookup", {"jid": str(jid)}))


def active() -> dict[str, Any]:
    """Return the jobs that minions still owe a return for, and which minions those are.

    CLI example: ``reactor run jobs.active``
    """
    jobs = list_jobs()
    owing = {jid: _owing(jid, job) for jid, job in jobs.items()}
    return {jid: {**jobs[jid], "Running": minions} for jid, minions in owing.items() if minions}


def _owing(jid: str, job: Mapping[str, Any]) -> list[str]:
    """Minions that were not connected when the job went out owe nothing."""
    asked = set(job.get("minions", ())) - set(job.get("missing", ()))
    return sorted(asked - set(lookup_jid(jid))) if asked else []


def _ask(method: str, params: Mapping[str, Any]) -> Any:
    return rpc.call(endpoints.master_link(__opts__), method, params, _SECONDS)
