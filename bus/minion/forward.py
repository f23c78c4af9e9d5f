"""What a ``fire_master`` event asks to be sent up to the master. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bus import wire
from bus.errors import DataError
from bus.tags import check_tag, tagify

TAG = "fire_master"
"""The tag on a minion's bus by which functions hand events to the minion, as in Salt."""

MAX_EVENTS = 10_000


def outgoing(raw: bytes) -> list[tuple[str, dict[str, Any]]]:
    """Return the events, tag and data each, that a ``fire_master`` event carries.

    With ``events`` it is a list of them, else the one of ``tag`` and ``data``. A ``pretag``
    makes one more of each, whose tag begins with it.

    Args:
        raw: the ``fire_master`` event as it came over the wire.

    Raises:
        TagError: a tag that cannot go onto a bus.
        DataError: it carries no event.
        WireError: ``raw`` is no event.
    """
    _, request = wire.unpack_event(raw)
    events = request.get("events")
    if not isinstance(events, list):
        return _with_pretag(_event(request), request)
    if len(events) > MAX_EVENTS:
        raise DataError(f"fire_master with {len(events)} events, at most {MAX_EVENTS} are allowed")
    return [each for one in events for each in _with_pretag(_event(one), request)]


def _event(entry: Any) -> tuple[str, dict[str, Any]]:
    if type(entry) is not dict:
        raise DataError(f"fire_master with an event that is {type(entry).__name__}, no dict")
    tag = check_tag(entry.get("tag"))
    data = entry.get("data")
    if data is None:
        return tag, {}
    if not isinstance(data, dict):
        raise DataError(f"the data of the event {tag[:80]!r} is {type(data).__name__}, no dict")
    return tag, data


def _with_pretag(
    event: tuple[str, dict[str, Any]], request: Mapping[str, Any]
) -> list[tuple[str, dict[str, Any]]]:
    pretag = request.get("pretag")
    if not pretag:
        return [event]
    return [event, (check_tag(tagify(event[0], base=str(pretag))), event[1])]
