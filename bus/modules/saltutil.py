"""Asks the minion itself about its jobs and its synced modules."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Mapping
from typing import Any

from bus import endpoints, rpc
from bus.calls import names_of
from bus.modules._errors import ExecutionError

__opts__: Mapping[str, Any]

_SECONDS = 5.0
_SYNC_SECONDS = 60.0  # files may have to come from the master
_ROTATE_SECONDS = 30.0
_LOOK_SECONDS = 0.02


def running() -> list[dict[str, Any]]:
    """Return the jobs that run on this minion.

    CLI example: ``reactor cmd web1 saltutil.running``
    """
    return list(_ask("jobs.running", {}))


def is_running(fun: str) -> list[dict[str, Any]]:
    """Return the running jobs that have a function which matches a glob.

    CLI example: ``reactor cmd web1 saltutil.is_running 'cmd.*'``
    """
    return [job for job in running() if fnmatch.filter(names_of(job.get("fun", "")), fun)]


def find_job(jid: str) -> dict[str, Any]:
    """Return a job that runs or waits to run, or nothing if it does neither here.

    CLI example: ``reactor cmd web1 saltutil.find_job 20261122093000123456``
    """
    return dict(_ask("jobs.find", {"jid": str(jid)}))


def kill_job(jid: str) -> Any:
    """End a running job and the processes that it started.

    CLI example: ``reactor cmd web1 saltutil.kill_job 20261122093000123456``
    """
    return _ask("jobs.kill", {"jid": str(jid)})


def term_job(jid: str) -> Any:
    """Ask a running job and the processes that it started to end, with SIGTERM.

    CLI example: ``reactor cmd web1 saltutil.term_job 20261122093000123456``

    Returns:
        Whether it runs here.
    """
    return signal_job(jid, "SIGTERM")


def signal_job(jid: str, sig: int | str) -> Any:
    """Send a signal to a running job and the processes that it started.

    CLI example: ``reactor cmd web1 saltutil.signal_job 20261122093000123456 SIGUSR1``

    Args:
        jid: the job's id.
        sig: the signal's name or number.

    Returns:
        Whether it runs here.

    Raises:
        ArgumentsError: there is no such signal.
    """
    return _ask("jobs.signal", {"jid": str(jid), "signal": str(sig)})


def kill_all_jobs() -> list[str]:
    """End all jobs here, those that wait too, and return their ids.

    CLI example: ``reactor cmd web1 saltutil.kill_all_jobs``
    """
    return list(_ask("jobs.kill_all", {}))


def sync_modules() -> list[str]:
    """Fetch the custom modules (``_modules``), load all functions anew, return what changed.

    Jobs that come after it has returned run the new functions.

    CLI example: ``reactor cmd '*' saltutil.sync_modules``

    Raises:
        ExecutionError: a file could not be had, or the master did not answer in time.
    """
    number = _ask("modules.sync", {})
    deadline = time.monotonic() + _SYNC_SECONDS
    while (sync := _ask("status", {})["sync"])["running"] or sync["finished"] < number:
        if time.monotonic() > deadline:
            raise ExecutionError(f"the sync did not end within {_SYNC_SECONDS:g} s")
        time.sleep(_LOOK_SECONDS)
    if sync["errors"]:
        raise ExecutionError("; ".join(sync["errors"]))
    return list(sync["changed"])


def sync_grains() -> list[str]:
    """Fetch everything custom, and return which files of ``_grains`` changed.

    CLI example: ``reactor cmd '*' saltutil.sync_grains``
    """
    return [name for name in sync_modules() if name.startswith("_grains/")]


def sync_all() -> list[str]:
    """Fetch everything custom (``_modules``, ``_grains``), load functions and grains anew.

    CLI example: ``reactor cmd '*' saltutil.sync_all``
    """
    return sync_modules()


def refresh_modules() -> bool:
    """Load all functions and grains anew.

    CLI example: ``reactor cmd web1 saltutil.refresh_modules``
    """
    sync_modules()
    return True


def refresh_grains() -> bool:
    """Load all functions and grains anew.

    CLI example: ``reactor cmd web1 saltutil.refresh_grains``
    """
    return refresh_modules()


def regen_keys() -> str:
    """Exchange this minion's key for a new one, on the master too, and return its fingerprint.

    The master takes it at the word of the old key. Jobs and events go on.

    CLI example: ``reactor cmd web1 saltutil.regen_keys``

    Raises:
        ExecutionError: the master did not take it, or did not answer in time.
    """
    number = _ask("keys.rotate", {})
    deadline = time.monotonic() + _ROTATE_SECONDS
    while (rotation := _ask("keys.rotation", {}))["finished"] < number:
        if time.monotonic() > deadline:
            raise ExecutionError(
                f"the master did not confirm the new key within {_ROTATE_SECONDS:g} s: it waits "
                "in minion.pem.new, and the minion goes on with it at its next connection"
            )
        time.sleep(_LOOK_SECONDS)
    if rotation["error"]:
        raise ExecutionError(rotation["error"])
    return str(rotation["finger"])


def _ask(method: str, params: Mapping[str, Any]) -> Any:
    return rpc.call(endpoints.minion_pull(__opts__), method, params, timeout=_SECONDS)
