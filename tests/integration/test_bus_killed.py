"""The bus killed with SIGKILL while many fire at it: nothing acknowledged is lost or doubled.

The bus as one process among a supervisor's: see test_kill.py.
"""

from __future__ import annotations

import random
import threading
import time

import pytest

import bus
import bus.event
from bus.journal import journal_path
from bus.journal.segments import first_seqs
from tests.integration.loads import LOAD, journaled, scaled
from tests.support import SECONDS, master_options, running_bus, wait_for

KILLS = scaled(4, 60)
SEGMENT = 65_536
BATCH = 500


class Client(threading.Thread):
    """Fires numbered events until it is told to stop, and remembers what was acknowledged."""

    def __init__(self, opts, name, stop):
        super().__init__(name=name)
        self.tag = LOAD + name
        self.acknowledged = []
        self.failure = None
        self._opts, self._stop_asked = opts, stop

    def run(self):
        try:
            self._fire_until_stopped()
        except Exception as error:
            self.failure = error

    def _fire_until_stopped(self):
        """Fire what this kind of client fires."""


class OneByOne(Client):
    """`fire_event`, each acknowledged before the next."""

    def _fire_until_stopped(self):
        number = 0
        with bus.event.MasterEvent(opts=self._opts, listen=False) as event:
            while not self._stop_asked.is_set():
                number += 1
                assert event.fire_event({"n": number}, self.tag, timeout=20_000)
                self.acknowledged.append(number)


class Pipelined(Client):
    """`fire_events`, many on the way at once."""

    def _fire_until_stopped(self):
        begin = 1
        with bus.connect("master", self._opts, timeout=SECONDS) as connection:
            while not self._stop_asked.is_set():
                numbers = range(begin, begin + BATCH)
                pairs = ((self.tag, {"n": n}) for n in numbers)
                assert connection.fire_events(pairs, timeout=20) == BATCH
                self.acknowledged.extend(numbers)
                begin += BATCH


class Hearing(threading.Thread):
    """Hears everything from the beginning until it has heard the last event."""

    def __init__(self, opts):
        super().__init__(name="hearing")
        self.heard = []
        self.failure = None
        self._opts = opts

    def run(self):
        try:
            self._hear()
        except Exception as error:
            self.failure = error

    def _hear(self):
        with bus.connect("master", self._opts, timeout=SECONDS) as connection:
            for event in connection.listen("*", since=0, timeout=20):
                if event.tag == "last":
                    return
                self.heard.append((event.tag, event.data["n"]))


@pytest.fixture
def broker(place):
    """A bus whose journal begins a new segment every few hundred events."""
    with running_bus(master_options(place, journal_segment_size=SEGMENT)) as running:
        yield running


@pytest.mark.timeout(scaled(120, 1800))
def test_what_is_acknowledged_is_kept_once_and_in_order(broker):
    """Single and pipelined clients carry on by themselves, and so does a listener."""
    stop, opts = threading.Event(), broker.opts
    clients = [OneByOne(opts, "one", stop), OneByOne(opts, "two", stop)]
    clients += [Pipelined(opts, "three", stop), Pipelined(opts, "four", stop)]
    hearing = Hearing(opts)
    for thread in (hearing, *clients):
        thread.start()
    _kill_again_and_again(broker, clients)
    stop.set()
    for client in clients:
        client.join()
    with bus.connect("master", opts, timeout=SECONDS) as connection:
        connection.fire("last", {})
    hearing.join()
    assert [thread.failure for thread in (hearing, *clients)] == [None] * 5
    kept = journaled(opts)
    for client in clients:
        numbers = [data["n"] for tag, data in kept if tag == client.tag]
        assert numbers == client.acknowledged
    assert hearing.heard == [(tag, data["n"]) for tag, data in kept if tag != "last"]
    assert len(first_seqs(journal_path(opts["state_dir"]))) > 3


def _kill_again_and_again(broker, clients):
    chance = random.Random(11)
    for _ in range(KILLS):
        before = [len(client.acknowledged) for client in clients]

        def all_went_on(before=before):
            now = [len(client.acknowledged) for client in clients]
            alive = [client.is_alive() for client in clients]
            return not all(alive) or all(a > b for a, b in zip(now, before, strict=True))

        wait_for(all_went_on, "every client to go on")
        time.sleep(chance.random() * 0.05)  # a random moment is what this is about
        broker.restart()
