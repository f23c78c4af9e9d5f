"""Firing: acknowledged, pipelined, sent again; never twice and never out of order."""

import random
import threading
import time

import pytest
import zmq

from bus import endpoints, frames, wire
from bus.errors import DataError, JournalError, NotRunningError, TooLargeError
from bus.journal import JournalReader, journal_path
from bus.publisher import BATCH_BYTES, BATCH_EVENTS, Publisher, _batches
from bus.sockets import close_bound
from bus.store import MemoryStore
from tests.support import wait_for


def _event(number):
    return wire.pack_event(f"t/{number}", {"n": number})


def _numbers(opts):
    with JournalReader(journal_path(opts["state_dir"])) as reader:
        return [wire.unpack_event(raw)[1]["n"] for _, raw in reader.scan()]


class _FakeBus:
    """A ROUTER that keeps fires in memory and loses what it is told to lose."""

    def __init__(self, address):
        self.store = MemoryStore()
        self.events = []
        self.received = 0
        self.lose = lambda _number: False
        self.socket = zmq.Context.instance().socket(zmq.ROUTER)
        self.address = address
        self.socket.bind(address)

    def turn(self, wait=0):
        while self.socket.poll(wait):
            client, *rest = self.socket.recv_multipart()
            self.received += 1
            fire = frames.parse_request(rest)
            if not self.lose(fire.number):
                self._keep(client, fire)

    def _keep(self, client, fire):
        (kept,) = self.store.append([fire])
        if kept.missing is not None:
            answer = frames.again(fire.producer, kept.missing)
        else:
            self.events += fire.events if kept.fresh else []
            answer = frames.acknowledged(fire.producer, fire.number, kept.first_seq, 1)
        self.socket.send_multipart([client, *answer])

    def say(self, client, *parts):
        self.socket.send_multipart([client, *parts])

    def close(self):
        close_bound(self.socket, self.address)


@pytest.fixture
def fake(place):
    """A fake bus."""
    made = _FakeBus(f"ipc://{place}/pull.ipc")
    yield made
    made.close()


@pytest.fixture
def publisher(fake):
    """A publisher to it."""
    made = Publisher(fake.address)
    yield made
    made.close()


class _Answers(list):
    """Collects what became of fires, by their number."""

    def expect(self, name):
        return lambda seq, error: self.append((name, seq, error))


def _run(fake, publisher, until):
    def turn():
        fake.turn()
        publisher.handle()
        publisher.tick()
        return until()

    wait_for(turn)


def test_one_fire_is_acknowledged(bus_process):
    """`fire` returns the number of the first event once it is in the journal."""
    publisher = Publisher(endpoints.master_pull(bus_process.opts))
    assert publisher.fire([_event(1)], 10) == 1
    assert publisher.fire([_event(2), _event(3)], 10) == 2
    assert publisher.fire([_event(4)], None) == 4
    assert _numbers(bus_process.opts) == [1, 2, 3, 4]
    assert publisher.reachable()
    publisher.close()


def test_many_are_pipelined(bus_process):
    """`fire_all` keeps a window on the way and says how many are in the journal."""
    publisher = Publisher(endpoints.master_pull(bus_process.opts))
    assert publisher.fire_all(map(_event, range(20_000))) == 20_000
    assert publisher.fire_all([]) == 0
    assert publisher.pending == 0
    assert _numbers(bus_process.opts) == list(range(20_000))
    publisher.close()


def test_without_a_bus_it_gives_up_in_time(place, caplog):
    """One line, at the time-out, and nothing stays behind to be fired later."""
    address = f"ipc://{place}/pull.ipc"
    publisher = Publisher(address)
    began = time.monotonic()
    with pytest.raises(NotRunningError, match="no bus answers"):
        publisher.fire([_event(1)], 0.4)
    assert 0.35 < time.monotonic() - began < 15
    assert publisher.fire_all([_event(2)], 0.1) == 0
    assert "only 0 events fired: no bus answers" in caplog.text
    assert publisher.pending == 0
    assert not publisher.reachable()
    late = _FakeBus(address)
    answers = _Answers()
    publisher.send([_event(3)], on_done=answers.expect(3))
    _run(late, publisher, lambda: answers)
    assert [wire.unpack_event(event)[1]["n"] for event in late.events] == [3]
    publisher.close()
    late.close()


def test_a_bus_that_comes_late_gets_the_fire(place):
    """Within the time-out, waiting for the bus is part of firing."""
    address = f"ipc://{place}/pull.ipc"
    publisher = Publisher(address)
    answers = _Answers()
    publisher.send([_event(1)], on_done=answers.expect(1))
    assert not publisher.wait(lambda: bool(answers), 0.3)
    late = _FakeBus(address)
    _run(late, publisher, lambda: answers)
    assert answers == [(1, 1, None)]
    assert len(late.events) == 1
    publisher.close()
    late.close()


def test_what_is_lost_on_the_way_is_sent_again(fake, publisher):
    """The first copy of some fires is lost; all arrive once and in order."""
    lost = set()

    def lose(number):
        first = number not in lost and number % 3 == 0
        lost.add(number)
        return first

    fake.lose = lose
    answers = _Answers()
    for number in range(1, 31):
        publisher.send([_event(number)], on_done=answers.expect(number))
    _run(fake, publisher, lambda: not publisher.pending)
    assert [wire.unpack_event(event)[1]["n"] for event in fake.events] == list(range(1, 31))
    assert sorted(name for name, _, _ in answers) == list(range(1, 31))


