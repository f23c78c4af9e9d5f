"""What runs on minions now, and ending it: asked of the minions themselves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from bus.client import LocalClient
from bus.errors import ArgumentsError


@dataclass(slots=True)
class Active:
    """The jobs that run.

    Attributes:
        jobs: by job id, what each minion says of it, by minion: ``pid``, ``seconds``, ...
        silent: the minions that did not say, and why.
    """

    jobs: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    silent: dict[str, str] = field(default_factory=dict)


def active(client: LocalClient, timeout: float | None = None) -> Active:
    """Ask all minions which jobs they run.

    Args:
        client: of the master.
        timeout: seconds, as for `LocalClient.cmd`.

    Raises:
        NotRunningError: no master answers.
    """
    answers = client.follow("*", "saltutil.running", timeout=timeout)
    found = Active()
    for answer in answers:
        for minion, data in answer.items():
            for job in data.get("return") or ():
                found.jobs.setdefault(str(job.get("jid", "")), {})[minion] = job
    found.jobs = {
        jid: dict(sorted(found.jobs[jid].items())) for jid in sorted(found.jobs)
    }  # as they began
    found.silent = answers.silent
    return found


@dataclass(slots=True)
class Killed:
    """Where a job was ended.

    Attributes:
        killed: the minions that ran it, or had it waiting.
        not_running: those that did neither.
        silent: those that did not say, and why.
    """

    killed: list[str] = field(default_factory=list)
    not_running: list[str] = field(default_factory=list)
    silent: dict[str, str] = field(default_factory=dict)


def kill(client: LocalClient, jid: str, timeout: float | None = None) -> Killed:
    """End a job on the minions that have not returned it.

    Args:
        client: of the master.
        jid: the job's id.
        timeout: seconds, as for `LocalClient.cmd`.

    Raises:
        NotRunningError: no master answers.
        ArgumentsError: the master knows no such job.
    """
    job = client.job(jid)
    if not job:
        raise ArgumentsError(f"there is no job {jid}: see 'reactor jobs list'")
    owing = sorted(set(job.get("minions", ())) - job.get("returns", {}).keys())
    return _kill(client, jid, owing, timeout) if owing else Killed()


def _kill(client: LocalClient, jid: str, minions: Iterable[str], timeout: float | None) -> Killed:
    answers = client.follow(list(minions), "saltutil.kill_job", [jid], timeout, "list")
    found = Killed()
    for answer in answers:
        for minion, data in answer.items():
            (found.killed if data.get("return") is True else found.not_running).append(minion)
    found.killed.sort()
    found.not_running.sort()
    found.silent = answers.silent
    return found
