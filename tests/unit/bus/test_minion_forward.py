"""What a fire_master event asks for."""

import pytest

from bus import wire
from bus.errors import BusError, DataError, TagError, WireError
from bus.minion.forward import MAX_EVENTS, TAG, outgoing


def fired(request):
    """Return the event that a function fires."""
    return wire.pack_event(TAG, request)


def test_one_event():
    """Tag and data go up as they are."""
    request = {"tag": "a/b", "data": {"x": 1}, "events": None, "pretag": None}
    assert outgoing(fired(request)) == [("a/b", {"x": 1})]
    assert outgoing(fired({"tag": "a", "data": None})) == [("a", {})]


def test_several_events():
    """A list of events goes up in order."""
    events = [{"tag": "a", "data": {"n": 1}}, {"tag": "b", "data": {"n": 2}}]
    assert outgoing(fired({"events": events})) == [("a", {"n": 1}), ("b", {"n": 2})]
    assert outgoing(fired({"events": []})) == []


def test_pretag():
    """A pretag makes one more of each event."""
    request = {"tag": "a", "data": {}, "pretag": "salt/x"}
    assert outgoing(fired(request)) == [("a", {}), ("salt/x/a", {})]


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({}, TagError),
        ({"tag": "a\nb"}, TagError),
        ({"tag": "a", "data": [1]}, DataError),
        ({"events": ["a"]}, DataError),
        ({"events": [{"tag": "x"}] * (MAX_EVENTS + 1)}, DataError),
    ],
)
def test_refused(request_, error):
    """What is no event is refused with the reason."""
    with pytest.raises(error):
        outgoing(fired(request_))
    assert issubclass(error, BusError)


def test_no_event_at_all():
    """Bytes from anywhere end nothing."""
    with pytest.raises(WireError):
        outgoing(b"fire_master\n\n\xc1")
