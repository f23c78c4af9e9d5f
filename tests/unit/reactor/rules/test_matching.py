"""The index of globs agrees with fnmatch, whatever the globs."""

import fnmatch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reactor.rules.matching import Index

_PIECES = ["a", "b", "ab", "salt", "/", "//", "*", "**", "?", "[", "]", "!", "-", "[ab]", "[!a]"]
_PIECES += ["[]]", "[!]", "[a-", ".", "\\", "\n", "job", "ret", "web1", "web2", "", "abcd", "bcde"]
_globs = st.lists(st.sampled_from(_PIECES), max_size=7).map("".join)
_plain = [piece for piece in _PIECES if "*" not in piece]
_tags = st.lists(st.sampled_from(_plain), max_size=7).map("".join)


def _expected(globs, tag):
    return tuple(n for n, glob in enumerate(globs) if fnmatch.fnmatchcase(tag, glob))


@settings(max_examples=400, deadline=None)
@given(st.lists(_globs, max_size=40), st.lists(_tags, min_size=1, max_size=10))
@example(["[", "[!]", "a[", "*[", "[]", "[a"], ["[", "[!]", "a[", "[]", "[a", ""])
def test_the_index_agrees_with_fnmatch(globs, tags):
    """Any set of globs gives what fnmatchcase gives, one by one, in order."""
    index = Index(((glob,), number) for number, glob in enumerate(globs))
    for tag in tags:
        assert index.match(tag) == _expected(globs, tag)


@settings(max_examples=100, deadline=None)
@given(st.lists(_globs, min_size=1, max_size=30))
def test_a_literal_reading_of_each_glob_agrees(globs):
    """Tags that look like the globs themselves are the likeliest to be filed wrongly."""
    index = Index(((glob,), number) for number, glob in enumerate(globs))
    for glob in globs:
        for tag in (glob, glob.replace("*", ""), glob.replace("*", "/x/"), glob.replace("?", "b")):
            assert index.match(tag) == _expected(globs, tag)


@pytest.mark.parametrize(
    "shape",
    [
        "myco/app{}/*",
        "myco/host{}*",
        "salt/job/*/ret/web{}",
        "*-db{}",
        "*host{}*",
        "*/x{}/*/y",
        "a{}?b*",
        "[ab]/{}/[!c]*",
        "*",
    ],
)
def test_many_globs_of_one_shape(shape):
    """Each kind of table in the tree finds the same as trying every glob."""
    globs = [shape.format(number) for number in range(60)] + ["*", "?*", "[a-z]*"]
    index = Index(((glob,), number) for number, glob in enumerate(globs))
    for number in (0, 7, 33, 59):
        tag = shape.format(number).replace("*", "z").replace("?", "q").replace("[ab]", "a")
        tag = tag.replace("[!c]", "d")
        assert index.match(tag) == _expected(globs, tag)
    assert index.match("") == _expected(globs, "")


def test_beginnings_of_many_lengths():
    """More lengths than are looked up are cut to few, and nothing is missed."""
    globs = ["x" * length + "*" for length in range(1, 40)]
    index = Index(((glob,), number) for number, glob in enumerate(globs))
    for tag in ("x" * 20, "x", "xxxy", "y", "x" * 60):
        assert index.match(tag) == _expected(globs, tag)


def test_an_item_comes_once():
    """Two globs of one item that both match give it once, at its own place."""
    index = Index([(("a*", "*b", "ab"), "one"), (("ab", "ab"), "two")])
    assert index.match("ab") == ("one", "two")
    assert index.match("zb") == ("one",)


def test_an_empty_index_matches_nothing():
    """No rules, no matches."""
    assert Index([]).match("a/b") == ()
