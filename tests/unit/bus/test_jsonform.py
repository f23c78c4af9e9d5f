"""JSON that loses nothing of what msgpack carries."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus import jsonform, wire
from bus.errors import DataError

_KEYS = st.one_of(
    st.text(), st.integers(-(2**63), 2**64 - 1), st.binary(), st.sampled_from(["$bytes", "$map"])
)
_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
)
_VALUES = st.recursive(
    _LEAVES, lambda inner: st.lists(inner) | st.dictionaries(_KEYS, inner), max_leaves=20
)


@given(_VALUES)
def test_all_that_msgpack_carries_comes_back(value):
    """The same value, through valid JSON on one line."""
    carried = wire.unpack(wire.pack(value))
    text = jsonform.dumps(carried)
    assert "\n" not in text
    json.loads(text, parse_constant=pytest.fail)
    assert jsonform.loads(text) == carried


def test_what_json_lacks_has_a_form():
    """Bytes, odd numbers, other keys, and what looks like one of the forms."""
    assert jsonform.dumps({"raw": b"\xff\x00"}) == '{"raw":{"$bytes":"/wA="}}'
    assert jsonform.dumps(math.inf) == '{"$float":"inf"}'
    assert math.isnan(jsonform.loads('{"$float":"nan"}'))
    assert jsonform.dumps({1: b"x"}) == '{"$map":[[1,{"$bytes":"eA=="}]]}'
    assert jsonform.dumps({"$map": 1}) == '{"$map":[["$map",1]]}'
    assert jsonform.loads('{"$bytes":"eA==","more":1}') == {"$bytes": "eA==", "more": 1}


def test_what_is_nested_too_deeply_comes_back_too():
    """It goes as it is packed."""
    value = []
    for _ in range(480):
        value = [value]
    assert jsonform.loads(jsonform.dumps({"deep": value})) == {"deep": value}


@pytest.mark.parametrize(
    "text",
    [
        '{"$bytes": "%"}',
        '{"$bytes": 1}',
        '{"$float": "1"}',
        '{"$map": 1}',
        '{"$map": [[1]]}',
        '{"$map": [[[], 1]]}',
        '{"$msgpack": "wQ=="}',
        "{",
        "[" * 100_000,
    ],
)
def test_a_wrong_form_is_a_data_error(text):
    """One that says what cannot be read."""
    with pytest.raises(DataError, match=r"cannot be read|no valid JSON"):
        jsonform.loads(text)
