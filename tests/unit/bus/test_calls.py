"""What a job runs: one function or several."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.calls import MAX_NAME, MOST, Call, calls_of, condensed, names_of, spoken
from bus.errors import ArgumentsError


def test_one_function():
    """Its arguments are the list itself."""
    assert calls_of("test.echo", [[1], 2]) == (Call("test.echo", ([1], 2)),)
    assert (spoken("test.echo"), names_of("test.echo")) == ("test.echo", ["test.echo"])


def test_several_functions():
    """Each has a list of its own; whose list is missing has no arguments."""
    fun = ["test.ping", "cmd.run", "test.echo"]
    assert calls_of(fun, [[], ["uptime"]]) == (
        Call("test.ping"),
        Call("cmd.run", ("uptime",)),
        Call("test.echo"),
    )
    assert calls_of(["test.ping"], []) == (Call("test.ping"),)
    assert (spoken(fun), names_of(fun)) == ("test.ping, cmd.run, test.echo", fun)


@pytest.mark.parametrize(
    ("fun", "arg", "text"),
    [
        ("", [], "'' names no function"),
        (None, [], "None is no function, nor a list of functions"),
        ([], [], "a job runs 1 to 100 functions, not 0"),
        (["a.b"] * (MOST + 1), [], "a job runs 1 to 100 functions, not 101"),
        (["a.b", 7], [], "'7' names no function"),
        (["a.b", "x" * (MAX_NAME + 1)], [], "names no function"),
        ("a.b", "text", "the arguments 'text' are no list"),
        (["a.b"], ["text"], "the arguments 'text' are no list"),
        (["a.b"], [[], []], "arguments for 2 functions, and 1 of them"),
        (["a.b", "c.d", "a.b"], [], "a.b is named twice"),
    ],
)
def test_no_calls(fun, arg, text):
    """What a job cannot run is refused in one line."""
    with pytest.raises(ArgumentsError) as caught:
        calls_of(fun, arg)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_keywords_of_several():
    """Nobody can know whose they are, so each function has its own."""
    assert condensed("a.b", (1,), {"c": 2}) == [1, {"__kwarg__": True, "c": 2}]
    assert condensed(["a.b", "c.d"], ([1], []), None) == [[1], []]
    with pytest.raises(ArgumentsError, match="whose are these keyword arguments"):
        condensed(["a.b", "c.d"], (), {"c": 2})


def test_text_instead_of_arguments():
    """Each of its characters would be an argument."""
    with pytest.raises(ArgumentsError, match=r"a list, not text: give \['uptime'\]"):
        condensed("cmd.run", "uptime", None)


_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=10,
)


@given(_anything, _anything)
def test_anything_is_calls_or_refused(fun, arg):
    """Whatever comes from outside: a row of named calls, or the one error."""
    try:
        calls = calls_of(fun, arg)
    except ArgumentsError:
        return
    assert [call.fun for call in calls] == names_of(fun)
    assert all(call.fun for call in calls)
