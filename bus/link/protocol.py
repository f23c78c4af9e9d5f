"""The messages between a minion and its master: bytes in, frozen values out. No I/O.

A message is one frame, a msgpack array that begins with its kind. Which party may send which
kind stands in `UP` and `DOWN`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, NamedTuple

from bus import wire
from bus.errors import BusError, WireError
from bus.keys import (
    ACCEPTED,
    DENIED,
    PENDING,
    REJECTED,
    UNKNOWN,
    check_minion_id,
    check_public,
)

VERSION: Final = "1"

LINEAGE_BYTES: Final = 16
"""A lineage is random, as a UUID is, and as long."""

ROUTING_ID_BYTES: Final = 16
"""A routing id is a secret: 128 random bits. ZeroMQ's own begin with a zero byte."""

MAX_ITEMS: Final = 1024
"""Events in one batch; with small ones, the cost of a message vanishes long before that."""

BATCH_BYTES: Final = 262_144
"""A batch is closed at this size; one large event may make a larger batch of its own."""

MAX_HELLO_BYTES: Final = 1_048_576
"""What a peer whose key is not accepted may send at most: its grains."""

MAX_FILE_BYTES: Final = 1_048_576
MAX_TEXT: Final = 4096
OVERHEAD: Final = 65_536
"""Room for the frame around the largest event."""

EVENT: Final = 0
RETURN: Final = 1

DELETED: Final = "deleted"
"""What a minion hears whose key was accepted until it was deleted."""

_STATES: Final = frozenset({ACCEPTED, PENDING, REJECTED, DENIED, UNKNOWN, DELETED})


def max_message(max_event_size: int) -> int:
    """Return the limit of a message on the link, in bytes."""
    return max(max_event_size, BATCH_BYTES, MAX_FILE_BYTES) + OVERHEAD


def _need(condition: bool, what: str) -> None:
    if not condition:
        raise WireError(f"a link message with {what}")


def _need_number(value: Any, least: int = 0) -> None:
    # bool is an int to isinstance, but True is no number that a peer of ours sends.
    _need(type(value) is int and least <= value < 1 << 63, "a wrong number")


def _need_text(value: Any, limit: int = MAX_TEXT) -> None:
    _need(isinstance(value, str) and len(value) <= limit, "a wrong text")


def _need_keys(value: Any) -> None:
    _need(isinstance(value, dict) and all(isinstance(key, str) for key in value), "no mapping")


# -- up: from the minion ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hello:
    """A minion says who it is; the key that proves it came with the connection.

    Attributes:
        id: of the minion.
        version: of this protocol.
        grains: what it says of its host.
        run: random, and another one for each process of the minion, so that the master knows
            a new connection of the same process from a process that was started again.
    """

    id: str
    version: str
    grains: dict[str, Any]
    run: bytes = b""

    def __post_init__(self) -> None:
        try:
            check_minion_id(self.id)
        except BusError as error:
            raise WireError(str(error)) from error
        _need_text(self.version, 100)
        _need_keys(self.grains)
        known = isinstance(self.run, bytes) and len(self.run) in (0, LINEAGE_BYTES)
        _need(known, "a wrong run")


class Item(NamedTuple):
    """One thing in a batch.

    Attributes:
        kind: `EVENT` or `RETURN`.
        name: the tag of an event, or the job id of a return.
        data: a dict, packed.
    """

    kind: int
    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """Events and returns that the master takes together, once.

    Attributes:
        lineage: who counts ``number``: one run of one minion.
        number: from 1 upward.
        items: in the order in which they were fired.
    """

    lineage: bytes
    number: int
    items: list[Item]

    def __post_init__(self) -> None:
        lineage = self.lineage
        _need(isinstance(lineage, bytes) and len(lineage) == LINEAGE_BYTES, "a wrong lineage")
        _need_number(self.number, 1)
        _need(1 <= len(self.items) <= MAX_ITEMS, "too many or no items")


@dataclass(frozen=True, slots=True)
class Request:
    """A question, such as for a file."""

    number: int
    params: dict[str, Any]

    def __post_init__(self) -> None:
        _need_number(self.number)
        _need_keys(self.params)


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there?"""


@dataclass(frozen=True, slots=True)
class Bye:
    """The minion ends its connection."""


# -- down: from the master --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Welcome:
    """The minion's key is accepted.

    Attributes:
        version: of this protocol.
        max_event_size: the master's limit of an event, in bytes.
    """

    version: str
    max_event_size: int

    def __post_init__(self) -> None:
        _need_text(self.version, 100)
        _need_number(self.max_event_size, 1)


@dataclass(frozen=True, slots=True)
class State:
    """The minion's key is not accepted; ``unknown`` asks it to say hello (again)."""

    state: str

    def __post_init__(self) -> None:
        _need(isinstance(self.state, str) and self.state in _STATES, "an unknown state")


