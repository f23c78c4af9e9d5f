"""Says which minions are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import bus
from bus import endpoints, rpc
from bus.client import LocalClient, WheelClient

__opts__: Mapping[str, Any]

_SECONDS = 5.0

Target = str | Sequence[str]


def status(
    tgt: Target = "*",
    tgt_type: str = "glob",
    timeout: float | None = None,
    gather_job_timeout: float | None = None,
) -> dict[str, list[str]]:
    """Return the accepted minions that are connected (``up``) and those that are not (``down``).

    CLI example: ``reactor run manage.status``

    Args:
        tgt: which minions.
        tgt_type: how ``tgt`` is read, such as ``list`` or ``grain``.
        timeout: accepted as in Salt; the master knows who is connected, so nobody is waited for.
        gather_job_timeout: the same.
    """
    del timeout, gather_job_timeout
    accepted = _ask("minions.match", {"tgt": tgt, "tgt_type": tgt_type})
    connected = set(_ask("minions.connected", {}))
    return {
        "up": sorted(minion for minion in accepted if minion in connected),
        "down": sorted(minion for minion in accepted if minion not in connected),
    }


def up(
    tgt: Target = "*",
    tgt_type: str = "glob",
    timeout: float | None = None,
    gather_job_timeout: float | None = None,
) -> list[str]:
    """Return the minions that are connected; arguments as in `status`.

    CLI example: ``reactor run manage.up 'web*'``
    """
    return status(tgt, tgt_type, timeout, gather_job_timeout)["up"]


def down(
    tgt: Target = "*",
    tgt_type: str = "glob",
    removekeys: bool = False,
    timeout: float | None = None,
    gather_job_timeout: float | None = None,
) -> list[str]:
    """Return the accepted minions that are not connected; arguments as in `status`.

    CLI example: ``reactor run manage.down``

    Args:
        tgt: which minions.
        tgt_type: how ``tgt`` is read.
        removekeys: delete their keys, so that they have to be accepted anew.
        timeout: see `status`.
        gather_job_timeout: see `status`.
    """
    found = status(tgt, tgt_type, timeout, gather_job_timeout)["down"]
    if removekeys and found:
        client = WheelClient(__opts__)
        try:
            client.cmd("key.delete_dict", [{"minions": found}])
        finally:
            client.close()
    return found


def present(subset: Sequence[str] | None = None) -> list[str]:
    """Return the minions that are connected; of a subset, if one is given.

    CLI example: ``reactor run manage.present``
    """
    return _of(up(), subset)


def not_present(subset: Sequence[str] | None = None) -> list[str]:
    """Return the accepted minions that are not connected; of a subset, if one is given.

    CLI example: ``reactor run manage.not_present``
    """
    return _of(down(), subset)


def alived(subset: Sequence[str] | None = None) -> list[str]:
    """Return what `present` does: a minion that is connected is alive.

    CLI example: ``reactor run manage.alived``
    """
    return present(subset)


def not_alived(subset: Sequence[str] | None = None) -> list[str]:
    """Return what `not_present` does.

    CLI example: ``reactor run manage.not_alived``
    """
    return not_present(subset)


def versions(timeout: float | None = None) -> dict[str, Any]:
    """Return the version of the master and of each minion that answers, by what is to be done.

    CLI example: ``reactor run manage.versions``

    Args:
        timeout: seconds without an answer after which a minion is not waited for.
    """
    with LocalClient(mopts=__opts__) as client:
        found = client.cmd("*", "test.version", timeout=timeout)
    sorts: dict[str, dict[str, str]] = {}
    for minion, version in sorted(found.items()):
        sorts.setdefault(_sort(str(version)), {})[minion] = str(version)
    return {"Master": bus.__version__, **sorts}


def _sort(version: str) -> str:
    mine, theirs = _numbers(bus.__version__), _numbers(version)
    if mine == theirs:
        return "Up to date"
    return "Minion requires update" if theirs < mine else "Minion newer than master"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in version.split("."))


def _of(minions: list[str], subset: Sequence[str] | None) -> list[str]:
    if subset is None:
        return minions
    wanted = {subset} if isinstance(subset, str) else set(subset)
    return [minion for minion in minions if minion in wanted]


def _ask(method: str, params: Mapping[str, Any]) -> list[str]:
    return list(rpc.call(endpoints.master_link(__opts__), method, params, _SECONDS))
