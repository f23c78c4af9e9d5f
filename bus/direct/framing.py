"""The messages of the direct line: two parts with their lengths. Pure; without ZeroMQ.

A client fires with the frames of `bus.frames`, or says with `listen_message` that it listens: then
events come as `group_message` and where the numbering stands as `mark_message`. Servers that answer
questions take `call_message` and send `reply_message`.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from bus import frames
from bus.errors import BusError, WireError
from bus.frames import Group

_LENGTHS = struct.Struct(">HI")
MAX_HEAD_BYTES: Final = 1024
MAX_ANSWER_BYTES: Final = 1 << 20
RECEIVE_BYTES: Final = 65_536

LISTEN: Final = b"L"
GROUP: Final = b"P"
CHOSEN: Final = b"C"
MARK: Final = b"M"
_WITH_EVENTS: Final = b"\x01"
_WITHOUT: Final = b"\x00"

_GROUP_PLACE = struct.Struct(">QIQ")
_MARK_PLACE = struct.Struct(">QQ")


def message(head: bytes, body: bytes = b"") -> bytes:
    """Return two parts as one message."""
    return _LENGTHS.pack(len(head), len(body)) + head + body


def answer_message(parts: list[bytes]) -> bytes:
    """Return the frames of an answer, see `frames.parse_answer`, as one message."""
    return message(parts[0], b"\0".join(parts[1:]))


def answer_parts(head: bytes, body: bytes) -> list[bytes]:
    """Return the frames in an `answer_message`."""
    return [head, *body.split(b"\0", 1)] if body else [head]


def call_message(parts: list[bytes]) -> bytes:
    """Return the frames of a call, see `frames.call`, as one message."""
    kind, ident, question = parts
    return message(kind + ident, question)


def call_parts(head: bytes, body: bytes) -> list[bytes]:
    """Return the frames in a `call_message`, for `frames.parse_request`."""
    return [head[:1], head[1:], body]


def reply_message(parts: list[bytes]) -> bytes:
    """Return the frames that answer a call, see `frames.result` and `failed`, as one message."""
    kind, ident, *said = parts
    return message(kind + ident, b"\0".join(said))


def reply_parts(head: bytes, body: bytes) -> list[bytes]:
    """Return the frames in a `reply_message`."""
    kind = head[:1]
    return [kind, head[1:], *(body.split(b"\0", 1) if kind == frames.FAILED else [body])]


def listen_message(prefix: str | None) -> bytes:
    """Return how a client says that it listens, and asks where the numbering stands.

    Args:
        prefix: the beginning of the tags to hear; None for none, only to ask.
    """
    if prefix is None:
        return message(LISTEN + _WITHOUT)
    return message(LISTEN + _WITH_EVENTS, prefix.encode())


def read_listen(head: bytes, body: bytes) -> bytes | None:
    """Return the prefix in a `listen_message`, None if there is none.

    Raises:
        WireError: it cannot be read.
    """
    if head == LISTEN + _WITH_EVENTS and len(body) <= MAX_HEAD_BYTES:
        return body
    if head == LISTEN + _WITHOUT and not body:
        return None
    raise WireError("a wish to listen that cannot be read")


def group_message(group: Group, kind: bytes = GROUP) -> bytes:
    """Return events that come together as one message.

    Args:
        group: the events.
        kind: `GROUP` if their numbers follow each other, `CHOSEN` if the numbers are with them.
    """
    place = _GROUP_PLACE.pack(group.last, group.size, group.sent)
    return message(kind + place, group.body)


def read_group(head: bytes, body: bytes) -> Group:
    """Return the events in a `group_message`.

    Raises:
        WireError: it cannot be read.
    """
    try:
        return Group(body, *_GROUP_PLACE.unpack_from(head, 1))
    except struct.error as error:
        raise WireError("events with a place of a wrong length") from error


class Mark(NamedTuple):
    """Where the numbering stands.

    Attributes:
        last_seq: the number of the last event.
        sent: how many events there were for the listener's prefix so far, if it has one.
        bus_id: which numbering this is.
        error: why the bus does not serve this listener, if it does not.
    """

    last_seq: int
    sent: int
    bus_id: str
    error: BusError | None = None


def mark_message(mark: Mark) -> bytes:
    """Return a mark as a message."""
    head = MARK + _MARK_PLACE.pack(mark.last_seq, mark.sent) + mark.bus_id.encode()
    body = frames.error_frames(mark.error) if mark.error else []
    return message(head, b"\0".join(body))


def read_mark(head: bytes, body: bytes) -> Mark:
    """Return the mark in a `mark_message`.

    Raises:
        WireError: it cannot be read.
    """
    try:
        last_seq, sent = _MARK_PLACE.unpack_from(head, 1)
    except struct.error as error:
        raise WireError("a mark with a place of a wrong length") from error
    bus_id = head[1 + _MARK_PLACE.size :].decode(errors="replace")
    name, separator, text = body.partition(b"\0")
    refusal = frames.parse_error(name, text) if separator else None
    return Mark(last_seq, sent, bus_id, refusal)


class Inbox:
    """Puts the messages of a stream together.

    Args:
        limit: the longest second part in bytes.

    Attributes:
        error: why nothing that comes now can be read: a part was too long.
    """

    __slots__ = ("_limit", "_waiting", "error")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting = bytearray()
        self.error: WireError | None = None

    def add(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """Return the messages that ``data`` completes."""
        if not self._waiting:
            head, body = self._lengths(data, 0)
            end = _LENGTHS.size + head
            if head and len(data) == end + body:  # nearly always: one message by itself
                return [(data[_LENGTHS.size : end], data[end:])]
        self._waiting += data
        return self._whole()

    def _whole(self) -> list[tuple[bytes, bytes]]:
        found: list[tuple[bytes, bytes]] = []
        waiting, at = self._waiting, 0
        with memoryview(waiting) as view:  # a slice of the array itself would be one copy more
            while True:
                head, body = self._lengths(waiting, at)
                begin = at + _LENGTHS.size
                end = begin + head + body
                if not head or len(waiting) < end:
                    break
                found.append((bytes(view[begin : begin + head]), bytes(view[begin + head : end])))
                at = end
        del waiting[:at]
        return found

    def _lengths(self, data: bytes | bytearray, at: int) -> tuple[int, int]:
        """Return the lengths of the parts of the message at ``at``; zeros if there is none."""
        if len(data) < at + _LENGTHS.size:
            return 0, 0
        head, body = _LENGTHS.unpack_from(data, at)
        if not 1 <= head <= MAX_HEAD_BYTES or body > self._limit:
            self.error = WireError(f"a message of {head} and {body} bytes on the direct line")
            return 0, 0
        return head, body
