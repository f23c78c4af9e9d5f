"""The outbox of the engine."""

from __future__ import annotations

import pytest

from bus import wire
from bus.errors import DataError, JournalError, TagError
from bus.publisher import BATCH_EVENTS, WINDOW
from reactor.engine.outbox import RETRY_AFTER, Outbox


class FakePublisher:
    """Keeps what is sent until the test answers."""

    def __init__(self):
        self.sent = []

    @property
    def pending(self):
        return sum(1 for _, _, answered in self.sent if not answered[0])

    def send(self, events, *, on_done):
        self.sent.append((list(events), on_done, [False]))

    def answer(self, number, seq, error=None):
        _, on_done, answered = self.sent[number]
        answered[0] = True
        on_done(seq, error)


def test_events_of_a_turn_go_together_and_each_learns_its_number():
    """One fire carries them all, and the numbers follow from the first."""
    publisher, heard = FakePublisher(), []
    box = Outbox(publisher, 10_000)
    for number in range(3):
        box.fire(f"t/{number}", {"n": number}, lambda seq, error: heard.append((seq, error)))
    assert publisher.sent == []
    box.flush()
    assert [wire.tag_of(event) for event in publisher.sent[0][0]] == ["t/0", "t/1", "t/2"]
    publisher.answer(0, 41)
    assert heard == [(41, None), (42, None), (43, None)]
    assert len(box) == 0


def test_a_long_turn_is_cut_into_batches_within_the_window():
    """What the window does not take waits for the next flush."""
    publisher = FakePublisher()
    box = Outbox(publisher, 10_000)
    for _ in range(BATCH_EVENTS * (WINDOW + 2)):
        box.fire("t", {})
    box.flush()
    assert len(publisher.sent) == WINDOW
    publisher.answer(0, 1)
    box.flush()
    assert len(publisher.sent) == WINDOW + 1


def test_a_refused_batch_is_sent_again_one_by_one():
    """Only the event that the bus refuses fails; its neighbours are fired."""
    publisher, heard = FakePublisher(), {}
    box = Outbox(publisher, 10_000)
    for name in ("a", "b"):
        box.fire(name, {}, lambda seq, error, name=name: heard.__setitem__(name, (seq, error)))
    box.flush()
    error = DataError("bad")
    publisher.answer(0, None, error)
    publisher.answer(1, 7)
    publisher.answer(2, None, error)
    assert heard == {"a": (7, None), "b": (None, error)}


def test_what_a_full_disk_refused_is_sent_again_in_its_order():
    """Nothing is wrong with the events: they wait a little, and nobody hears of an error."""
    publisher, heard, now = FakePublisher(), [], [0.0]
    box = Outbox(publisher, 10_000, clock=lambda: now[0])
    for name in ("a", "b"):
        box.fire(name, {}, lambda seq, error: heard.append((seq, error)))
    box.flush()
    publisher.answer(0, None, JournalError("disk full"))
    box.fire("c", {}, lambda seq, error: heard.append((seq, error)))
    box.flush()
    assert (len(publisher.sent), len(box), heard) == (1, 3, [])
    now[0] = RETRY_AFTER
    box.flush()
    assert [wire.tag_of(event) for event in publisher.sent[1][0]] == ["a", "b", "c"]
    publisher.answer(1, 7)
    assert heard == [(7, None), (8, None), (9, None)]


def test_what_cannot_go_onto_a_bus_is_refused_at_once():
    """An empty tag and an unpackable value raise where they are fired."""
    box = Outbox(FakePublisher(), 10_000)
    with pytest.raises(TagError):
        box.fire("", {})
    with pytest.raises(DataError):
        box.fire("t", {"x": object()})
