"""Fires events on the master's bus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bus.event import get_event
from bus.modules._errors import InvocationError

__opts__: Mapping[str, Any]

_MILLISECONDS = 5000


def send(tag: str, data: Mapping[str, Any] | None = None, **kwargs: Any) -> bool:
    """Fire an event on the master's bus, with the data as it is given.

    CLI example: ``reactor run event.send myco/deploy/done '{version: 1.2}'``

    Args:
        tag: what it is about.
        data: the event's data; its values beat those of ``kwargs``.
        **kwargs: values of the event's data.

    Returns:
        Whether it is in the journal.

    Raises:
        NotRunningError: nothing serves the master's bus.
    """
    if data is not None and not isinstance(data, Mapping):
        raise InvocationError(f"data is {type(data).__name__}: give a dict such as '{{ok: true}}'")
    given = {key: value for key, value in kwargs.items() if not key.startswith("__")}
    with get_event("master", opts=__opts__, listen=False, raise_errors=True) as event:
        return event.fire_event({**given, **(data or {})}, tag, timeout=_MILLISECONDS)
