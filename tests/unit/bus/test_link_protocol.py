"""The messages of the link."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus import wire
from bus.errors import WireError
from bus.link import protocol
from bus.link.protocol import (
    DOWN,
    UP,
    Ack,
    Batch,
    Bye,
    Changed,
    Hello,
    Item,
    Job,
    MasterKeys,
    Ping,
    Pong,
    Refused,
    Reply,
    Request,
    State,
    Welcome,
    decode_down,
    decode_up,
    encode,
)

LINE = b"l" * 16
KEY = b"0" * 40
UPS = [
    Hello("web1", "1", {"os": "Debian"}),
    Batch(LINE, 1, [Item(0, "tag", b"x"), Item(1, "2" * 20, b"y")]),
    Request(3, {"file": "x"}),
    Ping(),
    Bye(),
]
DOWNS = [
    Welcome("1", 1000),
    State("pending"),
    Job({"jid": "2" * 20, "fun": "test.ping", "arg": []}),
    Ack(LINE, 7, {1: "why"}),
    Refused(LINE, 7, "why"),
    Reply(3, {"a": b"c"}, ""),
    Pong(),
    Changed(),
    MasterKeys([KEY]),
    MasterKeys([KEY, KEY]),
]


@pytest.mark.parametrize("message", UPS)
def test_up_there_and_back(message: protocol.Up) -> None:
    """What a minion says is what the master hears; and a master never says it."""
    assert decode_up(encode(message)) == message
    with pytest.raises(WireError):
        decode_down(encode(message))


@pytest.mark.parametrize("message", DOWNS)
def test_down_there_and_back(message: protocol.Down) -> None:
    """What the master says is what a minion hears; and a minion never says it."""
    assert decode_down(encode(message)) == message
    with pytest.raises(WireError):
        decode_up(encode(message))


def test_every_kind_is_tried() -> None:
    """The tables and these tests know the same kinds."""
    assert {type(message) for message in UPS} == set(UP.values())
    assert {type(message) for message in DOWNS} == set(DOWN.values())


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        [True],
        [99],
        ["1"],
        [1],
        [1, "web1", "1", {}, "more"],
        [1, "../x", "1", {}],
        [1, "web1", "1" * 200, {}],
        [1, "web1", 1, {}],
        [1, "web1", "1", {1: 2}],
        [1, "web1", "1", []],
        [2, b"short", 1, [[0, "t", b""]]],
        [2, "l" * 16, 1, [[0, "t", b""]]],
        [2, LINE, 0, [[0, "t", b""]]],
        [2, LINE, -1, [[0, "t", b""]]],
        [2, LINE, True, [[0, "t", b""]]],
        [2, LINE, 1 << 63, [[0, "t", b""]]],
        [2, LINE, 1, []],
        [2, LINE, 1, None],
        [2, LINE, 1, [[0, "t"]]],
        [2, LINE, 1, [None]],
        [2, LINE, 1, [[2, "t", b""]]],
        [2, LINE, 1, [[True, "t", b""]]],
        [2, LINE, 1, [[0, 5, b""]]],
        [2, LINE, 1, [[0, "t", "text"]]],
        [2, LINE, 1, [[0, "t", b""]] * (protocol.MAX_ITEMS + 1)],
        [3, 1, None],
        [3, "1", {}],
    ],
)
def test_malformed_from_a_minion(value: object) -> None:
    """A half-valid message does not exist."""
    with pytest.raises(WireError):
        decode_up(wire.pack(value))


@pytest.mark.parametrize(
    "value",
    [
        [33, 1, 1],
        [33, "1", 0],
        [34, "other"],
        [41, []],
        [41, [KEY] * 3],
        [41, KEY],
        [41, ["0" * 40]],
        [41, [b"short"]],
        [34, []],
        [35, {"jid": "1"}],
        [35, {"fun": "x"}],
        [36, "text", 1, {}],
        [36, LINE, 1, []],
        [36, LINE, 1, {"x": "y"}],
        [36, LINE, 1, {0: 5}],
        [37, LINE, 1, "x" * 5000],
        [37, 0, 1, "x"],
        [38, 0, None, None],
    ],
)
def test_malformed_from_a_master(value: object) -> None:
    """The same holds in the other direction."""
    with pytest.raises(WireError):
        decode_down(wire.pack(value))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_an_error_of_the_sender(raw: bytes) -> None:
    """Nothing from the network raises anything else."""
    for decode in (decode_up, decode_down):
        with contextlib.suppress(WireError):
            decode(raw)


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-5, 1 << 64 - 1)
    | st.text(max_size=5)
    | st.binary(max_size=20)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=3) | st.integers(0, 9), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.sampled_from([*UP, *DOWN]), st.lists(values, max_size=4))
def test_any_parts_are_a_message_or_an_error_of_the_sender(kind: int, parts: list[object]) -> None:
    """The same, with a known kind in front."""
    raw = wire.pack([kind, *parts])
    for decode in (decode_up, decode_down):
        with contextlib.suppress(WireError):
            decode(raw)
