r"""What an event is in bytes: ``tag + "\n\n" + msgpack(data)``, as Salt has it. Pure functions.

The only module that knows msgpack. Limits guard against forged lengths: msgpack checks every
announced size against them before it allocates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgpack

from bus.errors import BusError, DataError, TagError, TooLargeError, WireError
from bus.tags import check_tag

TAG_END = b"\n\n"
DEFAULT_MAX_EVENT_SIZE = 1_048_576
"""One MiB, Salt's default of ``max_event_size``."""

STAMP = "_stamp"


def stamp(moment: datetime | None = None) -> str:
    """Return a UTC time in ISO 8601 with microseconds and ``+00:00``, as ``_stamp`` holds it."""
    return (moment or datetime.now(UTC)).isoformat(timespec="microseconds")


def pack(value: Any) -> bytes:
    """Return ``value`` in msgpack.

    Raises:
        DataError: a value within it that msgpack cannot carry.
    """
    try:
        return msgpack.packb(value)  # type: ignore[no-any-return]
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"msgpack cannot carry this data: {_find_culprit(value, error)}") from error


def _find_culprit(value: Any, error: Exception, path: str = "data") -> str:
    """Name the first value inside ``value`` that does not pack, by its path."""
    pairs: list[tuple[str, Any]] = []
    if isinstance(value, Mapping):
        for key in value:
            if inner := _refusal(key):
                return f"a key of {path} is {_describe(key)}: {inner}"
        pairs = [(f"{path}[{_named(key)}]", item) for key, item in value.items()]
    elif isinstance(value, list | tuple):
        pairs = [(f"{path}[{number}]", item) for number, item in enumerate(value)]
    if path.count("[") > 50:
        return f"{error} at {path[:60]}..."
    for where, item in pairs:
        if inner := _refusal(item):
            return _find_culprit(item, inner, where)
    return f"{path} is {_describe(value)}: {error}"


def _refusal(value: Any) -> Exception | None:
    """Return why msgpack does not carry a value, or None."""
    try:
        msgpack.packb(value)
    except (TypeError, ValueError, OverflowError) as error:
        return error
    return None


_SHOWN_BITS = 4096
"""Of the longest integer that is written out in an error."""


def _named(key: Any) -> str:
    return _describe(key) if isinstance(key, int) else repr(key)


def _describe(value: Any) -> str:
    if isinstance(value, int) and value.bit_length() > _SHOWN_BITS:
        # Python refuses to write longer ones out.
        return f"an integer of {value.bit_length()} bits"
    text = repr(value) if isinstance(value, int | str) else type(value).__name__
    return text if len(text) <= 80 else text[:77] + "..."


def unpack(raw: bytes | memoryview) -> Any:
    """Return the value that ``raw`` holds.

    Raises:
        WireError: these bytes are no msgpack, or not one whole value.
    """
    try:
        # msgpack limits every announced length by the length of what it is given.
        return msgpack.unpackb(raw, strict_map_key=False, max_ext_len=0)
    except TypeError as error:
        raise WireError(
            f"a mapping in msgpack whose key is a list or a mapping: {error}"
        ) from error
    except (ValueError, msgpack.exceptions.UnpackException, RecursionError) as error:
        if "max_ext_len" in str(error):
            raise WireError("msgpack with a type of its own, such as its Timestamp") from error
        raise WireError(f"no valid msgpack: {error or type(error).__name__}") from error


def pack_event(tag: str, data: Mapping[str, Any], max_size: int = DEFAULT_MAX_EVENT_SIZE) -> bytes:
    """Return the event as it goes over the wire. The caller's ``data`` is left as it is.

    Args:
        tag: the event's tag.
        data: the event's data; a ``_stamp`` is added if it has none.
        max_size: the limit of the whole event in bytes.

    Raises:
        TagError: the tag cannot go onto a bus.
        DataError: the data is no dict, or msgpack cannot carry it.
        TooLargeError: the event is larger than ``max_size``.
    """
    return _join(tag, pack(_stamped(tag, data, stamp)), max_size)


_STAMPED = [bytes([0x80 | size + 1]) + pack(STAMP) + b"\xd9\x20" for size in range(15)]
"""What a packed map with ``size`` values of the user's begins with once it has a stamp as well:
msgpack's fixmap, the key, and the head of a text of 32 bytes. Putting a stamp in front of packed
data costs a third of packing a copy with a stamp."""


Fired = tuple[str, Mapping[str, Any]] | tuple[Mapping[str, Any], str] | Mapping[str, Any]
"""An event of many that are fired together."""


