"""Tags: joining, checking, and the five ways of matching."""

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.errors import TagError
from bus.tags import MATCH_TYPES, check_tag, is_literal, literal_prefix, matcher, tagify


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("start", "minion"), "salt/minion/start"),
        (
            (["20261122093000123456", "ret", "web1"], "job"),
            "salt/job/20261122093000123456/ret/web1",
        ),
        (("x", "", "myco"), "myco/x"),
        ((5, "job"), "salt/job/5"),
        ((b"x", "job"), "salt/job/x"),
        (([b"x", 5], "job"), "salt/job/x/5"),
        (("x", "y", ""), "y/x"),
        ((["a", "", "b"],), "salt/a/b"),
        (([1, 0], "n"), "salt/n/1/0"),
        ((), "salt"),
    ],
)
def test_tagify_joins_what_is_there(arguments, expected):
    """Base, prefix and suffix are joined with a slash, and empty parts left out."""
    assert tagify(*arguments) == expected


@pytest.mark.parametrize("tag", ["a", "salt/job/1/ret/web1", "ärger/日本", "a b", "x" * 4096])
def test_good_tags_pass(tag):
    """A tag is any text without control characters."""
    assert check_tag(tag) == tag


@pytest.mark.parametrize(
    ("tag", "words"),
    [
        ("", "empty"),
        (None, "NoneType"),
        (b"a", "bytes"),
        ("a\n\nb", r"'\\n' at position 1"),
        ("a\0", "control character"),
        ("\x7f", "control character"),
        ("a\x85b", "control character"),
        ("x" * 4097, "at most 4096"),
        ("\ud800", "Unicode"),
    ],
)
def test_bad_tags_are_refused_in_one_line(tag, words):
    """The error is a ValueError of one line that names what is wrong."""
    with pytest.raises(TagError, match=words) as caught:
        check_tag(tag)
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("match_type", "pattern", "hits", "misses"),
    [
        ("startswith", "salt/", ["salt/", "salt/job"], ["a/salt/", "sal"]),
        ("endswith", "/new", ["salt/job/1/new"], ["salt/new/1"]),
        ("find", "job", ["salt/job/1", "job"], ["salt/jo"]),
        ("regex", r"salt/\d+", ["salt/1", "salt/12/x"], ["a/salt/1", "salt/x"]),
        ("fnmatch", "salt/*/ret/*", ["salt/job/1/ret/a/b"], ["salt/job/new", "x/salt/1/ret/a"]),
        ("fnmatch", "a[12]?", ["a1x", "a2/"], ["a3x", "a1"]),
    ],
)
def test_match_types(match_type, pattern, hits, misses):
    """Each match type hits and misses as in Salt."""
    matches = matcher(pattern, match_type)
    assert all(map(matches, hits))
    assert not any(map(matches, misses))


def test_there_are_five_match_types_and_no_other():
    """An unknown match type is refused with the list of those that are there."""
    assert set(MATCH_TYPES) == {"startswith", "endswith", "find", "regex", "fnmatch"}
    with pytest.raises(TagError, match="endswith, find, fnmatch, regex, startswith"):
        matcher("a", "glob")


def test_a_broken_regular_expression_is_refused():
    """The error shows the pattern."""
    with pytest.raises(TagError, match=r"'\(' is no regular expression"):
        matcher("(", "regex")


_PARTS = st.text(alphabet="ab/*?[]!-.1", max_size=12)


@given(_PARTS, _PARTS)
def test_fnmatch_is_pythons(pattern, tag):
    """For every pattern the answer is that of fnmatch."""
    assert matcher(pattern, "fnmatch")(tag) == fnmatch.fnmatchcase(tag, pattern)


@given(_PARTS, _PARTS)
def test_a_literal_prefix_begins_every_match(pattern, tag):
    """What matches a glob begins with its literal prefix; a literal one matches itself only."""
    if fnmatch.fnmatchcase(tag, pattern):
        assert tag.startswith(literal_prefix(pattern))
        assert not is_literal(pattern) or tag == pattern
