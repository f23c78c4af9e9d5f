"""The values that rules make."""

import pytest

from reactor.rules.model import Call, Source


def test_a_source_reads_as_path_and_line():
    """The text can be clicked in a terminal."""
    assert str(Source("a.yaml", 3)) == "a.yaml:3"
    assert str(Source("a.yaml")) == "a.yaml"


def test_a_call_is_checked_when_made():
    """No call of an unknown kind, or of nothing, exists."""
    with pytest.raises(ValueError, match="unknown kind of call 'locl'"):
        Call("locl", "test.ping")
    with pytest.raises(ValueError, match="without a name"):
        Call("runner", "")
