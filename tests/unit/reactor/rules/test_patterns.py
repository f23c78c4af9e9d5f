"""Tag patterns of every match type as globs for the index."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
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