class EventPacker:
    """Packs many events, and keeps between them what is costly to make. For one thread.

    Args:
        clock: returns nanoseconds since 1970, as `time.time_ns` does.
        max_size: the limit of an event in bytes.
    """

    def __init__(self, clock: Callable[[], int], max_size: int = DEFAULT_MAX_EVENT_SIZE) -> None:
        self._clock = clock
        self._max_size = max_size
        self._pack = msgpack.Packer().pack
        self._begun = -1_000_000  # the second that `_text` says, in microseconds since 1970
        self._text = ""

    def pack(self, tag: str, data: Mapping[str, Any]) -> bytes:
        """`pack_event`, at a third of its cost."""
        if type(data) is dict and len(data) < len(_STAMPED) and STAMP not in data:
            head = check_tag(tag).encode() + TAG_END + _STAMPED[len(data)] + self._stamp().encode()
            event = head + self._packed(data)[1:]
            if len(event) <= self._max_size:
                return event
        return _join(tag, self._packed(_stamped(tag, data, self._stamp)), self._max_size)

    def pack_all(self, events: Iterable[Fired]) -> Iterator[bytes]:
        """Yield each event as `pack` returns it.

        Args:
            events: ``(tag, data)`` pairs; ``(data, tag)``, as ``fire_event`` has them, and
                ``{"tag": ..., "data": ...}``, as ``get_event(full=True)`` returns them, are
                understood.

        Raises:
            DataError: what is given is none of these.
            BusError: as `pack`; the text says which event it was.
        """
        if not isinstance(events, Iterable):
            raise DataError(f"events are (tag, data) pairs, not {type(events).__name__}")
        pack = self.pack
        for number, pair in enumerate(events, 1):
            try:
                tag, data = pair
            except (TypeError, ValueError) as error:
                raise DataError(
                    f"event {number} is no (tag, data) pair: {_describe(pair)}"
                ) from error
            if type(tag) is not str or type(data) is not dict:
                tag, data = _turned(pair, tag, data)
            try:
                yield pack(tag, data)
            except BusError as error:
                raise type(error)(f"event {number}: {error}") from error

    def _packed(self, data: Mapping[str, Any]) -> bytes:
        try:
            return self._pack(data)  # type: ignore[no-any-return]
        except (TypeError, ValueError, OverflowError):
            # A packer keeps half-packed bytes after an error, so the next event has a new one.
            self._pack = msgpack.Packer().pack
            return pack(data)

    def _stamp(self) -> str:
        rest = self._clock() // 1000 - self._begun
        if not 0 <= rest < 1_000_000:
            second, rest = divmod(self._begun + rest, 1_000_000)
            self._begun = second * 1_000_000
            self._text = datetime.fromtimestamp(second, UTC).isoformat()[:19]
        return f"{self._text}.{rest:06d}+00:00"


def _turned(given: Any, tag: Any, data: Any) -> tuple[Any, Any]:
    """Return tag and data of an event that is given in another form than ``(tag, data)``."""
    if isinstance(given, Mapping):
        return given.get("tag"), given.get("data")
    if isinstance(tag, Mapping) and isinstance(data, str):
        return data, tag
    return tag, data


def _stamped(tag: str, data: Mapping[str, Any], make_stamp: Callable[[], str]) -> Mapping[str, Any]:
    check_tag(tag)
    if not isinstance(data, Mapping):
        raise DataError(
            f"the data of an event is a dict, not {type(data).__name__}: "
            f"wrap it, as in {{'data': ...}}"
        )
    return data if STAMP in data and type(data) is dict else {STAMP: make_stamp(), **data}


def _join(tag: str, packed: bytes, max_size: int) -> bytes:
    event = tag.encode() + TAG_END + packed
    if len(event) > max_size:
        raise TooLargeError(
            f"the event {tag!r} is {len(event)} bytes long; "
            f"the option max_event_size allows {max_size}"
        )
    return event


def checked_tag(head: bytes) -> str:
    """Return the tag that these bytes hold.

    Raises:
        WireError: they hold none that can go onto a bus.
    """
    try:
        return check_tag(head.decode())
    except (UnicodeDecodeError, TagError) as error:
        raise WireError(f"an event with a wrong tag: {error}") from error


def parts_of(event: bytes) -> tuple[str, bytes]:
    """Return tag and packed data of an event; wrong bytes in a tag become replacement marks."""
    head, _, body = event.partition(TAG_END)
    return head.decode(errors="replace"), body


def tag_of(event: bytes) -> str:
    """Return the tag of an event that was checked before; wrong bytes become replacement marks."""
    return event.partition(TAG_END)[0].decode(errors="replace")


def split_event(wire: bytes) -> tuple[str, bytes]:
    """Return the tag of an event and its data, still packed.

    Raises:
        WireError: there is no tag, or it is no valid text.
    """
    head, end, body = wire.partition(TAG_END)
    if not end or not head:
        raise WireError("an event without a tag")
    try:
        return head.decode(), body
    except UnicodeDecodeError as error:
        raise WireError("an event tag that is no UTF-8 text") from error


def unpack_event(wire: bytes) -> tuple[str, dict[str, Any]]:
    """Return tag and data of an event.

    Raises:
        WireError: these bytes are no event.
    """
    tag, body = split_event(wire)
    return tag, unpack_data(tag, body)


def unpack_data(tag: str, body: bytes) -> dict[str, Any]:
    """Return the data of the event ``tag``.

    Raises:
        WireError: these bytes are none.
    """
    data = unpack(body)
    if type(data) is not dict:
        raise WireError(f"the data of the event {tag[:80]!r} is no dict")
    return data
