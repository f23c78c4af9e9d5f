"""Salt's reactor map, in the configuration or in a file."""

import pytest

from reactor.rules.maps import read_map
from reactor.rules.model import Source


def _read(value):
    return read_map(value, lambda path: Source("m", len(path) + 1))


def test_entries_and_their_places():
    """One path or several, each with the place that names it."""
    [one, two], errors = _read([{"a/*": "x.sls"}, {"b": ["y.sls", "z.sls"]}])
    assert errors == []
    assert (one.glob, [file.text for file in one.files]) == ("a/*", ["x.sls"])
    assert [str(file.source) for file in two.files] == ["m:4", "m:4"]


def test_nothing():
    """An empty option is no mistake."""
    assert _read(None) == ((), [])


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("x", "m:1: reactor: a list of"),
        ({"a": "b"}, "m:1: reactor: a list of"),
        ([5], "m:2: reactor[0]: an entry is a mapping"),
        ([{"a": "b"}, {}], "m:2: reactor[1]: an entry is a mapping"),
        ([{"a": 5}], "m:3: reactor[0]: a tag glob is text"),
        ([{5: "b"}], "m:3: reactor[0]: a tag glob is text"),
        ([{"a": [""]}], "m:3: reactor[0]: a tag glob is text"),
    ],
)
def test_what_is_no_map(value, error):
    """Each bad entry is told by its number; the others stay."""
    entries, [found] = _read(value)
    assert str(found).startswith(error)
    assert len(entries) == (len(value) - 1 if isinstance(value, list) else 0)
