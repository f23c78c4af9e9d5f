"""What a minion may put onto the master's bus, and how it is stamped with its sender. Pure.

A minion may fire what the option ``minion_tags`` allows, but for the tags by which the master, or
another minion, speaks; and its own always.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bus import wire
from bus.errors import TagError, TooLargeError, WireError
from bus.record import MINION_EVENT
from bus.tags import Matcher, check_tag, matcher, tagify

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


def allowing(globs: str | Sequence[str]) -> Matcher:
    """Return what says whether the option ``minion_tags`` allows a tag."""
    names = [globs] if isinstance(globs, str) else list(globs)
    if "*" in names:
        return _everything
    return lambda tag: any(matcher(name, "fnmatch")(tag) for name in names)


def _everything(_tag: str) -> bool:
    return True


def check_sender_tag(tag: str, ident: str, allows: Matcher = _everything) -> str:
    """Return ``tag`` if the minion ``ident`` may fire it.

    Args:
        tag: as the minion gave it.
        ident: the minion.
        allows: says whether the option ``minion_tags`` allows a tag.

    Raises:
        TagError: it cannot go onto a bus, is not allowed, or is the master's or another minion's.
    """
    check_tag(tag)
    owner = _OWNED.match(tag)
    if owner:
        if owner.group(1) != ident:
            raise TagError(f"the tag {tag[:200]!r} is another minion's, not one of {ident!r}")
        return tag
    if _RESERVED.match(tag):
        raise TagError(f"the tag {tag[:200]!r} is one by which only the master speaks")
    if not allows(tag):
        raise TagError(f"the tag {tag[:200]!r} is none that the master's option minion_tags allows")
    return tag


def event_wire(
    ident: str, tag: str, packed: bytes, pack: Pack, allows: Matcher = _everything
) -> bytes:
    """Return a minion's event as it goes onto the master's bus.

    Args:
        ident: the minion, proved by its key.
        tag: as the minion gave it.
        packed: the user's data.
        pack: packs an event.
        allows: as for `check_sender_tag`.

    Raises:
        TagError: the minion may not fire this tag.
        WireError: the data is no dict.
        TooLargeError: the event is too large.
    """
    check_sender_tag(tag, ident, allows)
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
