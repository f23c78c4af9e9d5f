"""What is read by its shape is what the parser would have read: always, or not at all."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bus.errors import BusError
from bus.yamlfile import load
from reactor.rules.reactions import read_calls
from reactor.rules.shapes import MAX_SHAPES, Shapes
from tests.unit.reactor.rules.rule_tools import salt_file

IDS = {"static": 3, "web1": 7}


def _read(text):
    value, lines = load(text, "r.sls")
    calls = () if value is None else read_calls(value, lines, "r.sls", IDS, lambda _text: None)
    return calls, lines


def _parsed(text):
    try:
        return _read(text)[0]
    except BusError:
        return None


def _pieces(template, words):
    """Return a template's text in pieces; ``@`` stands for a word."""
    statics = template.split("@")
    pieces = [statics[0]]
    for word, static in zip(words, statics[1:], strict=True):
        pieces += [word, static]
    return pieces


class Counted:
    """Shapes that know how often the parser was asked."""

    def __init__(self):
        self.asked = 0
        self.shapes = Shapes(self._read, IDS)

    def _read(self, text):
        self.asked += 1
        return _read(text)

    def warm(self, template):
        for word in ("word", "other"):
            self.shapes.calls(_pieces(template, [f"{word}{n}" for n in range(template.count("@"))]))
        return self


TYPICAL = [
    "x:\n  runner.test.arg:\n    - args:\n      - id: @\n",
    "x:\n  runner.test.arg:\n    - args:\n      - id: '@'\n      - n: \"a-@-b\"\n",
    "restart_@:\n  local.service.restart:\n    - tgt: @\n    - arg: [nginx, @]\n",
    "x:\n  cmd.run.it:\n    - tgt: '*'\n    - kwarg: {a: {b: [@, 1]}, c: @/@}\n",
    "a:\n  wheel.key.accept:\n    - match: @\nb:\n  runner.x.y:\n    - args: {v: @}\n    - order: 1\n",
    "x:\n  local.cmd.run:\n    - tgt: @\n    - arg:\n      - |\n        echo @\n        echo 2\n",
    "x:\n  runner.test.@:\n    - args: [a]\n",
    "x: # @\n  local.test.ping:\n    - tgt: @\n    - tgt_type: list\n    - timeout: @\n",
]


@pytest.mark.parametrize("template", TYPICAL)
def test_typical_files_are_parsed_once(template):
    """And what their words say is where the parser would have put it."""
    counted = Counted().warm(template)
    for number in range(5):
        words = [f"m{number}.{place}" for place in range(template.count("@"))]
        pieces = _pieces(template, words)
        assert counted.shapes.calls(pieces) == _parsed("".join(pieces)) is not None
    assert counted.asked == 1


def test_numbers_are_numbers_where_no_quotes_stand():
    """The commonest of all values that are not text."""
    counted = Counted().warm(TYPICAL[1])
    [call] = counted.shapes.calls(_pieces(TYPICAL[1], ["42", "42"]))
    assert call.kwargs == {"id": "42", "n": "a-42-b"}
    counted = Counted().warm(TYPICAL[0])
    [call] = counted.shapes.calls(_pieces(TYPICAL[0], ["42"]))
    assert call.kwargs == {"id": 42}


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (TYPICAL[0], ["yes"]),
        (TYPICAL[0], ["007"]),
        (TYPICAL[0], ["1.5"]),
        (TYPICAL[0], ["10_0"]),
        (TYPICAL[0], ["null"]),
        ("x: {runner.a.b: [{args: [{k: 0x@}]}]}", ["ff"]),
        ("x: {runner.a.b: [{args: [{k: @:30}]}]}", ["1"]),
        ("x: {runner.a.b: [{args: [{k: {@: 1, @: 2}}]}]}", ["a", "a"]),
        ("@: {runner.a.b: []}\n@: {runner.a.b: []}", ["a", "a"]),
        ("@: {runner.a.b: []}\n@: {runner.a.c: []}", ["a", "a"]),
        ("@: {runner.a.b: []}\nstatic: {runner.a.c: []}", ["static"]),
        ("a: {local.a.@: [{tgt: x}], cmd.a.@: [{tgt: x}]}", ["b", "b"]),
        ("@: {runner.a.b: []}", ["on"]),
        ("x: {runner.a.b: [{@: 1}]}", ["args"]),
        ("x: {runner.a.b: [{args: [{@: 1}]}]}", ["a"]),
        ("x: {@.a.b: []}", ["runner"]),
        ("x: {runner.a.b: [{order: @}]}", ["5"]),
        ('x: {runner.a.b: [{args: ["\\@"]}]}', ["n1"]),
        ("x: {runner.a.b: [{args: [&@ 1]}]}", ["a"]),
        ("x: {runner.a.b: [{args: [!!str @]}]}", ["5"]),
        ("x: {runner.a.b: [{args: [zQ0zQ, @]}]}", ["a"]),
        ("x: {runner.a.b: [{args: ['" + "y" * 500 + "@']}]}", ["a"]),
        ("%@ {", ["a"]),
    ],
)
def test_what_words_may_change_is_left_to_the_parser(template, words):
    """Types, keys, anchors and escapes."""
    counted = Counted().warm(template)
    assert counted.shapes.calls(_pieces(template, words)) is None


