"""YAML with lines, without duplicate keys."""

import contextlib

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bus import yamlfile

TEXT = """\
# a comment
name: one
list:
  - a
  - inner: 1
    on: {deep: x}
"quoted key": 2
"""


def problem(text):
    with pytest.raises(yamlfile.YamlError) as caught:
        yamlfile.load(text, "f.yaml")
    return caught.value


def test_values_are_plain_yaml():
    """Values are what PyYAML makes of them."""
    value, _ = yamlfile.load("{a: 1, b: [true, null, 1.5], c: 'x'}", "f")
    assert value == {"a": 1, "b": [True, None, 1.5], "c": "x"}


@pytest.mark.parametrize("text", ["", "# only a comment\n"])
def test_an_empty_text_is_none_on_line_one(text):
    """A file without a value is no error."""
    value, lines = yamlfile.load(text, "f")
    assert value is None
    assert lines.at(("a", 0)) == 1


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ((), 2),
        (("name",), 2),
        (("list",), 3),
        (("list", 0), 4),
        (("list", 1), 5),
        (("list", 1, "inner"), 5),
        (("list", 1, "on"), 6),
        (("list", 1, "on", "deep"), 6),
        (("quoted key",), 7),
    ],
)
def test_every_key_and_item_knows_its_line(path, line):
    """A path leads to the line of its key or item."""
    assert yamlfile.load(TEXT, "f")[1].at(path) == line


@pytest.mark.parametrize(
    ("path", "line"), [(("absent",), 2), (("list", 9), 3), (("list", "x"), 3), (("name", "x"), 2)]
)
def test_a_path_to_nowhere_gives_the_last_line_found(path, line):
    """Where a path ends early, the nearest line is better than none."""
    assert yamlfile.load(TEXT, "f")[1].at(path) == line


def test_a_key_twice_is_refused_with_both_lines():
    """The second key's place is given, and the first one's line."""
    error = problem("a: 1\nb: 2\na: 3\n")
    assert (error.path, error.line, error.column) == ("f.yaml", 3, 1)
    assert str(error) == "f.yaml:3:1: the key 'a' is here twice, first on line 1"


@pytest.mark.parametrize("text", ["{1: a, 0x1: b}", "x: {a: 1, 'a': 2}", "- [{b: 1, b: 1}]"])
def test_a_key_twice_is_found_at_any_depth_and_in_any_spelling(text):
    """Keys are compared as values."""
    assert "twice" in problem(text).problem


def test_merged_keys_may_be_overridden():
    """`<<` brings defaults in, the mapping's own keys win, and know their lines."""
    value, lines = yamlfile.load("base: &b {x: 1, y: 1}\nmine:\n  <<: *b\n  y: 2\n", "f")
    assert value["mine"] == {"x": 1, "y": 2}
    assert lines.at(("mine", "y")) == 4
    assert lines.at(("mine", "x")) == 1


def test_dates_stay_text():
    """A date is the text that was written, tagged or not."""
    value, _ = yamlfile.load("[2024-01-01, 2024-01-01 10:00:00, !!timestamp 2024-01-01, =]", "f")
    assert value == ["2024-01-01", "2024-01-01 10:00:00", "2024-01-01", "="]


def test_yes_no_on_off_are_bools_as_values_and_text_as_keys():
    """`on:` is a key of rule files; as a value, YAML 1.1 stays."""
    value, _ = yamlfile.load("on: on\nno: no\ntrue: 'yes'\n", "f")
    assert value == {"on": True, "no": False, "true": "yes"}


@pytest.mark.parametrize(
    "text",
    [
        "a: [1, 2",
        "a: b: c",
        "\tx: 1",
        "a: 1\n---\nb: 2",
        "!!python/object:os.system x",
        "[a]: 1",
        "? {a: 1}\n: 2",
        "*nowhere",
        "!!bool foo",
        "!!int ''",
        "!!float x",
        "0b_",
        "a: \x07",
        "a: \ud800",
        "{<<: 3}",
    ],
)
def test_what_is_no_yaml_is_refused_with_its_place(text):
    """Every way to be wrong ends in one error with file, line and column."""
    error = problem(text)
    assert str(error).startswith(f"f.yaml:{error.line}:{error.column}: ")
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("a:\n  tgt: {{ data.id }}", 'put the {{ }} in quotes: tgt: "{{ ... }}"'),
        ("a:\n  tgt: {{ data.id }}-x\n", 'put the {{ }} in quotes: tgt: "{{ ... }}"'),
        ("a:\n  [{{ data.id }}, 2]", 'put the {{ }} in quotes: "{{ ... }}"'),
        ("a:\n  - {{ data.id }}", 'put the {{ }} in quotes: "{{ ... }}"'),
    ],
)
def test_a_template_without_quotes_is_named_as_one(text, advice):
    """YAML sees a mapping in a mapping; the author sees a template."""
    error = problem(text)
    assert (error.problem, error.line) == (advice, 2)


def test_a_forbidden_character_has_its_line_and_column():
    """PyYAML knows only a byte offset; people want the line."""
    error = problem("a: 1\nb: x\x07y\n")
    assert (error.line, error.column) == (2, 5)
    assert "U+0007" in error.problem


@pytest.mark.parametrize(
    ("text", "place", "told"),
    [
        ("a:\n\tb: 1", (2, 1), "a tab is no indentation in YAML: put blanks in its place"),
        ("a:\n  \tb: 1\n", (2, 3), "a tab is no indentation in YAML: put blanks in its place"),
        ("a:\n  b: 'x\nc: 1\n", (4, 1), "the quote that begins on line 2 is not closed"),
    ],
)
def test_slips_of_the_hand_are_told_in_words(text, place, told):
    """What libyaml says of them helps nobody."""
    error = problem(text)
    assert (error.problem, (error.line, error.column)) == (told, place)


@pytest.mark.parametrize("text", ["[" * 50_000, "- " * 50_000 + "a", "[" * 101 + "]" * 101])
def test_deep_nesting_is_refused_before_it_ends_the_process(text):
    """The parser recurses in C: without a limit this is a segmentation fault."""
    assert "deeper than 100" in problem(text).problem


def test_many_brackets_side_by_side_are_fine():
    """Width is no depth."""
    value, _ = yamlfile.load("[" + "[1]," * 2000 + "]", "f")
    assert len(value) == 2000


def test_an_alias_within_itself_is_refused():
    """A value that contains itself has no end."""
    assert "deeper" in problem("&a [*a]").problem


def test_an_alias_bomb_is_refused():
    """Aliases that double a value thirty times are refused, quickly."""
    rows = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 31)]
    assert "expand" in problem("\n".join(rows)).problem


@given(st.text(alphabet=st.sampled_from("ab:-[]{}\"' \n#&*!|>1.,?%@\t\x00é")))
def test_any_text_is_read_or_refused(text):
    """Whatever a file holds, the only error is `YamlError`."""
    with contextlib.suppress(yamlfile.YamlError):
        assert yamlfile.load(text, "f")[1].at() >= 1


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="ascii")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc", min_size=1), inner),
    max_leaves=20,
)


@given(VALUES)
def test_what_pyyaml_writes_is_read_back(value):
    """Nothing is changed on the way, dates and the word `=` aside."""
    assert yamlfile.load(yaml.safe_dump(value), "f")[0] == value
