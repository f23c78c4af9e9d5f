"""The frames between a client and a server's ROUTER socket: bytes in, requests out. Pure.

The table of frames stands in docs/explanation/architecture.md.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from bus import errors, wire
from bus.errors import BusError, WireError
from bus.tags import MAX_TAG_BYTES

FIRE: Final = b"F"
CALL: Final = b"C"
ACKNOWLEDGED: Final = b"A"
REFUSED: Final = b"E"
AGAIN: Final = b"N"
SLOWER: Final = b"S"
RESULT: Final = b"R"
FAILED: Final = b"X"

MAX_PRODUCER_BYTES: Final = 320
"""Room for ``m:``, a minion id of 255 bytes (a file name, POSIX NAME_MAX) and a lineage."""
MAX_EVENTS_PER_FIRE: Final = 10_000

PIECE_BYTES: Final = 32_768
"""The largest message to listeners to everything: small, so that many may wait for one that is
busy, and large against what a message costs."""

SYNC: Final = b"\xffsync/"
"""Subscriptions with this prefix ask the broker to say where the journal stands.

No tag begins with this byte, and ZeroMQ, which sends a listener's subscriptions in the order of
their bytes when it connects again, sends this one last: when it is in force, all are.
"""
SYNC_NAME_CHARS: Final = 16
_ASK_CHARS: Final = 4

RUN_BITS: Final = 32
"""A count of what was sent has so many bits for the count; those above say which run of a bus
counted."""

_EMPTY: Final = wire.TAG_END + wire.pack({})

ALL: Final = b"\x00"
"""The topic of everything, where events are published in groups. No tag has such a character."""
_CHOSEN: Final = b"\x01"
_END_OF_TOPIC: Final = b"\x00"

_PLAIN_TAG = re.compile(rb"[ -~]{1,%d}" % MAX_TAG_BYTES).fullmatch
"""What nearly every tag is; others are looked at more closely."""

_NUMBERS = struct.Struct(">QQ")
_ACK = struct.Struct(">QQI")
_FIRE_HEAD = 1 + _NUMBERS.size
_SEQ = struct.Struct(">Q")
_PLACE = struct.Struct(">QIQHH")

pack_seq = _SEQ.pack


class Fire(NamedTuple):
    r"""Events that a producer wants on the bus.

    Attributes:
        producer: who counts ``number``; empty for a bare event, which nobody acknowledges.
        number: this fire's number, from 1 upward by one.
        base: the producer's oldest number that was not yet acknowledged.
        events: each ``tag + "\n\n" + msgpack``.
        body: the events packed as an array, if they came like that.
    """

    producer: bytes
    number: int
    base: int
    events: list[bytes]
    body: bytes = b""


class Call(NamedTuple):
    """One question to a server."""

    ident: bytes
    method: str
    params: dict[str, Any]


def fire(producer: bytes, number: int, base: int, body: bytes) -> tuple[bytes, bytes]:
    """Return the frames of a fire; ``body`` is the packed array of events.

    Two frames and not four: each one costs a microsecond on either side.
    """
    return FIRE + _NUMBERS.pack(number, base) + producer, body


def call(ident: bytes, method: str, params: dict[str, Any]) -> list[bytes]:
    """Return the frames of a call."""
    return [CALL, ident, wire.pack([method, params])]


def acknowledged(producer: bytes, number: int, first_seq: int, count: int) -> list[bytes]:
    """Return the frames that say: these events are kept."""
    return [ACKNOWLEDGED + _ACK.pack(number, first_seq, count) + producer]


def refused(producer: bytes, number: int, error: BusError) -> list[bytes]:
    """Return the frames that say why these events are not kept."""
    return [REFUSED + _SEQ.pack(number) + producer, *error_frames(error)]


def again(producer: bytes, last: int) -> list[bytes]:
    """Return the frames that say: something before is missing, send again after ``last``."""
    return [AGAIN + _SEQ.pack(last) + producer]


def slower_unread(frames: list[bytes], error: BusError) -> list[bytes] | None:
    """Return the answer to a fire that comes too fast, or None to what is no fire of ours.

    It says: not taken, and it may be sent again.
    """
    parts = refused_unread(frames, error)
    return [SLOWER + parts[0][1:], *parts[1:]] if parts else None


def sender(client: bytes, frames: list[bytes]) -> bytes:
    """Return who is accounted for what a client sends: the producer, if it names one."""
    is_fire = len(frames) == 2 and frames[0][:1] == FIRE
    return frames[0][_FIRE_HEAD:] if is_fire else client


def result(ident: bytes, value: Any) -> list[bytes]:
    """Return the frames of an answer."""
    return [RESULT, ident, wire.pack(value)]


def failed(ident: bytes, error: BusError) -> list[bytes]:
    """Return the frames of an answer that says what went wrong."""
    return [FAILED, ident, *error_frames(error)]


def error_frames(error: BusError) -> list[bytes]:
    """Return an error's name and text, for `parse_error`."""
    return [type(error).__name__.encode(), str(error).encode(errors="replace")]


