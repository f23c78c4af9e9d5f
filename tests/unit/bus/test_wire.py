r"""The wire form: ``tag\n\n`` and msgpack; limits; errors that name the culprit."""

import contextlib
import datetime as dt
import math
import re
from types import MappingProxyType

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus import wire
from bus.errors import DataError, TagError, TooLargeError, WireError
from bus.record import Event

_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
)
_KEYS = st.text() | st.integers(-(2**63), 2**64 - 1)
_VALUES = st.recursive(
    _LEAVES, lambda inner: st.lists(inner) | st.dictionaries(_KEYS, inner), max_leaves=20
)
_TAGS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=100)


@given(_TAGS, st.dictionaries(_KEYS, _VALUES))
def test_what_is_packed_comes_back(tag, data):
    """Every event makes the round trip, with a stamp of its own if it had none."""
    before = dict(data)
    got_tag, got = wire.unpack_event(wire.pack_event(tag, data))
    assert got_tag == tag
    assert data == before
    if "_stamp" not in data:
        dt.datetime.fromisoformat(got.pop("_stamp"))
    assert got == data


def test_the_wire_form_is_salts():
    """Tag, two line breaks, msgpack with text as str and bytes as bin."""
    raw = wire.pack_event("a/b", {"x": 1, "y": b"z", "_stamp": "now"})
    head, _, body = raw.partition(b"\n\n")
    assert head == b"a/b"
    assert msgpack.unpackb(body, raw=False) == {"x": 1, "y": b"z", "_stamp": "now"}


def test_a_stamp_is_iso_8601_in_utc():
    """Microseconds are always there, and so is the offset."""
    moment = dt.datetime(2026, 11, 22, 9, 30, tzinfo=dt.UTC)
    assert wire.stamp(moment) == "2026-11-22T09:30:00.000000+00:00"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00", wire.stamp())


def test_any_mapping_is_data():
    """A read-only mapping can be fired, and stays what it is."""
    data = MappingProxyType({"x": 1})
    assert wire.unpack_event(wire.pack_event("t", data))[1]["x"] == 1
    assert "_stamp" not in data


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"a": {"b": [1, object()]}}, r"data\['a'\]\['b'\]\[1\] is object"),
        ({"a": 2**64}, r"data\['a'\] is 18446744073709551616"),
        ({"a": 10**200}, r"10000.*\.\.\."),
        (
            {"when": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)},
            r"data\['when'\] is datetime",
        ),
        ({"s": {1}}, "is set"),
        ({"a": "\ud800"}, "surrogates"),
        ({object(): 1}, "a key of data is object"),
        ([], "is a dict, not list"),
        ("text", "is a dict, not str"),
        (None, "is a dict, not NoneType"),
        ({"a": {"\ud800": 1}}, r"a key of data\['a'\] is '.ud800': .*surrogates"),
        ({frozenset(): 1}, "a key of data is frozenset: can not serialize"),
    ],
)
def test_data_that_cannot_be_carried_is_named(data, words):
    """The error is a ValueError that says where in the data the culprit is."""
    with pytest.raises(DataError, match=words) as caught:
        wire.pack_event("t", data)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([("t", {}), ("t",)], "event 2 is no .* pair: tuple"),
        ([5], "event 1 is no .* pair: 5"),
        ({"t/one": {}}, "event 1 is no .* pair: 't/one'"),
        (5, "pairs, not int"),
        ([("t", {}), ("", {})], "event 2: the event tag is empty"),
        ([("t", {}), ("t", []), ("t", {})], "event 2: the data of an event is a dict"),
        ([({"x": 1}, {"y": 1})], "event 1: an event tag is text, not dict"),
        ([{"tag": "t", "what": {}}], "event 1: the data of an event is a dict, not NoneType"),
        ([{"a": 1, "b": {}}], "event 1: an event tag is text, not NoneType"),
    ],
)
def test_of_many_the_wrong_one_is_named(events, words):
    """By its place, counted from 1."""
    packer = wire.EventPacker(lambda: 0)
    with pytest.raises((DataError, TagError), match=words):
        list(packer.pack_all(events))
    assert len(list(packer.pack_all([("t", {}), ("u", {})]))) == 2


@pytest.mark.parametrize(
    "given", [("t", {"x": 1}), ({"x": 1}, "t"), {"tag": "t", "data": {"x": 1}}]
)
def test_the_forms_of_one_of_many(given):
    """As a pair, as `fire_event` has tag and data, and as ``get_event(full=True)`` returns them."""
    [event] = wire.EventPacker(lambda: 0).pack_all([given])
    assert wire.unpack_event(event) == ("t", {"_stamp": "1970-01-01T00:00:00.000000+00:00", "x": 1})


def test_endless_data_is_refused():
    """A dict within itself ends in an error, not in a crash."""
    data = {}
    data["self"] = data
    with pytest.raises(DataError, match="recursion limit"):
        wire.pack_event("t", data)


def test_the_limit_counts_the_whole_event():
    """One byte too many is refused, and the option named."""
    data = {"_stamp": "", "x": "y" * 100}
    size = len(wire.pack_event("tag", data))
    assert len(wire.pack_event("tag", data, size)) == size
    with pytest.raises(TooLargeError, match="max_event_size allows"):
        wire.pack_event("tag", data, size - 1)


