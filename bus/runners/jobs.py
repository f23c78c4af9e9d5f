"""Says which jobs there were, which run, and what came of them."""

from __future__ import annotations

import contextlib
import fnmatch
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from bus import durations, endpoints, rpc, running_jobs
from bus.calls import names_of
from bus.client import LocalClient
from bus.errors import ArgumentsError
from bus.jid import format_jid, is_jid
from bus.journal import microseconds
from bus.modules._errors import InvocationError

__opts__: Mapping[str, Any]

_SECONDS = 10.0
_ALL = 10_000  # as many as the master lists at once

Patterns = str | Sequence[str] | None


def list_jobs(
    limit: int | None = None,
    search_function: Patterns = None,
    search_target: Patterns = None,
    start_time: str | None = None,
    end_time: str | None = None,
) -> dict[str, dict[str, Any]]:
    """Return the newest jobs that the master remembers, by job id, the oldest of them first.

    CLI example: ``reactor run jobs.list_jobs search_function='cmd.*' start_time=2h limit=20``

    Args:
        limit: how many at most.
        search_function: only jobs whose function matches this glob, or one of a list.
        search_target: only jobs whose target, or a minion that it meant, matches this glob, or
            one of a list.
        start_time: only jobs from this time on: ISO 8601, or an age such as ``2h``.
        end_time: only jobs up to this time, in the same forms.

    Raises:
        InvocationError: a time cannot be read.
    """
    first, last = _moment(start_time, "start_time"), _moment(end_time, "end_time")
    filtered = any((search_function, search_target, first, last))
    asked = _ALL if filtered else limit
    found = _ask("jobs.list", {"limit": int(asked)} if asked else {})
    jids = [
        jid
        for jid, job in sorted(found.items())
        if (not first or jid >= first)
        and (not last or jid <= last)
        and _matches(names_of(job.get("fun", "")), search_function)
        and _matches(_targets(job), search_target)
    ]
    return {jid: _shown(jid, found[jid]) for jid in (jids[-int(limit) :] if limit else jids)}


def list_jobs_filter(count: int, filter_find_job: bool = True) -> dict[str, dict[str, Any]]:
    """Return the newest jobs in the form of `list_jobs`.

    CLI example: ``reactor run jobs.list_jobs_filter 50``

    Args:
        count: how many at most.
        filter_find_job: leave out those by which clients ask whether another one still runs.
    """
    found = list_jobs(search_function="*")
    wanted = [
        jid
        for jid, job in found.items()
        if not (filter_find_job and job["Function"] == "saltutil.find_job")
    ]
    return {jid: found[jid] for jid in (wanted[-int(count) :] if int(count) > 0 else [])}


def list_job(jid: str) -> dict[str, Any]:
    """Return a job and what each minion returned.

    CLI example: ``reactor run jobs.list_job 20261122093000123456``

    Raises:
        ArgumentsError: there is no such job.
    """
    job = _job(jid)
    common = {"jid": str(jid), **_shown(str(jid), job)}
    return {**common, "Minions": list(job.get("minions", ())), "Result": job.get("returns", {})}


def print_job(jid: str) -> dict[str, Any]:
    """Return a job by its id: `list_job` in the form of `list_jobs`.

    CLI example: ``reactor run jobs.print_job 20261122093000123456``
    """
    return {str(jid): list_job(jid)}


def last_run(function: Patterns = None, target: Patterns = None) -> dict[str, Any]:
    """Return the newest job, or the newest that matches, as `print_job`; nothing if none does.

    CLI example: ``reactor run jobs.last_run function='pkg.*' target=web1``

    Args:
        function: a glob, or a list of them.
        target: a glob, or a list of them.
    """
    found = list_jobs(limit=1, search_function=function, search_target=target)
    return next((print_job(jid) for jid in found), {})


def lookup_jid(jid: str) -> dict[str, Any]:
    """Return what each minion returned for a job.

    CLI example: ``reactor run jobs.lookup_jid 20261122093000123456``
    """
    return dict(_ask("jobs.lookup", {"jid": str(jid)}))


def exit_success(jid: str) -> dict[str, bool]:
    """Say of each minion whether a job has succeeded there; one that owes a return has not.

    CLI example: ``reactor run jobs.exit_success 20261122093000123456``

    Raises:
        ArgumentsError: there is no such job.
    """
    job = _job(jid)
    returns = job.get("returns", {})
    return {minion: _succeeded(returns.get(minion)) for minion in sorted(job.get("minions", ()))}


def active(timeout: float | None = None) -> dict[str, dict[str, Any]]:
    """Ask the minions which jobs they run.

    CLI example: ``reactor run jobs.active``

    Args:
        timeout: seconds without an answer after which a minion is not waited for.

    Returns:
        By job id what the job is, ``Running``, a list of ``{minion: process id}``, and
        ``Returned``, the minions that are done.
    """
    with LocalClient(mopts=__opts__) as client:
        found = running_jobs.active(client, timeout)
        return {
            jid: _active(jid, client.job(jid) if is_jid(jid) else {}, minions)
            for jid, minions in found.jobs.items()
        }


def _active(
    jid: str, job: Mapping[str, Any], minions: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    known = job or next(iter(minions.values()))
    return {
        **_shown(jid, known),
        "Running": [{minion: one.get("pid")} for minion, one in minions.items()],
        "Returned": sorted(job.get("returns", ())),
    }


def _shown(jid: str, job: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "Function": job.get("fun", ""),
        "Arguments": list(job.get("arg", ())),
        "Target": job.get("tgt", ""),
        "Target-type": job.get("tgt_type", ""),
        "User": job.get("user", ""),
        "StartTime": _start_time(jid),
    }


def _start_time(jid: str) -> str:
    """Return the time that a job id is, as Salt writes it, in UTC."""
    try:
        moment = datetime.strptime(jid, "%Y%m%d%H%M%S%f").replace(tzinfo=UTC)
    except ValueError:
        return ""
    return moment.strftime("%Y, %b %d %H:%M:%S.%f")


def _moment(text: str | None, name: str) -> str:
    """Return the job id of a time; a time without zone is the host's."""
    if not text:
        return ""
    try:
        with contextlib.suppress(ValueError):
            return format_jid(microseconds(datetime.fromisoformat(str(text))))
        return format_jid(int((time.time() - durations.seconds(str(text))) * 1_000_000))
    except (ValueError, OverflowError):
        raise InvocationError(
            f"{name} is {str(text)[:80]!r}: give a time such as 2026-11-22T09:30, or an age "
            "such as 2h"
        ) from None


def _matches(texts: Iterable[str], patterns: Patterns) -> bool:
    globs = [patterns] if isinstance(patterns, str) else patterns or ["*"]
    names = list(texts)
    return any(fnmatch.fnmatchcase(name, str(glob)) for glob in globs for name in names)


def _targets(job: Mapping[str, Any]) -> list[str]:
    target = job.get("tgt", "")
    named = [target] if isinstance(target, str) else target
    return [*map(str, named), *job.get("minions", ())]


def _succeeded(ret: Mapping[str, Any] | None) -> bool:
    return ret is not None and not ret.get("retcode") and ret.get("success", True) is True


def _job(jid: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = _ask("jobs.get", {"jid": str(jid)})
    if not found:
        raise ArgumentsError(f"there is no job {jid}: see 'reactor run jobs.list_jobs'")
    return found


def _ask(method: str, params: Mapping[str, Any]) -> Any:
    return rpc.call(endpoints.master_link(__opts__), method, params, _SECONDS)
