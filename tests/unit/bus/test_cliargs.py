"""Command-line arguments as Salt reads them."""

import json
import subprocess
import sys

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from bus import cliargs
from bus.errors import ArgumentsError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-5", -5),
        ("0", 0),
        ("1.5", 1.5),
        ("010", 8),
        ("True", True),
        ("no", False),
        ("None", None),
        ("null", None),
        ("~", None),
        ("word", "word"),
        ("a/b.c", "a/b.c"),
        ("'5'", "5"),
        ('"x y"', "x y"),
        ("[1, b]", [1, "b"]),
        ("{a: 1}", {"a": 1}),
        ("{1: a}", {1: "a"}),
        ('{success: True, message: "It works!"}', {"success": True, "message": "It works!"}),
        ('{"data": "message"}', {"data": "message"}),
        ('{"a":[1,2.5,null,true]}', {"a": [1, 2.5, None, True]}),
        ('{"a": "\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        ("5 # five", 5),
        ('{"a": "b # c"}', {"a": "b # c"}),
        ("[2024-01-01]", ["2024-01-01"]),
    ],
)
def test_values_are_yaml(text, value):
    """What YAML (or JSON) means is taken."""
    found = cliargs.parse_value(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "---",
        "...",
        "|",
        "!",
        "10_0_0_7",
        "1_000",
        "a\tb",
        "[1,\n2]",
        "x\r",
        "a # b",
        "# b",
        "null # b",
        "2024-01-01",
        "2024-01-01 10:00:00",
        "a: 1",
        " {a: 1}",
        "- a",
        "[1, 2",
        "{a: 1, a: 2}",
        '{"a": 1, "a": 2}',
        "1e3",
        ".nan",
        "[.inf]",
        "!!binary aGk=",
        "{!!binary aGk= : 1}",
        "[" * 101 + "]" * 101,
        "[" * 50_000,
        '{"a": "\\ud800"}',
        "&a [*a]",
        "9" * 5000,
        "y",
    ],
)
def test_what_is_no_value_stays_text(text):
    """Salt's guards: the argument is left as it was written."""
    assert cliargs.parse_value(text) == text


@pytest.mark.parametrize(("text", "value"), [("[1e3]", ["1e3"]), ('{"a": NaN}', {"a": "NaN"})])
def test_json_that_yaml_reads_otherwise_is_read_as_yaml(text, value):
    """The shortcut through JSON changes no result."""
    assert cliargs.parse_value(text) == value


def test_keywords_and_positions():
    """A key, one equals sign and a value make a keyword argument; all else is positional."""
    args = ["web1", "pretty=True", "a.b-c=x=y", "1a=2", "a==b", "=x", "empty=", "ünï=1", "t=a\nb"]
    assert cliargs.parse(args) == (
        ["web1", "1a=2", "a==b", "=x"],
        {"pretty": True, "a.b-c": "x=y", "empty": "", "ünï": 1, "t": "a\nb"},
    )


@pytest.mark.parametrize(
    ("args", "count", "groups"),
    [
        ([], 2, [[]]),
        (["a"], 2, [["a"]]),
        (["a", ",", "b", "c"], 2, [["a"], ["b", "c"]]),
        (["a,b", ",", "c"], 2, [["a,b"], ["c"]]),
        ([",", "a"], 2, [[], ["a"]]),
        ([",", ",", "a"], 3, [[], [], ["a"]]),
        (["a,b"], 2, [["a"], ["b"]]),
        (["a,", "b"], 2, [["a"], ["b"]]),
        (["a", ",b"], 2, [["a"], ["b"]]),
        (["a,,b"], 3, [["a"], [], ["b"]]),
        (["", ",", ""], 2, [[""], [""]]),
    ],
)
def test_arguments_of_several_functions(args, count, groups):
    """Signs that stand alone divide them, or else every sign does."""
    assert cliargs.split(args, count) == groups


def test_too_many_groups_of_arguments():
    """What to do about a sign that belongs to an argument."""
    with pytest.raises(ArgumentsError, match=r"arguments for 3 functions, and 2 of them: .*alone"):
        cliargs.split(["a,b", "c,d"], 2)
    assert cliargs.split(["a,b", "--", "c,d"], 2, "--") == [["a,b"], ["c,d"]]


def test_the_mark_is_no_keyword():
    """Nobody can forge the mark as the name of an argument."""
    assert cliargs.parse(["__kwarg__=True"]) == (["__kwarg__=True"], {})
    with pytest.raises(ArgumentsError, match="__kwarg__"):
        cliargs.condense([], {"__kwarg__": True})


def test_condensed_is_salts_wire_form():
    """Keywords stand in a marked dict at the end, and only if there are some."""
    assert cliargs.condense([1, "a"], {}) == [1, "a"]
    assert cliargs.condense([1], {"b": 2}) == [1, {"__kwarg__": True, "b": 2}]
    assert cliargs.expand([{"x": 1}, {"__kwarg__": True, "b": 2}]) == ([{"x": 1}], {"b": 2})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.lists(JSON), st.dictionaries(st.text(), JSON))
def test_expand_undoes_condense(args, kwargs):
    """What goes over the wire comes out the same."""
    assume("__kwarg__" not in kwargs)
    assume(not any(isinstance(arg, dict) and "__kwarg__" in arg for arg in args))
    assert cliargs.expand(cliargs.condense(args, kwargs)) == (args, kwargs)


@given(st.lists(st.text(alphabet=st.characters()) | st.text("ab[]{}:,\"'=#&*!1.e-_ \n\t\\u")))
@example(["{? {a: 1} : 2}", "{[1]: 2}", "!!set {a}", "!!omap [a: 1]", "!!pairs [a: 1]"])
@example(["[&a x, *a]", "[!!python/name:os.system x]", "\ud800", "!!timestamp 2024-01-01"])
def test_parse_never_raises_and_gives_json(args):
    """Any words at all can stand on a command line."""
    positional, keyword = cliargs.parse(args)
    assert len(positional) + len(keyword) <= len(args)
    json.dumps([positional, keyword], allow_nan=False)


@given(JSON)
def test_json_text_is_read_as_json(value):
    """JSON objects that a program hands over arrive as they were."""
    text = json.dumps({"value": value}, ensure_ascii=True)
    assert cliargs.parse_value(text) == {"value": value}


def test_simple_arguments_load_no_yaml():
    """`reactor fire tag '{"json": 1}' key=5` must not pay for YAML."""
    code = (
        "import sys; from bus import cliargs; "
        """cliargs.parse(['web1', 'a/b', '5', 'k=None', 'n=7', '{"a": [1]}']); """
        "sys.exit('yaml' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_numbers_of_more_than_64_bits_are_text():
    """A job id is such a one, and nothing could carry it."""
    jid = "20261122083014438167"
    args, kwargs = cliargs.parse([jid, f"jid={jid}", f"{{a: [{jid}], {jid}: 1}}", f"-{jid}"])
    assert args == [jid, {"a": [jid], jid: 1}, f"-{jid}"]
    assert kwargs == {"jid": jid}
    assert cliargs.parse_value("18446744073709551615") == (1 << 64) - 1
    assert cliargs.parse_value("-9223372036854775808") == -(1 << 63)