@dataclass(frozen=True, slots=True)
class Job:
    """A function that this minion shall run."""

    job: dict[str, Any]

    def __post_init__(self) -> None:
        _need_keys(self.job)
        _need(isinstance(self.job.get("jid"), str), "a job without a jid")
        fun = self.job.get("fun")
        _need(isinstance(fun, str | list), "a job without a function")


@dataclass(frozen=True, slots=True)
class Ack:
    """A batch is in the master's journal, but for the items that were refused for good.

    Attributes:
        number: of the batch.
        refused: why, by the item's place in the batch.
    """

    lineage: bytes
    number: int
    refused: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _need(isinstance(self.lineage, bytes), "a wrong lineage")
        _need_number(self.number, 1)
        _need(isinstance(self.refused, dict), "no mapping")
        for index, text in self.refused.items():
            _need_number(index)
            _need_text(text)


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing of a batch was kept: send it again, later and under a new number."""

    lineage: bytes
    number: int
    text: str

    def __post_init__(self) -> None:
        _need(isinstance(self.lineage, bytes), "a wrong lineage")
        _need_number(self.number, 1)
        _need_text(self.text)


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a request: a value, or an error in words."""

    number: int
    value: Any
    error: str

    def __post_init__(self) -> None:
        _need_number(self.number)
        _need_text(self.error)


@dataclass(frozen=True, slots=True)
class Pong:
    """I am here."""


@dataclass(frozen=True, slots=True)
class Changed:
    """The files that minions take over from the master have changed."""


@dataclass(frozen=True, slots=True)
class MasterKeys:
    """By which keys the master is known from now on; a minion keeps them, and says so.

    Attributes:
        keys: the one in use, and the next one while it is being rotated; in Z85.
    """

    keys: list[bytes]

    def __post_init__(self) -> None:
        _need(isinstance(self.keys, list) and 1 <= len(self.keys) <= 2, "too many or no keys")
        for key in self.keys:
            _need(isinstance(key, bytes), "a wrong key")
            try:
                check_public(key)
            except BusError as error:
                raise WireError(str(error)) from error


Up = Hello | Batch | Request | Ping | Bye
Down = Welcome | State | Job | Ack | Refused | Reply | Pong | Changed | MasterKeys
Message = Up | Down

UP: Final[Mapping[int, type[Any]]] = {1: Hello, 2: Batch, 3: Request, 4: Ping, 5: Bye}
DOWN: Final[Mapping[int, type[Any]]] = {
    33: Welcome,
    34: State,
    35: Job,
    36: Ack,
    37: Refused,
    38: Reply,
    39: Pong,
    40: Changed,
    41: MasterKeys,
}
_KINDS: Final[Mapping[type[Any], int]] = {kind: number for number, kind in {**UP, **DOWN}.items()}
_FIELDS: Final[Mapping[type[Any], tuple[str, ...]]] = {
    kind: tuple(part.name for part in fields(kind)) for kind in _KINDS
}


def encode(message: Message) -> bytes:
    """Return a message's bytes.

    Raises:
        DataError: something within it that msgpack cannot carry.
    """
    kind = type(message)
    if isinstance(message, Batch):
        return wire.pack((_KINDS[kind], message.lineage, message.number, message.items))
    return wire.pack((_KINDS[kind], *(getattr(message, name) for name in _FIELDS[kind])))


def decode_up(raw: bytes) -> Up:
    """Return the message of a minion.

    Raises:
        WireError: these bytes are none.
    """
    message: Up = _decode(raw, UP)
    return message


def decode_down(raw: bytes) -> Down:
    """Return the message of a master.

    Raises:
        WireError: these bytes are none.
    """
    message: Down = _decode(raw, DOWN)
    return message


def _decode(raw: bytes, table: Mapping[int, type[Any]]) -> Any:
    value = wire.unpack(raw)
    _need(isinstance(value, list) and len(value) > 0, "no kind")
    kind = table.get(value[0]) if type(value[0]) is int else None
    if kind is None:
        raise WireError("a link message of an unknown kind")
    _need(len(value) == len(_FIELDS[kind]) + 1, "a wrong number of parts")
    if kind is Batch:
        return Batch(value[1], value[2], _items(value[3]))
    return kind(*value[1:])


def _items(value: Any) -> list[Item]:
    _need(isinstance(value, list) and len(value) <= MAX_ITEMS, "too many or no items")
    return [_item(item) for item in value]


def _item(value: Any) -> Item:
    if not isinstance(value, list) or len(value) != 3:
        raise WireError("a link message with an item that is no item")
    kind, name, data = value
    if type(kind) is not int or not 0 <= kind <= 1 or type(name) is not str:
        raise WireError("a link message with an item of an unknown kind")
    if type(data) is not bytes:
        raise WireError("a link message with an item without data")
    return Item(kind, name, data)
