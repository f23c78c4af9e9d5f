"""Events and returns as the items that a minion brings up to its master. Pure."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from bus import wire
from bus.errors import BusError, TooLargeError
from bus.link.protocol import EVENT, RETURN, Item
from bus.tags import check_tag

log = logging.getLogger(__name__)

RETURN_ROOM = 4096
"""Bytes that the master adds to a return: the sender, the tag, the stamp."""


def event_item(tag: str, data: dict[str, Any], limit: int) -> Item:
    """Return an event as an item.

    Args:
        tag: the event's tag.
        data: the user's data.
        limit: of the data, in bytes.

    Raises:
        TagError: the tag cannot go onto a bus.
        DataError: msgpack cannot carry the data.
        TooLargeError: the data is larger than the limit.
    """
    packed = wire.pack(data)
    if len(packed) > limit:
        raise TooLargeError(
            f"the event {tag!r} has {len(packed)} bytes of data; "
            f"the option max_event_size allows {limit}"
        )
    return Item(EVENT, check_tag(tag), packed)


def return_item(ret: Mapping[str, Any], limit: int) -> Item:
    """Return a job's return as an item; one that cannot be sent is replaced by words that say so.

    Args:
        ret: ``jid``, ``return``, ``retcode``, ``success``, ...
        limit: of the event that the master makes of it, in bytes.
    """
    try:
        packed = wire.pack(dict(ret))
        room = limit - RETURN_ROOM
        if len(packed) > room:
            raise TooLargeError(f"{len(packed)} bytes; the option max_event_size allows {room}")
    except BusError as error:
        log.warning("the return of job %s cannot be sent: %s", ret.get("jid"), error)
        packed = wire.pack(_unsendable(ret, error))
    return Item(RETURN, str(ret.get("jid", "")), packed)


def _unsendable(ret: Mapping[str, Any], error: BusError) -> dict[str, Any]:
    return {
        "jid": str(ret.get("jid", "")),
        "fun": ret.get("fun", ""),
        "return": f"ERROR: this return cannot be sent: {error}",
        "retcode": 1,
        "success": False,
    }