def mark(topic: bytes, last_seq: int, bus_id: str, sent: int = 0) -> tuple[bytes, bytes]:
    """Return what is published to say where the numbering stands.

    It is shaped as an event, so that a foreign reader of everything finds nothing that it
    cannot take apart.

    Args:
        topic: what the listener subscribed to.
        last_seq: the number of the last event.
        bus_id: which numbering this is.
        sent: how many events there were for the listener's prefix, if it has one.
    """
    said = wire.TAG_END + wire.pack({"sent": sent}) if sent else _EMPTY
    return topic + said, pack_seq(last_seq) + bus_id.encode()


def no_mark(topic: bytes, last_seq: int, bus_id: str, error: BusError) -> tuple[bytes, bytes]:
    """Return what is published instead of a mark to a listener that cannot be served."""
    _, place = mark(topic, last_seq, bus_id)
    said = {"error": type(error).__name__, "text": str(error)}
    return topic + wire.TAG_END + wire.pack(said), place


def read_mark(mark: bytes) -> tuple[BusError | None, int]:
    """Return why a bus does not serve this listener, if it does not, and what `mark` had sent.

    Raises:
        WireError: it cannot be read.
    """
    said = wire.unpack(mark.partition(wire.TAG_END)[2])
    if not isinstance(said, dict):
        return None, 0
    if "error" in said:
        return parse_error(str(said["error"]).encode(), str(said.get("text")).encode()), 0
    sent = said.get("sent", 0)
    return None, sent if isinstance(sent, int) else 0


def topic_of(prefix: bytes) -> bytes:
    """Return what a listener to the tags that begin with ``prefix`` subscribes to."""
    return _CHOSEN + prefix + _END_OF_TOPIC if prefix else ALL


def prefix_of(topic: bytes) -> bytes | None:
    """Return the prefix that a topic stands for, empty for everything; None if it is no topic."""
    if topic == ALL:
        return b""
    if topic[:1] == _CHOSEN and topic[-1:] == _END_OF_TOPIC and len(topic) > 2:
        return topic[1:-1]
    return None


def sync_topic(name: str, prefix: bytes) -> bytes:
    """Return the topic of the mark that a listener asks for.

    Args:
        name: 12 characters that no other listener has, and four that it did not use lately.
        prefix: what it listens to.
    """
    return SYNC + name.encode() + prefix


def listener_of(topic: bytes) -> bytes:
    """Return who asks with a `sync_topic`: the same each time that one listener asks."""
    return topic[: len(SYNC) + SYNC_NAME_CHARS - _ASK_CHARS]


def asked_for(topic: bytes) -> bytes:
    """Return the prefix in a `sync_topic`."""
    return topic[len(SYNC) + SYNC_NAME_CHARS :]


