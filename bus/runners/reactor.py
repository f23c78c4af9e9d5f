"""The reactor map of the running master: what is in force, and entries for this run only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bus import endpoints, rpc
from bus.modules._errors import InvocationError

__opts__: Mapping[str, Any]


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


def _ask(method: str, **params: Any) -> Any:
    return rpc.call(endpoints.master_reactor(__opts__), method, params)
