"""A feed: events in order from any point on, each gap filled from the journal."""

from collections import deque

import pytest

from bus import endpoints, wire
from bus.errors import JournalError, NotRunningError
from bus.feed import LOOK_AFTER, PAGE, JournalFeed, LiveFeed
from bus.frames import Fire
from bus.journal import Journal, JournalReader, journal_path
from bus.listener import Heard, open_listener
from bus.publisher import Publisher
from tests.support import wait_for


class _Bus:
    """A journal, and a listener that hears what the test says it hears."""

    def __init__(self, folder):
        self.path = journal_path(folder)
        self.journal = Journal(self.path)
        self.queue = deque()
        self.socket = None
        self.closed = False
        self.bus_id = self.journal.bus_id

    def fire(self, count, *, heard=True):
        for _ in range(count):
            seq = self.journal.last_seq + 1
            raw = wire.pack_event(f"t/{seq}", {})
            self.journal.append([Fire(b"", 0, 0, [raw])])
            if heard:
                self.queue.append(Heard((raw,), (seq,), seq, self.bus_id))

    def mark(self, seq=None):
        self.queue.append(Heard((), (), seq or self.journal.last_seq, self.bus_id))

    def renew(self, folder):
        self.journal.close()
        self.path.rename(folder / "old.db")
        self.journal = Journal(self.path)
        self.bus_id = self.journal.bus_id

    # what a listener does
    has_read = False

    def wait_ready(self, _timeout):
        return self.journal.last_seq

    def read(self):
        return self.queue.popleft() if self.queue else None

    def close(self):
        self.closed = True


@pytest.fixture
def fake(tmp_path):
    """A bus without a process."""
    made = _Bus(tmp_path)
    yield made
    made.journal.close()


@pytest.fixture
def feed(fake):
    """A feed of everything from its start on."""
    made = JournalFeed(fake, JournalReader(fake.path))
    yield made
    made.close()


def _take_all(feed):
    taken = []
    while batch := feed.take():
        taken += [seq for seq, _ in batch]
    return taken


def test_live_events_come_in_order(fake, feed):
    """What is heard without a gap is given out as it is."""
    fake.fire(5)
    assert feed.upto == 0
    assert [seq for seq, _ in feed.take(3)] == [1, 2, 3]
    assert feed.behind
    assert (feed.after, feed.upto) == (3, 5)
    assert _take_all(feed) == [4, 5]
    assert not feed.behind
    assert feed.lost == 0


def test_it_begins_anywhere(fake, feed):
    """Older events come from the journal, then the live ones."""
    fake.fire(2500, heard=False)
    fake.fire(10)
    feed.start_after(1000)
    assert _take_all(feed) == list(range(1001, 2511))


def test_a_gap_is_filled(fake, feed):
    """What the listener lost comes from the journal, in its place."""
    fake.fire(3)
    fake.fire(PAGE * 2 + 5, heard=False)
    fake.fire(3)
    assert _take_all(feed) == list(range(1, PAGE * 2 + 12))
    assert feed.lost == 0


def test_a_mark_shows_what_was_not_heard(fake, feed):
    """After a broken connection the bus says where it stands."""
    fake.fire(4, heard=False)
    fake.mark()
    assert _take_all(feed) == [1, 2, 3, 4]


def test_what_was_lost_last_is_found_too(fake, feed):
    """When nothing comes after the gap, the journal's end shows it."""
    fake.fire(3)
    fake.fire(4, heard=False)
    found = []
    wait_for(lambda: found.extend(_take_all(feed)) or len(found) == 7, seconds=LOOK_AFTER * 50)
    assert found == [1, 2, 3, 4, 5, 6, 7]
    fake.fire(1)
    assert _take_all(feed) == [8]


def test_what_is_heard_twice_is_given_out_once(fake, feed):
    """An event from the journal may still wait in the socket."""
    fake.fire(5)
    again = list(fake.queue)
    assert _take_all(feed) == [1, 2, 3, 4, 5]
    fake.queue.extend(again)
    assert _take_all(feed) == []


def test_what_the_journal_no_longer_has_is_counted(fake, feed):
    """Neither waited for nor passed over in silence."""
    fake.fire(10, heard=False)
    fake.journal._db.execute("DELETE FROM fires WHERE first_seq <= 4")
    fake.mark()
    assert _take_all(feed) == [5, 6, 7, 8, 9, 10]
    assert feed.lost == 4
    fake.journal._db.execute("DELETE FROM fires")
    fake.mark(15)
    assert _take_all(feed) == []
    assert (feed.lost, feed.after) == (9, 15)


def test_a_new_journal_is_read_from_its_start(fake, feed, tmp_path, caplog):
    """A bus that counts anew is followed, and said aloud."""
    fake.fire(5)
    assert len(feed.take(2)) == 2
    fake.renew(tmp_path)
    fake.fire(3, heard=False)
    fake.mark()
    fake.fire(1)
    assert _take_all(feed) == [3, 4, 5, 1, 2, 3, 4]
    assert feed.after == 4
    assert "another journal" in caplog.text