@pytest.mark.parametrize("piece", ["two words", "a: b", "\0", "", "-", "a\nb", "ä", "x" * 201, "{"])
def test_what_is_no_word_is_part_of_the_shape(piece):
    """So it is parsed, and nothing of it can be taken for a placeholder."""
    counted = Counted().warm(TYPICAL[0])
    assert counted.shapes.calls(_pieces(TYPICAL[0], [piece])) is None


def test_too_many_letters_in_words_are_left_to_the_parser():
    """A key of YAML has a limit."""
    template = "x: {runner.a.b: [{args: [" + ", ".join("@@@") + "]}]}"
    counted = Counted().warm(template)
    assert counted.shapes.calls(_pieces(template, ["a" * 171] * 3)) is None
    assert counted.shapes.calls(_pieces(template, ["a" * 170] * 3)) is not None


def test_a_text_that_comes_once_costs_no_second_parsing():
    """Hostile data makes a new shape each time; they are bounded and not looked into."""
    counted = Counted()
    for number in range(3 * MAX_SHAPES):
        assert counted.shapes.calls([f"a b {number}: ", "word"]) is None
    assert counted.asked == 0
    assert len(counted.shapes._known) == MAX_SHAPES


PLAIN = [
    "web1",
    "static",
    "1",
    "0",
    "42",
    "007",
    "1.5",
    "yes",
    "no",
    "null",
    "a.b",
    "a/b",
    "a-b",
    "0x1f",
    "1_000",
    "1e5",
    "2026-01-01",
    "args",
    "tgt",
    "arg",
    "order",
    "first",
    "y",
    "_",
    '"q"',
    "'q'",
    "'1'",
    "10.0.0.7",
    "12345678901234567890",
    "a-",
    "b.",
    "c/",
    "runner",
]
WORDS = st.one_of(
    st.sampled_from(PLAIN),
    st.text("aB1_./-", min_size=1, max_size=6),
    st.text("a1 :#'\"{}[]&*!|>\n\\@`%,-?~<", max_size=6),
)
PARTS = st.sampled_from(
    [
        "x",
        "@",
        "@@",
        "'@'",
        '"@"',
        "a-@",
        "@-b",
        "0x@",
        "@:1",
        "[@, @]",
        "{@: @}",
        "{k: @}",
        "-@",
        "'it''s @'",
        '"\\@"',
        "&a @",
        "*a",
        "# @",
        "~",
        "@ @",
        "@: @",
        "\n    {a: @, @: b}",
        "!!str @",
        "{<<: {a: @}, b: @}",
        "1@",
        "?@",
        "|\n          @\n",
        "\n          @\n          b",
    ]
)


@st.composite
def templates(draw):
    """Reactor files of all kinds of values in all places."""
    blocks = []
    for number in range(draw(st.integers(1, 2))):
        ident = draw(st.sampled_from([f"id{number}", "@", "a_@", "'@'"]))
        function = draw(
            st.sampled_from(
                ["runner.a.b", "local.a.b", "cmd.a.@", "wheel.@", "caller.a.b", "@.a.b"]
            )
        )
        options = [
            f"    - {name}: {draw(PARTS)}\n"
            for name in draw(
                st.lists(
                    st.sampled_from(
                        ["tgt", "args", "arg", "kwarg", "order", "x", "@", "ret", "'@'"]
                    ),
                    max_size=3,
                )
            )
        ]
        blocks.append(f"{ident}:\n  {function}:\n{''.join(options)}")
    return "".join(blocks)


@settings(max_examples=600, deadline=None)
@given(templates(), st.data())
@example("x:\n  local.a.b:\n    - tgt: @\n", None)
def test_words_never_change_how_a_text_is_read(template, data):
    """For every text: the same calls as the parser's, or the parser is asked."""
    counted = Counted().warm(template)
    places = template.count("@")
    for _ in range(3):
        words = (
            ["007"] * places
            if data is None
            else data.draw(st.lists(WORDS, min_size=places, max_size=places))
        )
        pieces = _pieces(template, words)
        calls = counted.shapes.calls(pieces)
        if calls is not None:
            # As texts: 1 and true are equal in Python.
            assert repr(calls) == repr(_parsed("".join(pieces)))


def test_a_reactor_file_reads_by_shape(tmp_path):
    """With Jinja's own pieces, in loops too, and with the line of an ID where it is known."""
    file = salt_file(
        tmp_path,
        "static:\n  runner.test.arg:\n    - args:\n      - id: {{ data['id'] }}\n"
        "{% for n in data['list'] %}\nx_{{ n }}:\n  local.test.arg:\n    - tgt: {{ n | tojson }}\n"
        "    - args: [{v: {{ loop.index }}}]\n{% endfor %}\n",
    )
    for number in range(300):
        names = [f"m{number}a", f"m{number}b"]
        first, *rest = file.calls({"data": {"id": f"m{number}", "list": names}})
        assert first.kwargs == {"id": f"m{number}"}
        assert first.source.line == 1
        assert [(c.ident, c.target, c.kwargs["v"]) for c in rest] == [
            (f"x_{name}", name, place) for place, name in enumerate(names, 1)
        ]
        assert {c.source.line for c in rest} == {0}
