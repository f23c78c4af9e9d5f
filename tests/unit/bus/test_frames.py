"""The frames between a client and a server."""

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bus import errors, frames, wire
from bus.errors import BusError, ConfigError, RemoteError, TooLargeError, WireError
from bus.frames import Answer, Call, Fire

EVENT = wire.pack_event("a/b", {"x": 1})


def _fire(events, producer=b"p", number=1, base=1):
    return frames.fire(producer, number, base, wire.pack(events))


def test_a_fire_makes_the_round_trip():
    """Producer, number, base and events come out as they went in."""
    assert frames.parse_request(_fire([EVENT, EVENT], b"me", 7, 3)) == Fire(
        b"me", 7, 3, [EVENT] * 2, wire.pack([EVENT] * 2)
    )


def test_a_bare_event_has_no_producer():
    """One frame is an event that nobody acknowledges."""
    assert frames.parse_request([EVENT]) == Fire(b"", 0, 0, [EVENT])


def test_a_call_makes_the_round_trip():
    """Id, method and parameters come out as they went in."""
    asked = frames.parse_request(frames.call(b"id", "ping", {"a": [1]}))
    assert asked == Call(b"id", "ping", {"a": [1]})


_NUMBERS = b"\0" * 7 + b"\1" + b"\0" * 7 + b"\1"


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [b""],
        [b"no event"],
        [b"", EVENT],
        [b"F" + _NUMBERS + b"p"],
        [b"F" + _NUMBERS, wire.pack([EVENT])],
        [b"F" + _NUMBERS + b"p" * 321, wire.pack([EVENT])],
        [b"F\0p", wire.pack([EVENT])],
        [b"F" + _NUMBERS + b"p", b"\xc1"],
        [b"Z" + _NUMBERS + b"p", wire.pack([EVENT])],
        _fire([]),
        _fire({"a": 1}),
        _fire([EVENT.decode("latin-1")]),
        _fire([b"\n\n\x80"]),
        _fire([b"a\x01\n\n\x80"]),
        _fire([b"a\n\n\x90"]),
        _fire([b"a\n\n"]),
        _fire([b"x" * 4097 + b"\n\n\x80"]),
        _fire([b"\xff\n\n\x80"]),
        _fire([EVENT], number=0, base=0),
        _fire([EVENT], number=2, base=3),
        _fire([EVENT], number=1 << 63, base=1),
        _fire([b"t\n\n\x80"] * 10_001),
        [b"C", b"id", b"\xc1"],
        [b"C", b"id", wire.pack(["m"])],
        [b"C", b"id", wire.pack([1, {}])],
        [b"C", b"id", wire.pack(["m", []])],
        [b"C", b"i" * 65, wire.pack(["m", {}])],
    ],
)
def test_what_is_no_request_is_refused(parts):
    """Each way of being wrong is a WireError."""
    with pytest.raises(WireError):
        frames.parse_request(parts)


_HOSTILE = (
    st.binary(max_size=40)
    | st.sampled_from([b"F" + _NUMBERS + b"p", b"F", b"C", b"", EVENT, wire.pack([EVENT])])
    | st.builds(
        msgpack.packb,
        st.recursive(
            st.none() | st.binary() | st.integers(-5, 5) | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(-5, 5), inner),
            max_leaves=5,
        ),
    )
)


@given(st.lists(_HOSTILE, max_size=6))
@example([b"F" + _NUMBERS + b"p", wire.pack([b"t\n\n\x81\x90\x01"])])
def test_hostile_frames_are_parsed_or_refused(parts):
    """Whatever comes, nothing but WireError is raised, and what passes is whole."""
    try:
        asked = frames.parse_request(parts)
    except WireError:
        return
    if isinstance(asked, Fire):
        for event in asked.events:
            wire.unpack_event(event)


@pytest.mark.parametrize("tag", ["é", "a b", "日本/x", "x" * 4096])
def test_any_legal_tag_passes(tag):
    """The short cut for plain tags agrees with the full check."""
    event = wire.pack_event(tag, {})
    assert frames.parse_request([event]).events == [event]


def test_answers_carry_what_they_say():
    """What a server says of a fire comes out as it went in."""
    parse = frames.parse_answer
    assert parse(frames.acknowledged(b"p", 1, 2, 3)) == Answer(b"A", b"p", 1, 2)
    assert parse(frames.again(b"p", 9)) == Answer(b"N", b"p", 9)
    refused = parse(frames.refused(b"p", 4, TooLargeError("too much")))
    assert (refused.kind, refused.producer, refused.number) == (b"E", b"p", 4)
    assert isinstance(refused.error, TooLargeError)
    assert frames.result(b"i", {"a": 1}) == [b"R", b"i", wire.pack({"a": 1})]


@pytest.mark.parametrize(
    "parts", [[b""], [b"A123"], [b"N1"], [b"E" + b"\0" * 8 + b"p"], [b"Z" + b"\0" * 8 + b"p"]]
)
def test_what_is_no_answer_is_refused(parts):
    """A short frame and an unknown kind are a WireError."""
    with pytest.raises(WireError):
        frames.parse_answer(parts)


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=4))
def test_hostile_answers_are_parsed_or_refused(parts):
    """A server that is not ours ends no client."""
    try:
        assert frames.parse_answer(parts).kind in {b"A", b"N", b"E", b"S"}
    except WireError:
        return


@pytest.mark.parametrize(
    ("parts", "number"),
    [
        ([b"F" + _NUMBERS + b"p", b"\xc1"], 1),
        ([b"F" + _NUMBERS, b"\xc1"], None),
        ([], None),
        ([b"C", b"\xc1"], None),
    ],
)
def test_a_fire_that_cannot_be_read_is_answered_if_it_is_one(parts, number):
    """Its sender learns why; anybody else hears nothing."""
    answer = frames.refused_unread(parts, TooLargeError("x"))
    assert (frames.parse_answer(answer).number if answer else None) == number


def test_a_sequence_number_of_a_wrong_length_is_refused():
    """A short frame is a WireError."""
    for read in (frames.unpack_place,):
        with pytest.raises(WireError):
            read(b"123")


def test_an_error_keeps_its_class_over_the_wire():
    """A client catches what the server raised; unknown names become RemoteError."""
    _, *rest = frames.refused(b"p", 4, TooLargeError("too much"))
    assert isinstance(frames.parse_error(*rest), TooLargeError)
    assert isinstance(frames.parse_error(b"Exception", b"x"), RemoteError)
    assert isinstance(frames.parse_error(b"annotations", b"x"), RemoteError)
    assert isinstance(frames.parse_error(b"\xff", b"\xff"), RemoteError)
    assert isinstance(frames.parse_error(b"ConfigError", b"x"), RemoteError)


def test_every_error_can_be_sent():
    """A failed call names its error, whichever of the tree it is."""
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, BusError) and kind is not ConfigError:
            *_, name, text = frames.failed(b"i", kind("said"))
            assert type(frames.parse_error(name, text)) is kind


def test_a_mark_is_shaped_as_an_event():
    """A foreign reader of everything can take it apart; no tag begins like it."""
    topic, place = frames.mark(frames.SYNC + b"ab", 5, "0123456789ab")
    assert topic.startswith(frames.SYNC + b"ab")
    assert wire.unpack(topic.partition(wire.TAG_END)[2]) == {}
    assert frames.unpack_place(place) == (5, "0123456789ab")
    with pytest.raises(WireError):
        wire.checked_tag(frames.SYNC)
    assert "\U0010ffff".encode() < frames.SYNC