class Group(NamedTuple):
    """Events that are published together.

    Attributes:
        body: packed: an array of them; if a prefix chose them, of their numbers and of them.
        last: the number of the last one.
        size: how many.
        sent: how many there were for this prefix so far; 0 if nothing was chosen.
    """

    body: bytes
    last: int
    size: int
    sent: int


def published(topic: bytes, group: Group) -> Iterator[tuple[bytes, bytes]]:
    """Yield the messages by which a group goes to who subscribed to ``topic``.

    ZeroMQ bounds a queue in messages, so none is larger than `PIECE_BYTES` and its topic.
    """
    body, *place = group
    pieces = -(-len(body) // PIECE_BYTES)
    for index in range(pieces):
        piece = body[index * PIECE_BYTES : (index + 1) * PIECE_BYTES] if pieces > 1 else body
        yield topic + piece, _PLACE.pack(*place, index, pieces)


class Pieces:
    """Puts published groups together again; what misses a piece is a gap like any other."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._last = 0

    def add(self, piece: bytes, place: bytes) -> Group | None:
        """Return a group once its last piece is there; ``piece`` is without the topic."""
        last, size, sent, index, pieces = _PLACE.unpack(place)
        if pieces == 1:
            return Group(piece, last, size, sent)
        if index == 0 or last != self._last or index != len(self._pieces):
            self._pieces.clear()
            if index != 0:
                return None
        self._last = last
        self._pieces.append(piece)
        if index + 1 < pieces:
            return None
        body = b"".join(self._pieces)
        self._pieces.clear()
        return Group(body, last, size, sent)


def unpack_group(group: Group, *, chosen: bool) -> tuple[Sequence[int], list[bytes]]:
    """Return the numbers and the events of a group.

    Raises:
        WireError: they cannot be taken apart.
    """
    value = wire.unpack(group.body)
    numbers: Sequence[int] = range(group.last - group.size + 1, group.last + 1)
    if chosen and isinstance(value, list) and len(value) == 2:
        numbers, value = value
    if not isinstance(value, list) or not isinstance(numbers, list | range):
        raise WireError("a published group that is no list of events")
    if not len(value) == len(numbers) == group.size:
        raise WireError("a published group with another number of events than it says")
    return numbers, value


def missing(before: int, sent: int, heard: int) -> int:
    """Return how many events a listener to a prefix did not hear.

    Args:
        before: the count that the bus said last; 0 for none.
        sent: the count that it says now.
        heard: how many events came with it.
    """
    same_run = before >> RUN_BITS == sent >> RUN_BITS  # else it counts anew
    return max(0, sent - heard - before) if before and same_run else 0


def is_published(place: bytes) -> bool:
    """Say whether a message is one of `published`, by its second frame."""
    return len(place) == _PLACE.size


def unpack_place(frame: bytes) -> tuple[int, str]:
    """Return the number behind an event, or number and bus of a mark.

    Raises:
        WireError: it is neither.
    """
    if len(frame) < _SEQ.size:
        raise WireError("a sequence number of a wrong length")
    return _SEQ.unpack_from(frame)[0], frame[_SEQ.size :].decode(errors="replace")


class Answer(NamedTuple):
    """What a server says of a fire.

    Attributes:
        kind: `ACKNOWLEDGED`, `REFUSED`, `SLOWER` or `AGAIN`.
        producer: whose fire it was.
        number: the fire's number; for `AGAIN` the last one that is there.
        first_seq: the number of the fire's first event (`ACKNOWLEDGED` only).
        error: why it is not kept (`REFUSED`), or not yet (`SLOWER`).
    """

    kind: bytes
    producer: bytes
    number: int
    first_seq: int = 0
    error: BusError | None = None


def parse_answer(frames: list[bytes]) -> Answer:
    """Return what a server says.

    Raises:
        WireError: these frames are no answer to a fire.
    """
    head = frames[0]
    kind = head[:1]
    try:
        if kind == ACKNOWLEDGED:
            number, first_seq, _ = _ACK.unpack_from(head, 1)
            return Answer(kind, head[1 + _ACK.size :], number, first_seq)
        number = _SEQ.unpack_from(head, 1)[0]
    except struct.error as error:
        raise WireError("an answer of a wrong length") from error
    producer = head[1 + _SEQ.size :]
    if kind == AGAIN:
        return Answer(kind, producer, number)
    if kind in (REFUSED, SLOWER) and len(frames) == 3:
        return Answer(kind, producer, number, error=parse_error(frames[1], frames[2]))
    raise WireError("an answer of an unknown kind")


def parse_error(name: bytes, text: bytes) -> BusError:
    """Return the error that a server named, as the same class where there is one."""
    kind = getattr(errors, name.decode(errors="replace"), None)
    words = text.decode(errors="replace")
    if isinstance(kind, type) and issubclass(kind, BusError) and kind is not errors.ConfigError:
        return kind(words)
    return errors.RemoteError(words)


def parse_request(frames: list[bytes]) -> Fire | Call:
    """Return what a client asks.

    Args:
        frames: all frames after the routing id.

    Raises:
        WireError: these frames are no request.
    """
    if len(frames) == 1:
        check_event(frames[0])
        return Fire(b"", 0, 0, [frames[0]])
    if len(frames) == 2 and frames[0][:1] == FIRE:
        return _parse_fire(*frames)
    if len(frames) == 3 and frames[0] == CALL:
        return _parse_call(frames)
    raise WireError(f"a request of {len(frames)} frames that is neither a fire nor a call")


def _parse_fire(head: bytes, body: bytes) -> Fire:
    producer = head[_FIRE_HEAD:]
    if not 1 <= len(producer) <= MAX_PRODUCER_BYTES:
        raise WireError("a fire with a wrong producer or number")
    number, base = _NUMBERS.unpack_from(head, 1)
    if not 1 <= base <= number < 1 << 63:
        raise WireError("a fire whose numbers are out of range")
    return Fire(producer, number, base, _checked_events(body), body)


def refused_unread(frames: list[bytes], error: BusError) -> list[bytes] | None:
    """Return the answer to a fire that could not be read, or None to what is no fire of ours."""
    if len(frames) != 2 or frames[0][:1] != FIRE or len(frames[0]) <= _FIRE_HEAD:
        return None
    head = frames[0]
    return refused(head[_FIRE_HEAD:], _NUMBERS.unpack_from(head, 1)[0], error)


def _checked_events(body: bytes) -> list[bytes]:
    events = wire.unpack(body)
    if not isinstance(events, list) or not 1 <= len(events) <= MAX_EVENTS_PER_FIRE:
        raise WireError(f"a fire carries 1 to {MAX_EVENTS_PER_FIRE} events in a list")
    for event in events:
        if type(event) is not bytes:
            raise WireError("an event that is no bytes")
        check_event(event)
    return events


def check_event(event: bytes) -> None:
    """Refuse what cannot be journaled: a tag with control characters, data that is no dict.

    Raises:
        WireError: it cannot.
    """
    head, _, body = event.partition(wire.TAG_END)
    if not _PLAIN_TAG(head):
        wire.checked_tag(head)
    if type(wire.unpack(body)) is not dict:
        raise WireError("event data that is no dict")


def _parse_call(frames: list[bytes]) -> Call:
    _, ident, body = frames
    question = wire.unpack(body)
    if not isinstance(question, list) or len(question) != 2 or len(ident) > 64:
        raise WireError("a call that is no [method, params]")
    method, params = question
    if not isinstance(method, str) or not isinstance(params, dict):
        raise WireError("a call whose method is no text or whose params are no dict")
    return Call(ident, method, params)
