"""What caused an event, and what it caused, in the events around it. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from bus.record import CAUSE, Event

MOST = 200
"""Events of one chain."""

_JOB = re.compile(r"salt/job/(?P<jid>\d+)/")
_REPORT = "reactor/reaction/"

Known = Callable[[int], Event | None]
"""Gives an event by its number."""


def causes(event: Event, find: Known) -> list[Event]:
    """Return what led to an event, the first cause first."""
    chain: list[Event] = []
    seen = {event.seq}
    seq = cause_of(event)
    while seq is not None and seq not in seen and len(chain) < MOST:
        seen.add(seq)
        found = find(seq)
        if found is None:
            break
        chain.append(found)
        seq = cause_of(found)
    return chain[::-1]


def cause_of(event: Event) -> int | None:
    """Return the number of the event whose reaction fired this one."""
    return _seq(event.data.get(CAUSE))


def effects(event: Event, later: Iterable[Event]) -> list[Event]:
    """Return what an event led to, in order: reactions, their events, their jobs' events.

    Args:
        event: the cause.
        later: what came behind it, in order.
    """
    rest = list(later)
    members, jobs = {event.seq}, _jobs_of(event)
    # The report that names a job comes behind the job's first event: once more is enough.
    for _ in range(2):
        found = [each for each in rest if _takes(each, members, jobs)]
    return found[:MOST]


def _takes(event: Event, members: set[int], jobs: set[str]) -> bool:
    """Say whether an event belongs to a chain, and note what it may lead to."""
    if not _belongs(event, members, jobs):
        return False
    members.add(event.seq)
    jobs |= _jobs_of(event)
    return True


def _belongs(event: Event, members: set[int], jobs: set[str]) -> bool:
    if cause_of(event) in members or _seq(event.data.get("event")) in members:
        return True
    job = _JOB.match(event.tag)
    return job is not None and job["jid"] in jobs


def _jobs_of(event: Event) -> set[str]:
    """Return the jobs that an event begins or reports to have begun."""
    job = _JOB.match(event.tag)
    if job:
        return {job["jid"]}
    calls = event.data.get("calls") if event.tag.startswith(_REPORT) else None
    results = [call.get("result") for call in calls or () if isinstance(call, Mapping)]
    return {str(each["jid"]) for each in results if isinstance(each, Mapping) and each.get("jid")}


def _seq(place: Any) -> int | None:
    seq = place.get("seq") if isinstance(place, Mapping) else None
    return seq if isinstance(seq, int) else None
