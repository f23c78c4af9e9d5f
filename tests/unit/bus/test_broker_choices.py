"""Choosing events by the beginnings of their tags."""

from hypothesis import given
from hypothesis import strategies as st

from bus import frames
from bus.broker.choices import Choices

_TAGS = st.text("ab/", min_size=1, max_size=6)
_RUN = 3 << frames.RUN_BITS


@given(st.lists(_TAGS, max_size=8, unique=True), st.lists(_TAGS, max_size=20))
def test_each_prefix_gets_what_begins_with_it(prefixes, tags):
    """In order, with their numbers, and counted; nothing for what nobody wants."""
    choices = Choices(3)
    for prefix in prefixes:
        choices.add(prefix.encode())
    events = [f"{tag}\n\n\x80".encode("latin-1") for tag in tags]
    found = {chosen.prefix.decode(): chosen for chosen in choices.split(events, 5)}
    for prefix in prefixes:
        expected = [n for n, tag in enumerate(tags, 5) if tag.startswith(prefix)]
        if expected:
            chosen = found.pop(prefix)
            assert chosen.numbers == expected
            assert chosen.events == [events[number - 5] for number in expected]
            assert chosen.sent == _RUN + len(expected) == choices.sent(prefix.encode())
        else:
            assert choices.sent(prefix.encode()) == _RUN
    assert not found


def test_a_prefix_that_nobody_wants_any_more_is_forgotten():
    """Its count begins again."""
    choices = Choices(3)
    choices.add(b"a")
    assert [chosen.sent for chosen in choices.split([b"ab", b"b"], 1)] == [_RUN + 1]
    choices.remove(b"a")
    assert list(choices.split([b"ab"], 3)) == []
    assert choices.sent(b"a") == _RUN
