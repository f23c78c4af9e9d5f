"""How data is shown."""

import doctest

import pytest

from reactor.cli import output


def test_the_example_in_the_docs():
    """The docstring is true."""
    assert doctest.testmod(output).failed == 0


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        (True, ["True"]),
        (None, ["None"]),
        (1.5, ["1.5"]),
        ("a\nb\n", ["a", "b"]),
        (b"ab\xff", ["ab\\xff"]),
        ([], []),
        ({"a": []}, ["a:"]),
        ({"a": {}}, ["a:"]),
        ({1: "x"}, ["1:", "    x"]),
        (["a", ["b", "c"], {"d": 1}], ["- a", "-", "  - b", "  - c", "- ----------", "  d:", "      1"]),
        (["a\nb"], ["- a", "  b"]),
        ({"a": "x\ny"}, ["a:", "    x", "    y"]),
    ],
)  # fmt: skip
def test_nested(value, lines):
    """Salt's form."""
    assert output.nested(value) == lines


def test_nothing_steers_the_terminal():
    """What other hosts send is shown, not obeyed."""
    evil = "\x1b[2J\x07\x9b\rx"
    assert output.safe(evil) == "\\x1b[2J\\x07\\x9b\\x0dx"
    shown = "\n".join(
        [*output.nested({evil: [evil, {evil: evil}]}), *output.table(["A"], [[evil]])]
    )
    assert "\x1b" not in shown + output.compact({evil: evil})


def test_compact():
    """One line, cut to a width."""
    assert output.compact({"a": "é"}) == '{"a": "é"}'
    assert output.compact("x" * 50, 10) == '"xxxxxxxx…'


def test_json_takes_everything_that_events_carry():
    """Bytes, tuples, read-only mappings and odd objects."""
    from types import MappingProxyType

    value = {"b": b"\xffa", "t": (1,), "s": {2}, "m": MappingProxyType({"x": 1}), "o": 1j}
    expected = '{"b": "\\\\xffa", "t": [1], "s": [2], "m": {"x": 1}, "o": "1j"}'
    assert output.as_json(value) == expected
    assert output.as_json({"b": 1, "a": 2}, pretty=True) == '{\n    "a": 2,\n    "b": 1\n}'


def test_table():
    """Aligned; a long cell in a column does not push the others far away."""
    lines = output.table(["NAME", "N"], [["a", 1], ["bcdefg", 22]])
    assert lines == ["NAME    N", "a       1", "bcdefg  22"]
    assert output.table(["A", "B"], []) == ["A  B"]
    assert output.table(["A", "B"], [["x" * 200, "y"]])[0].index("B") == 62
