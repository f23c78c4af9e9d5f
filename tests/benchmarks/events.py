"""The event that everybody fires here, so that all of them carry the same bytes."""

from __future__ import annotations

from typing import Any

import msgpack

TAG = "bench/event"
TEXT = "x" * 200
_STAMP = "2026-11-22T09:30:00.123456+00:00"
_HEAD = f"{TAG}\n\n".encode()


def payload(number: int, at: float = 0.0) -> dict[str, Any]:
    """Return an event's data: 200 bytes, its number, and when it was fired."""
    return {"n": number, "at": at, "text": TEXT}


def packed(number: int, at: float = 0.0) -> bytes:
    """Return what plain ZeroMQ sends: the same tag and data, with a stamp that costs nothing."""
    return _HEAD + msgpack.packb({"_stamp": _STAMP, **payload(number, at)})


def unpacked(raw: bytes) -> dict[str, Any]:
    """Return the data of a message that plain ZeroMQ received."""
    data: dict[str, Any] = msgpack.unpackb(raw.partition(b"\n\n")[2])
    return data