def test_without_a_journal_it_gives_out_what_comes(fake):
    """On a minion's bus, or with a filter, gaps mean nothing."""
    live = LiveFeed(fake)
    fake.fire(1)
    fake.fire(3, heard=False)
    fake.fire(1)
    fake.mark()
    assert _take_all(live) == [1, 5]
    assert (live.after, live.lost, live.behind) == (5, 0, False)
    live.close()
    assert fake.closed


def test_a_journal_that_cannot_be_read_is_an_error(fake, feed):
    """And not an endless wait."""
    fake.fire(3, heard=False)
    fake.mark()
    feed._journal.close()
    with pytest.raises(JournalError):
        feed.take()


def test_no_bus_closes_the_listener(place):
    """Nothing stays open when there is nothing to hear."""
    listener = open_listener(f"ipc://{place}/no.ipc")
    with pytest.raises(NotRunningError):
        LiveFeed(listener, timeout=0.1)
    assert listener.closed


def test_a_reader_that_was_too_slow_gets_everything(bus_process):
    """Far more events than any queue holds, and then silence."""
    opts = bus_process.opts
    journal = JournalReader(journal_path(opts["state_dir"]))
    listener = open_listener(endpoints.master_fires(opts))
    feed = JournalFeed(listener, journal)
    publisher = Publisher(endpoints.master_pull(opts))
    count = 60_000
    assert (
        publisher.fire_all(
            wire.pack_event("t", {"_stamp": "", "x": "y" * 200}) for _ in range(count)
        )
        == count
    )
    taken = []
    wait_for(lambda: taken.extend(seq for seq, _ in feed.take()) or len(taken) >= count)
    assert taken == list(range(1, count + 1))
    assert feed.lost == 0
    assert feed.socket is listener.socket
    assert feed.bus_id == journal.bus_id
    publisher.close()
    feed.close()


@pytest.fixture
def told():
    """What `on_gap` was told."""
    return []


def test_a_live_feed_of_everything_knows_its_gaps(fake, told):
    """By their numbers, from the next event or from a mark."""
    live = LiveFeed(fake, hears_all=True, on_gap=lambda first, last: told.append((first, last)))
    fake.fire(1)
    fake.fire(3, heard=False)
    fake.fire(2)
    fake.fire(2, heard=False)
    fake.mark()
    fake.mark()
    fake.fire(1)
    assert _take_all(live) == [1, 5, 6, 9]
    assert told == list(live.gaps) == [(2, 4), (7, 8)]
    assert live.lost == 5


def test_a_live_feed_goes_on_with_a_bus_that_counts_anew(fake, told, tmp_path):
    """What that bus had published before is a gap too."""
    live = LiveFeed(fake, hears_all=True, on_gap=lambda first, last: told.append((first, last)))
    fake.fire(5)
    assert _take_all(live) == [1, 2, 3, 4, 5]
    fake.renew(tmp_path)
    fake.fire(3, heard=False)
    fake.mark()
    fake.fire(1)
    assert _take_all(live) == [4]
    assert told == [(1, 3)]


def test_what_retention_took_away_is_a_gap(fake, told):
    """At the beginning and at the end of what is there."""
    feed = JournalFeed(fake, JournalReader(fake.path), on_gap=lambda *gap: told.append(gap))
    fake.fire(10, heard=False)
    fake.journal._db.execute("DELETE FROM fires WHERE first_seq <= 4")
    fake.mark()
    assert _take_all(feed) == [5, 6, 7, 8, 9, 10]
    fake.journal._db.execute("DELETE FROM fires")
    fake.mark(15)
    assert _take_all(feed) == []
    assert told == list(feed.gaps) == [(1, 4), (11, 15)]
    feed.close()


def test_a_loss_at_the_end_is_looked_at(fake):
    """What a mark reports lost need not be waited for."""
    live = LiveFeed(fake, hears_all=True)
    fake.fire(3)
    fake.fire(2, heard=False)
    fake.mark()
    assert _take_all(live) == [1, 2, 3]
    assert (live.after, live.upto, live.lost) == (5, 5, 2)


def test_events_before_the_mark_of_a_new_bus_are_not_lost(fake, told, tmp_path):
    """They were given out, though nobody knew yet whose numbers they have."""
    live = LiveFeed(fake, hears_all=True, on_gap=lambda *gap: told.append(gap))
    fake.fire(5)
    assert _take_all(live) == [1, 2, 3, 4, 5]
    before = fake.bus_id
    fake.renew(tmp_path)
    after, fake.bus_id = fake.bus_id, before
    fake.fire(2)
    fake.bus_id = after
    fake.mark()
    fake.fire(1)
    assert _take_all(live) == [1, 2, 3]
    assert (live.lost, told) == (0, [])
