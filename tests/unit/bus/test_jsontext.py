"""JSON for people of whatever an event can hold."""

import json

import pytest

from bus import jsontext, wire
from reactor.cli import output
from reactor.rules.filters import to_json
from reactor.rules.values import key_text
from tests.unit.reactor.rules.rule_tools import Core

ODD = {1: "a", "b": [{b"\xff": 1, None: 2, 1.5: 3, True: 4}], "c": b"x"}
SHOWN = {"1": "a", "b": [{"\\xff": 1, "null": 2, "1.5": 3, "true": 4}], "c": "b'x'"}
DEEP = 100_000
"""Levels that no release of Python writes; some write ten times as many as others."""


def _deep(levels):
    value = [1]
    for _ in range(levels):
        value = {"a": value}
    return value


def test_keys_of_any_kind_are_shown_as_text():
    """In one line, sorted or indented; an event can carry them."""
    assert wire.unpack(wire.pack(ODD)) == ODD
    for sort_keys in (False, True):
        for indent in (None, 4):
            text = jsontext.shown(ODD, sort_keys=sort_keys, indent=indent)
            assert json.loads(text) == SHOWN
    assert jsontext.shown({"a": (1, 2)}, sort_keys=True) == '{"a": [1, 2]}'


def test_what_nests_too_deeply_is_cut_or_refused():
    """As whoever asks can bear it."""
    deep = _deep(DEEP)
    assert jsontext.shown({"tag": "x", "data": deep}, cuts=True).startswith('{"tag": "x"')
    assert "\\u2026" in jsontext.shown(deep, cuts=True)
    with pytest.raises(RecursionError):
        jsontext.shown(deep)


def test_commands_show_any_event():
    """No event ends whoever watches."""
    for pretty in (False, True):
        assert json.loads(output.as_json({"tag": "x", "data": ODD}, pretty=pretty))["tag"] == "x"
    assert output.compact(ODD).startswith("{")
    assert "…" in output.compact(_deep(DEEP))


def test_rules_take_any_event():
    """The key of equal data is the same, in whatever order it was packed."""
    assert key_text({1: 2, "a": 3}) == key_text({"a": 3, 1: 2})
    assert json.loads(to_json({1: 2, "a": 3})) == {"1": 2, "a": 3}
    core = Core("r:\n  on: x\n  dedupe: 1h\n  do: [{event: y}]\n")
    assert core.acts(0, "x", v={1: 2, "a": 3})
    assert core.why(1, "x", v={"a": 3, 1: 2}).startswith("dedupe: the same came 1s ago, within 1h")
    assert core.acts(2, "x", v={1: 2, "a": 4})
