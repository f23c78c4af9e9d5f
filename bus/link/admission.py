"""What a minion may put onto the master's bus, and how it is stamped with its sender. Pure.

A minion may fire any tag but those by which the master, or another minion, speaks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from bus import wire
from bus.errors import TagError, TooLargeError, WireError
from bus.record import MINION_EVENT
from bus.tags import check_tag, tagify

RETURN_COMMAND = "_return"

UNFINISHED = "unfinished"
"""What a minion says of a return that it makes up for a job which an earlier process left."""

# All of a job's but its own progress: in a glob such as salt/job/*/ret/* a * means slashes too.
_RESERVED = re.compile(
    r"(?:reactor|salt/(?:auth|key|presence|run|wheel|netapi|reactors|job))(?:/|\Z)"
)
_OWNED = re.compile(r"salt/(?:minion|beacon|job/[^/]*/prog)/([^/]*)(?:/|\Z)")

MAX_ERROR = 1000

Pack = Callable[[str, Mapping[str, Any]], bytes]
"""`bus.wire.EventPacker.pack`."""


def check_sender_tag(tag: str, ident: str) -> str:
    """Return ``tag`` if the minion ``ident`` may fire it.

    Raises:
        TagError: it cannot go onto a bus, or it is the master's or another minion's.
    """
    check_tag(tag)
    owner = _OWNED.match(tag)
    if owner and owner.group(1) != ident:
        raise TagError(f"the tag {tag[:200]!r} is another minion's, not one of {ident!r}")
    if not owner and _RESERVED.match(tag):
        raise TagError(f"the tag {tag[:200]!r} is one by which only the master speaks")
    return tag


def event_wire(ident: str, tag: str, packed: bytes, pack: Pack) -> bytes:
    """Return a minion's event as it goes onto the master's bus.

    Args:
        ident: the minion, proved by its key.
        tag: as the minion gave it.
        packed: the user's data.
        pack: packs an event.

    Raises:
        TagError: the minion may not fire this tag.
        WireError: the data is no dict.
        TooLargeError: the event is too large.
    """
    check_sender_tag(tag, ident)
    data = {
        "id": ident,
        "tag": tag,
        "data": _dict(packed),
        "cmd": MINION_EVENT,
        "pretag": None,
    }
    return pack(tag, data)


def _dict(packed: bytes) -> dict[str, Any]:
    data = wire.unpack(packed)
    if not isinstance(data, dict):
        raise WireError("the data of an event is no dict")
    return data


def shape_return(ident: str, job: Mapping[str, Any], packed: bytes) -> dict[str, Any]:
    """Return the data of a job's return; what the master knows is not taken from the minion.

    Args:
        ident: the minion, proved by its key.
        job: as the master sent it.
        packed: what the minion sent.

    Raises:
        WireError: it is no dict.
    """
    ret = _dict(packed)
    retcode = ret.get("retcode", 0)
    made_up = {UNFINISHED: True} if ret.get(UNFINISHED) is True else {}
    return {
        "id": ident,
        "jid": job["jid"],
        "fun": job["fun"],
        "fun_args": job["arg"],
        "return": ret.get("return"),
        "retcode": retcode if type(retcode) is int else 1,
        "success": ret.get("success") is True,
        "cmd": RETURN_COMMAND,
        **made_up,
    }


def return_wire(data: dict[str, Any], pack: Pack) -> bytes:
    """Return a job's return as it goes onto the master's bus.

    One that is too large is replaced by words that say so, since somebody waits for it.

    Args:
        data: of the return.
        pack: packs an event.
    """
    tag = tagify([data["jid"], "ret", data["id"]], "job")
    try:
        return pack(tag, data)
    except TooLargeError as error:
        text = f"ERROR: this return is too large: {error}"[:MAX_ERROR]
        short = {**data, "fun_args": [], "return": text, "retcode": 1, "success": False}
        return pack(tag, short)


def producer(ident: str, lineage: bytes) -> bytes:
    """Return the name under which the master's bus counts what this run of a minion fires."""
    # No id holds a '/', so no minion can make up the name of another.
    return b"m:" + ident.encode() + b"/" + lineage
