"""A bookmark: how far a listener is, and when the master is told."""

import pytest

from bus.bookmark import SAVE_EVERY, Bookmark
from bus.errors import NotRunningError


class _Bus:
    """Answers as a bus does, or not at all."""

    def __init__(self, place=None):
        self.place = place
        self.sets = []
        self.running = True

    def call(self, method, params=None):
        if not self.running:
            raise NotRunningError("gone")
        if method == "cursors.set":
            self.sets.append(params["seq"])
        return self.place

    def close(self):
        self.running = False


def test_it_finds_its_place():
    """None if it is new, the start if the journal is another."""
    assert Bookmark(_Bus(), "c").find("b") is None
    assert Bookmark(_Bus({"bus_id": "b", "seq": 7}), "c").find("b") == 7


def test_another_journal_begins_anew(caplog):
    """And that is said, and kept with the first event."""
    bus = _Bus({"bus_id": "old", "seq": 7})
    bookmark = Bookmark(bus, "c")
    assert bookmark.find("new") == 0
    assert "another journal" in caplog.text
    bookmark.done("new", 1)
    assert bus.sets == [1]


def test_it_is_saved_now_and_then():
    """A busy listener does not ask the bus for each event; the same place is not saved twice."""
    bus = _Bus({"bus_id": "b", "seq": 0})
    bookmark = Bookmark(bus, "c")
    bookmark.find("b")
    for seq in range(1, SAVE_EVERY * 2 + 10):
        bookmark.done("b", seq)
    assert bus.sets == [SAVE_EVERY, SAVE_EVERY * 2]
    bookmark.save()
    bookmark.save()
    assert bus.sets[2:] == [SAVE_EVERY * 2 + 9]


def test_a_bus_that_is_away_is_told_later(caplog):
    """The listener goes on; only who insists gets the error."""
    bus = _Bus({"bus_id": "b", "seq": 0})
    bookmark = Bookmark(bus, "c")
    bookmark.find("b")
    bus.running = False
    bookmark.done("b", 2000)
    assert "could not be saved: gone" in caplog.text
    with pytest.raises(NotRunningError):
        bookmark.save()
    bus.running = True
    bookmark.done("b", 2001)
    assert bus.sets == [2001]
    bookmark.close()
    assert not bus.running
