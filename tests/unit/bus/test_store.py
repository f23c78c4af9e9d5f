"""Numbers: each fire of a producer is kept once, whatever is sent again or lost on the way."""

from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from bus import store
from bus.frames import Fire
from bus.store import Kept, MemoryStore, Producers


def _fire(number, base=None, producer=b"p", events=1):
    return Fire(producer, number, base or number, [b"t\n\n\x80"] * events)


def test_events_are_numbered_without_gaps():
    """Each fire begins where the one before ended."""
    kept = MemoryStore()
    answers = kept.append([_fire(1, events=3), _fire(1, producer=b"q"), _fire(2, events=2)])
    assert [answer.first_seq for answer in answers] == [1, 4, 5]
    assert all(answer.fresh for answer in answers)
    assert kept.last_seq == 6
    kept.close()


def test_a_repeat_is_answered_and_not_kept():
    """The same number again gets the same answer; an older one is known, its place is not."""
    kept = MemoryStore()
    kept.append([_fire(1), _fire(2, events=2)])
    assert kept.append([_fire(2, events=2)]) == [Kept(2, fresh=False)]
    assert kept.append([_fire(1)]) == [Kept(0, fresh=False)]
    assert kept.last_seq == 3


def test_a_gap_is_refused_with_what_is_missing():
    """What overtook a lost fire has to be sent again after it."""
    kept = MemoryStore()
    kept.append([_fire(1)])
    assert kept.append([_fire(3, base=2)]) == [Kept(0, fresh=False, missing=1)]
    assert kept.append([_fire(7, base=5)]) == [Kept(0, fresh=False, missing=4)]
    assert kept.append([_fire(5, base=5)])[0].fresh


def test_a_producer_may_skip_what_it_gave_up():
    """The base says that nothing older will come."""
    kept = MemoryStore()
    kept.append([_fire(1)])
    assert kept.append([_fire(9, base=9)])[0].fresh


def test_bare_events_are_always_new():
    """Nobody counts them."""
    kept = MemoryStore()
    bare = Fire(b"", 0, 0, [b"t\n\n\x80"])
    assert [answer.first_seq for answer in kept.append([bare, bare])] == [1, 2]


def test_the_longest_silent_producers_are_forgotten(monkeypatch):
    """The table is bounded; who fired last stays."""
    monkeypatch.setattr(store, "MAX_PRODUCERS", 2)
    producers = Producers()
    for name in (b"a", b"b", b"a", b"c"):
        producers.note(_fire(1, producer=name), 1)
    assert producers.forget_silent() == [b"b"]
    assert producers.judge(_fire(1, producer=b"a")) == Kept(1, fresh=False)
    assert producers.judge(_fire(1, producer=b"b")) is None


class _World:
    """A producer and a store with a channel between them that a schedule damages."""

    def __init__(self):
        self.store = MemoryStore()
        self.kept = []
        self.unanswered = deque()
        self.channel = deque()
        self.next = 1

    def fire(self):
        self.unanswered.append(self.next)
        self.next += 1
        self._send(self.unanswered[-1])

    def _send(self, number):
        self.channel.append(_fire(number, base=self.unanswered[0]))

    def resend(self, after=0):
        for number in [number for number in self.unanswered if number > after]:
            self._send(number)

    def drop(self, place):
        if self.channel:
            del self.channel[place % len(self.channel)]

    def crash(self):
        """The broker dies with what it had not read; its table survives, as the journal's does."""
        self.channel.clear()

    def deliver(self, answered):
        if not self.channel:
            return
        fire = self.channel.popleft()
        (kept,) = self.store.append([fire])
        if kept.fresh:
            self.kept.append(fire.number)
        if not answered:
            return
        if kept.missing is not None:
            self.resend(kept.missing)
        elif fire.number in self.unanswered:
            self.unanswered.remove(fire.number)


_STEPS = st.lists(
    st.tuples(st.just("fire"))
    | st.tuples(st.just("resend"))
    | st.tuples(st.just("crash"))
    | st.tuples(st.just("drop"), st.integers(0, 20))
    | st.tuples(st.just("deliver"), st.booleans()),
    max_size=60,
)


@settings(max_examples=300)
@given(_STEPS)
def test_any_damage_still_gives_each_fire_once_and_in_order(steps):
    """Drops, lost answers, repeats and restarts: exactly once, in order, none missing."""
    world = _World()
    for name, *arguments in steps:
        getattr(world, name)(*arguments)
        assert world.kept == list(range(1, len(world.kept) + 1))
        if len(world.channel) > 200:
            world.channel.clear()
    while world.unanswered:
        world.resend()
        while world.channel:
            world.deliver(answered=True)
            if len(world.channel) > 500:
                world.channel.clear()
    assert world.kept == list(range(1, world.next))
