"""Fires events from a job or from the command line of a minion."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from bus.errors import BusError, DataError, TagError
from bus.event import MinionEvent
from bus.loader.custom import is_masterless
from bus.modules._errors import InvocationError

__opts__: Mapping[str, Any]
__salt__: Mapping[str, Callable[..., Any]]
__grains__: Mapping[str, Any]
__context__: dict[str, Any]

_LOG = logging.getLogger(__name__)
_CONNECTION = "event.connection"
_RESTART_SECONDS = 3.0


def fire(data: Mapping[str, Any], tag: str, timeout: float = 60) -> bool:
    """Fire an event on the minion's own bus; nobody else hears it.

    CLI example: ``reactor cmd web1 event.fire '{"data": "my event data"}' 'tag'``

    Args:
        data: the event's data.
        tag: what it is about.
        timeout: seconds to wait until the bus has taken it.

    Returns:
        Whether the bus has taken it; the log says why not.
    """
    return _taken(lambda bus: bus.fire_event(data, tag, timeout=_patience(bus, timeout)))


def fire_master(
    data: Mapping[str, Any],
    tag: str,
    preload: Mapping[str, Any] | None = None,
    timeout: float = 60,
) -> bool:
    """Fire an event on the master's bus.

    CLI example: ``reactor cmd web1 event.fire_master '{"data": "my event data"}' 'tag'``

    Args:
        data: the event's data; the master wraps it with the minion's id.
        tag: what it is about.
        preload: further values for the data, which ``data`` beats.
        timeout: seconds to wait until it is taken.

    Returns:
        Whether the minion has taken it over; from then on it is sure to arrive. The log says
        why not.
    """
    whole = {**(preload or {}), **data} if isinstance(data, Mapping) else data
    if is_masterless(__opts__):
        return fire(whole, tag, timeout)
    return _taken(lambda bus: bus.fire_master(whole, tag, timeout=_patience(bus, timeout)))


def send(
    tag: str,
    data: Mapping[str, Any] | None = None,
    preload: Mapping[str, Any] | None = None,
    with_env: bool | list[str] = False,
    with_grains: bool | list[str] = False,
    with_pillar: bool | list[str] = False,
    with_env_opts: bool = False,
    **kwargs: Any,
) -> bool:
    """Send an event to the master's bus. Without a master it is fired on the minion's own.

    CLI example: ``reactor call event.send myco/build/success user=jane sha=4a1c``

    Args:
        tag: what it is about.
        data: the event's data; its values beat those of ``kwargs``.
        preload: further values, which all others beat.
        with_env: add the environment as ``environ``: all of it, or the variables named.
        with_grains: add grains as ``grains``: all of them, or those named.
        with_pillar: refused: there is no pillar here.
        with_env_opts: add ``saltenv`` and ``pillarenv`` of the options.
        **kwargs: values of the event's data.

    Returns:
        Whether the event was taken over; the log says why not.
    """
    if with_pillar:
        raise InvocationError("with_pillar: there is no pillar here; give the values as data")
    if data is not None and not isinstance(data, Mapping):
        raise InvocationError(
            f"data is {type(data).__name__}: give a dict such as '{{success: true}}'"
        )
    extra = _extra(with_env, with_grains, with_env_opts=with_env_opts)
    given = {key: value for key, value in kwargs.items() if not key.startswith("__")}
    return fire_master({**extra, **given, **(data or {})}, tag, preload)


def _extra(
    with_env: bool | list[str], with_grains: bool | list[str], *, with_env_opts: bool
) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    if with_env:
        extra["environ"] = _selected(os.environ, with_env)
    if with_grains:
        extra["grains"] = _selected(__grains__, with_grains)
    if with_env_opts:
        extra |= {name: __opts__.get(name) or "base" for name in ("saltenv", "pillarenv")}
    return extra


def _selected(values: Mapping[str, Any], wanted: bool | list[str]) -> dict[str, Any]:
    if wanted is True:
        return dict(values)
    names = wanted if isinstance(wanted, list | tuple) else [wanted]
    return {str(name): values.get(str(name), "") for name in names}


def _taken(fire: Callable[[MinionEvent], bool]) -> bool:
    """Fire, and say whether it worked: as in Salt no bus is no exception, but False and a word."""
    try:
        taken = fire(_connection())
    except (DataError, TagError):  # what cannot be fired at all is the caller's to mend
        raise
    except BusError as error:
        _LOG.error("%s", error)
        taken = False
    if not taken:
        __context__["retcode"] = 1
    return taken


def _patience(connection: MinionEvent, seconds: float) -> float:
    """Return milliseconds to wait. A minion that is being restarted is back before long."""
    limit = float(seconds) if connection.connect_pull() else min(float(seconds), _RESTART_SECONDS)
    return limit * 1000


def _connection() -> MinionEvent:
    """Return this process's connection; one that was made before a fork is its parent's."""
    kept: dict[int, MinionEvent] = __context__.setdefault(_CONNECTION, {})
    if os.getpid() not in kept:
        kept.clear()
        kept[os.getpid()] = MinionEvent(__opts__, listen=False, raise_errors=True)
    return kept[os.getpid()]