def test_a_gap_is_filled_once_not_once_for_each_that_follows(fake, publisher):
    """Thirty fires behind a lost one ask for the same; they are sent again one time."""
    lost = []
    fake.lose = lambda number: number == 1 and not lost and not lost.append(number)
    for number in range(1, 31):
        publisher.send([_event(number)], on_done=lambda *_: None)
    _run(fake, publisher, lambda: not publisher.pending)
    assert len(fake.events) == 30
    assert fake.received <= 90


def test_a_lost_fire_is_found_while_other_producers_go_on(fake, publisher):
    """Answers to others do not hide that one producer's only fire was lost."""
    answers = _Answers()
    lost = []
    first = 1 << 40
    fake.lose = lambda number: number == first and not lost and not lost.append(number)
    publisher.send([_event(0)], on_done=answers.expect("lost"), producer=b"a", number=first)
    count = 0
    deadline = time.monotonic() + 10
    while not any(name == "lost" for name, _, _ in answers):
        assert time.monotonic() < deadline
        count += 1
        publisher.send(
            [_event(count)], on_done=answers.expect("other"), producer=b"b", number=count
        )
        publisher.wait(lambda: fake.turn() or publisher.pending < 2, 0.05)
        publisher.tick()
    assert len(fake.events) == len(set(fake.events))


def test_a_refusal_reaches_who_fired(bus_process):
    """The error is that of the server, and the next fire goes through."""
    publisher = Publisher(endpoints.master_pull(bus_process.opts))
    with pytest.raises(TooLargeError, match="max_event_size"):
        publisher.fire([b"t\n\n" + wire.pack({"x": "y" * 1_048_576})], 10)
    with pytest.raises(DataError):
        publisher.fire([b"t\n\n\x90"], 10)
    assert publisher.fire([_event(1)], 10) == 1
    with pytest.raises(DataError):
        publisher.fire_all([_event(2), b"t\n\n\x90"])
    publisher.close()


def test_nothing_is_kept_after_what_was_refused(bus_process):
    """What was on the way behind it is not: the journal has what came before, and no more."""
    publisher = Publisher(endpoints.master_pull(bus_process.opts))
    big = b"t\n\n" + wire.pack({"x": "y" * 1_048_576})
    with pytest.raises(TooLargeError) as caught:
        publisher.fire_all([*map(_event, range(300)), big, *map(_event, range(300, 3000))])
    assert caught.value.kept == 300
    assert publisher.fire([_event(9000)], 10) == 301
    assert _numbers(bus_process.opts) == [*range(300), 9000]
    publisher.close()


def test_answers_that_are_none_are_passed_over(fake, publisher, caplog):
    """A malformed or foreign answer ends nothing."""
    answers = _Answers()
    publisher.send([_event(1)], on_done=answers.expect(1))
    assert fake.socket.poll(5000)
    client, *request = fake.socket.recv_multipart()
    producer = frames.parse_request(request).producer
    for parts in (
        [b"A"],
        [b"Ashort"],
        [b"Eshort", b"DataError", b"x"],
        [b"E" + frames.pack_seq(1) + producer],
        [b"N" + frames.pack_seq(0) + b"other"],
        [b"Z" + frames.pack_seq(1) + producer],
        frames.acknowledged(b"other", 1, 1, 1),
        frames.acknowledged(producer, 99, 1, 1),
        frames.refused(producer, 1, JournalError("disk full")),
    ):
        fake.say(client, *parts)
    _run(fake, publisher, lambda: answers)
    assert str(answers[0][2]) == "disk full"
    assert "cannot be read" in caplog.text


def test_an_abandoned_fire_is_not_sent_again(fake, publisher):
    """Nobody waits for it any longer."""
    key = publisher.send([_event(1)], on_done=lambda *_: None)
    publisher.abandon(*key)
    publisher.abandon(*key)
    publisher.abandon(b"nobody", 1)
    assert publisher.pending == 0


def test_large_events_travel_alone():
    """A batch is small, or one event: the bus takes any event that its limit allows."""
    sizes = [10, BATCH_BYTES - 5, 10, BATCH_BYTES * 8, 1, 1]
    batches = [[len(event) for event in batch] for batch in _batches(b"x" * n for n in sizes)]
    assert batches == [[10], [BATCH_BYTES - 5], [10], [BATCH_BYTES * 8], [1, 1]]
    many = [len(batch) for batch in _batches(b"x" for _ in range(2 * BATCH_EVENTS + 1))]
    assert many == [BATCH_EVENTS, BATCH_EVENTS, 1]


@pytest.mark.parametrize("seed", range(3))
def test_kills_of_the_bus_lose_nothing_and_double_nothing(bus_process, seed):
    """While the bus is killed and started at random, every event is journaled once, in order."""
    chance = random.Random(seed)
    publisher = Publisher(endpoints.master_pull(bus_process.opts))
    kept = []
    firing = threading.Thread(
        target=lambda: kept.append(publisher.fire_all(map(_event, range(60_000)), 30))
    )
    firing.start()
    for _ in range(3):
        time.sleep(chance.uniform(0.0, 0.25))
        bus_process.restart()
    firing.join(60)
    assert kept == [60_000]
    assert _numbers(bus_process.opts) == list(range(60_000))
    publisher.close()
