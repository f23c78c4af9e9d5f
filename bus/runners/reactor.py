"""The running reactor: its map, its rules' switches, and which of several is active."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from bus import endpoints, rpc
from bus.modules._errors import InvocationError
from bus.running import asker

__opts__: Mapping[str, Any]

_CHANGE_SECONDS = 10.0
_LOOK_EVERY = 0.05


def list() -> Any:
    """Return the entries of the reactor map that are in force.

    CLI example: ``reactor run reactor.list``
    """
    return _ask("map.list")


def add(event: str, reactors: str | Sequence[str]) -> dict[str, Any]:
    """Have reactor files react to a tag glob, until the reactor is started anew.

    CLI example: ``reactor run reactor.add 'salt/cloud/*/destroyed' /srv/reactor/destroy.sls``

    Args:
        event: the tag glob.
        reactors: a path, or a list of paths.
    """
    files = [reactors] if isinstance(reactors, str) else [*reactors]
    if not event or not all(isinstance(file, str) and file for file in files):
        raise InvocationError("reactor.add takes a tag glob, and a path or a list of paths")
    answer: dict[str, Any] = _ask("map.add", event=event, reactors=files)
    return answer


def delete(event: str) -> dict[str, Any]:
    """Have no reactor file react to this tag glob, until the reactor is started anew.

    CLI example: ``reactor run reactor.delete 'salt/cloud/*/destroyed'``

    Args:
        event: the tag glob, as the map has it.
    """
    answer: dict[str, Any] = _ask("map.delete", event=event)
    return answer


def rules() -> dict[str, Any]:
    """Return the rules of the running reactor with state, counters and last error.

    CLI example: ``reactor run reactor.rules``
    """
    answer: dict[str, Any] = _ask("rules")
    return answer


def disable(*names: str) -> dict[str, str]:
    """Switch rules off, until they are switched on again; restarts do not change it.

    CLI example: ``reactor run reactor.disable restart_nginx 'deploy_*'``

    Args:
        names: names of rules, or globs.

    Returns:
        The state of each of the rules by name: ``off``.
    """
    return _switch("disable", names, on=False)


def enable(*names: str) -> dict[str, str]:
    """Switch rules on again; one whose file says ``enabled: false`` stays off.

    CLI example: ``reactor run reactor.enable restart_nginx 'deploy_*'``

    Args:
        names: names of rules, or globs.

    Returns:
        The state of each of the rules by name: ``on`` or ``off``.
    """
    return _switch("enable", names, on=True)


def is_leader(name: str = "reactor") -> bool:
    """Return whether a reactor of this master is the active one.

    CLI example: ``reactor run reactor.is_leader``

    Args:
        name: of the reactor; by default the one that ``reactor master`` runs.
    """
    return bool(_ask_named(name, "leader")["active"])


def set_leader(value: bool = True, name: str = "reactor") -> bool:
    """Have a reactor take over from the active one, or stand by until it is told to lead again.

    Events wait in the journal while no reactor is active. Returns whether this one is, once the
    change has been made.

    CLI example: ``reactor run reactor.set_leader False``

    Args:
        value: whether it is to lead.
        name: of the reactor; by default the one that ``reactor master`` runs.
    """
    if not isinstance(value, bool):
        raise InvocationError("reactor.set_leader takes True or False")
    _ask_named(name, "leader.set", value=value)
    deadline = time.monotonic() + _CHANGE_SECONDS
    while (active := is_leader(name)) != value and time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY)
    return active


def _switch(function: str, names: Sequence[str], *, on: bool) -> dict[str, str]:
    if not names or not all(isinstance(name, str) and name for name in names):
        raise InvocationError(f"reactor.{function} takes names of rules, or globs")
    found = _ask("rules.switch", rules=[*names], on=on, user=asker())
    return {rule["rule"]: rule["state"] for rule in found}


def _ask_named(name: str, method: str, **params: Any) -> dict[str, Any]:
    address = endpoints.master_reactor_named(__opts__, name)
    answer: dict[str, Any] = rpc.call(address, method, params)
    return answer


def _ask(method: str, **params: Any) -> Any:
    return rpc.call(endpoints.master_reactor(__opts__), method, params)