def test_a_wrong_tag_is_refused_before_anything_is_packed():
    """The tag is checked as everywhere."""
    with pytest.raises(TagError):
        wire.pack_event("", {})


@given(st.binary(max_size=200))
def test_random_bytes_are_read_or_refused(raw):
    """Nothing but WireError comes out of foreign bytes."""
    for read in (wire.unpack, wire.unpack_event, wire.split_event, wire.checked_tag):
        with contextlib.suppress(WireError):
            read(raw)
    wire.tag_of(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"\xdd\xff\xff\xff\xff",  # an array of four milliards
        b"\xdf\xff\xff\xff\xff",  # a map of as many
        b"\xdb\xff\xff\xff\xff",  # a text of four GiB
        b"\xc6\xff\xff\xff\xff",
        b"\xc7\x01\x05a",  # an extension type
        b"\xd6\xff\0\0\0\0",  # a timestamp
        b"\x01\x01",  # two values
        b"\x81\x90\x01",  # a list as a key
        b"\xa1\xff",  # text that is no UTF-8
        b"\x91" * 5000,
        b"",
    ],
)
def test_forged_msgpack_is_refused(raw):
    """A forged length allocates nothing; what is no single plain value is refused."""
    with pytest.raises(WireError):
        wire.unpack(raw)


@pytest.mark.parametrize("raw", [b"tag", b"\n\n\x80", b"\xff\n\n\x80", b"t\n\n\x90", b"t\n\n"])
def test_what_is_no_event_is_refused(raw):
    """No tag, no UTF-8, no dict, no data."""
    with pytest.raises(WireError):
        wire.unpack_event(raw)


def test_the_tag_alone_can_be_read():
    """For matching, the data need not be unpacked; wrong bytes become marks."""
    assert wire.tag_of(b"a/b\n\nwhatever") == "a/b"
    assert wire.tag_of(b"\xff\n\n") == "\ufffd"


def test_not_a_number_makes_the_trip():
    """NaN is a float like any other."""
    assert math.isnan(wire.unpack(wire.pack(math.nan)))


def test_an_event_knows_the_users_data_whatever_its_shape():
    """``payload`` is what was given to fire or to send, without what was put around it."""
    flat = Event("t", {"x": 1, "_stamp": "s", "_cause": {}}, 7, "ab")
    sent = Event("t", {"cmd": "_minion_event", "id": "web1", "data": {"x": 1, "_stamp": "s"}}, 8)
    odd = Event("t", {"cmd": "_minion_event", "data": "text"}, 9)
    assert (flat.payload, flat.stamp, flat.id) == ({"x": 1}, "s", "ab-7")
    assert (sent.payload, sent.stamp) == ({"x": 1}, "")
    assert odd.payload == {"cmd": "_minion_event", "data": "text"}


def test_an_event_is_read_from_the_wire():
    """Tag, data and place."""
    event = Event.from_wire(wire.pack_event("t", {"x": 1}), 3, "ab")
    assert (event.tag, event.data["x"], event.seq, event.bus_id) == ("t", 1, 3, "ab")


class TestEventPacker:
    """The packer that is kept between events."""

    def test_packs_as_pack_event_does(self):
        """Byte for byte, when the event has a stamp already."""
        packer = wire.EventPacker(lambda: 0)
        for number in range(3):
            data = {"n": number, "_stamp": "x", "list": [1, {"a": None}]}
            assert packer.pack("a/b", data) == wire.pack_event("a/b", data)

    @given(_TAGS, st.dictionaries(_KEYS, _VALUES, max_size=20))
    def test_a_stamp_is_put_in_whatever_the_size(self, tag, data):
        """In front of packed data, or, where msgpack's head would be another one, in a copy."""
        expected = {"_stamp": "1970-01-01T00:00:00.000000+00:00", **data}
        event = wire.EventPacker(lambda: 0).pack(tag, data)
        assert wire.unpack_event(event) == (tag, expected)

    def test_stamps_in_utc_with_microseconds(self):
        """Within a second and over its end."""
        times = iter([1_000_000_000, 1_999_999_999, 86_400_000_001_000])
        packer = wire.EventPacker(lambda: next(times))
        stamps = [wire.unpack_event(packer.pack("t", {}))[1]["_stamp"] for _ in range(3)]
        assert stamps == [
            "1970-01-01T00:00:01.000000+00:00",
            "1970-01-01T00:00:01.999999+00:00",
            "1970-01-02T00:00:00.000001+00:00",
        ]

    def test_an_error_leaves_nothing_behind(self):
        """What was half packed does not turn up in the next event."""
        packer = wire.EventPacker(lambda: 0)
        with pytest.raises(DataError, match=r"data\['b'\]"):
            packer.pack("t", {"a": "x" * 100, "b": object()})
        assert wire.unpack_event(packer.pack("t", {"c": 1}))[1]["c"] == 1

    def test_the_limit_holds(self):
        """The error names the option."""
        with pytest.raises(TooLargeError, match="max_event_size"):
            wire.EventPacker(lambda: 0, 50).pack("t", {"a": "x" * 50})


@pytest.mark.parametrize("data", [{"a": 10**5000}, {10**5000: {1}}])
def test_numbers_that_python_does_not_write_out(data):
    """The error names them all the same, and is the one of data that cannot be carried."""
    with pytest.raises(DataError, match="msgpack cannot carry this data"):
        wire.pack(data)
