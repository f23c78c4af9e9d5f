"""Tag patterns of every match type as globs for the index."""

from __future__ import annotations

import fnmatch
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bus.errors import TagError
from bus.tags import matcher
from reactor.rules.patterns import globs_of

TAGS = st.text(alphabet="ab/*?[]!x", max_size=8)
REGEXES = st.text(alphabet="ab/*?[]()|^$.+x{}1", max_size=8)


@given(TAGS, TAGS, st.sampled_from(["startswith", "endswith", "find", "fnmatch"]))
def test_texts_match_as_globs_what_they_match_as_texts(pattern, tag, match):
    """To the letter, with the glob's own letters in them."""
    [glob] = globs_of([pattern], match)
    assert fnmatch.fnmatchcase(tag, glob) is matcher(pattern, match)(tag)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # such as "possible nested set"
@given(REGEXES, TAGS)
def test_no_tag_that_a_regex_matches_is_missed(pattern, tag):
    """The glob may let more through: the expression itself is asked afterwards."""
    try:
        matches = matcher(pattern, "regex")
    except TagError:
        return
    if matches(tag):
        assert fnmatch.fnmatchcase(tag, globs_of([pattern], "regex")[0])


ATOMS = st.sampled_from(
    [
        "a",
        "b/",
        "x1",
        ".",
        "[ab]",
        "[^/]",
        "[(]",
        "[)|]",
        "\\(",
        "\\)",
        "\\|",
        "\\d",
        "^",
        "\\A",
        "$",
    ]
)
EXPRESSIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["?", "*", "+", "{0,2}", "{2}", "*?"])).map(
            "(?:{0[0]}){0[1]}".format
        ),
        st.tuples(ATOMS, st.sampled_from(["?", "*", "+", "{0,1}"])).map("".join),
        st.lists(inner, min_size=2, max_size=3).map("|".join),
        st.lists(inner, min_size=2, max_size=3).map("".join),
        inner.map("({})".format),
    ),
    max_leaves=6,
)


@given(EXPRESSIONS, st.data())
@example("x\\(a|b\\)", None)
@example("x[(]a|b[)]", None)
def test_the_glob_of_a_regex_misses_no_tag_that_it_matches(pattern, data):
    """Whatever stands in it: what the index does not find is never asked."""
    try:
        compiled = re.compile(pattern)
    except re.error:
        return
    tag = "b)" if data is None else data.draw(st.from_regex(compiled))
    if compiled.match(tag):
        [glob] = globs_of([pattern], "regex")
        assert fnmatch.fnmatchcase(tag, glob)
