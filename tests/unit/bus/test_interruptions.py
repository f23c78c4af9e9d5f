"""Ctrl-C at any moment: what was under way ends, and what comes after it works."""

import contextlib
import itertools
import random
import signal
import statistics
import threading
import time

import pytest

import bus
from bus import rpc
from bus.complaints import Complaints
from bus.event import get_event
from tests.support import answering, on_ports, running_bus, wait_for

ROUNDS = 200
"""How often each thing is interrupted."""


@pytest.fixture
def interrupt():
    """Interrupts ``act`` again and again, each time later or sooner; ``check`` is called after.

    SIGUSR1 is what SIGINT would be, since that one belongs to pytest.
    """
    moments = random.Random(1)
    before = signal.signal(signal.SIGUSR1, signal.default_int_handler)

    def interrupt(act, check):
        usual = statistics.median(_seconds(act) for _ in range(20))
        hits = sum(_interrupted(act, moments.random() * 1.5 * usual) for _ in _each(check))
        assert hits >= ROUNDS / 50

    yield interrupt
    signal.signal(signal.SIGUSR1, before)


@pytest.fixture(params=["files", "ports"])
def opts(request, master_opts):
    """The options of a bus that runs: on the direct line, or where there is only ZeroMQ."""
    opts = on_ports(master_opts) if request.param == "ports" else master_opts
    with running_bus(opts):
        yield opts


def _seconds(act):
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _each(check):
    for number in range(ROUNDS):
        yield number
        check()


def _interrupted(act, delay):
    """Do something, and interrupt it after so many seconds; return whether it was not done."""
    main, done = threading.main_thread().ident, threading.Event()

    def strike():
        if not done.wait(delay):
            signal.pthread_kill(main, signal.SIGUSR1)

    thread = threading.Thread(target=strike)
    is_struck = False
    try:
        thread.start()
        act()
        done.set()
        thread.join()
    except KeyboardInterrupt:  # the only one
        is_struck = True
    done.set()
    thread.join()
    return is_struck


@pytest.mark.parametrize("kind", ["line", "ipc"])
def test_a_question(place, interrupt, kind):
    """The next one is understood, and has its own answer."""
    address = f"{kind}://{place}/echo.ipc"
    numbers = itertools.count()
    complaints = Complaints()
    with (
        contextlib.closing(rpc.open_server(address, {"echo": dict}, complaints)) as server,
        answering(server),
        contextlib.closing(rpc.open_connection(address)) as connection,
    ):

        def ask():
            question = {"n": next(numbers), "much": "x" * 500_000}
            assert connection.call("echo", question, timeout=20) == question

        interrupt(ask, ask)
    assert not complaints.counters.get("malformed")


def test_a_fire(opts, interrupt):
    """The next one is kept, and nothing is kept twice."""
    with bus.connect("master", opts) as events:
        numbers = itertools.count()
        seqs = []
        interrupt(
            lambda: events.fire("a/b", {"n": next(numbers)}),
            lambda: seqs.append(events.fire("a/after", {})),
        )
        kept = [event.data["n"] for event in events.listen("a/b", since=0, timeout=0.5)]
    assert len(seqs) == ROUNDS
    assert len(set(kept)) == len(kept)


def test_many_fires(opts, interrupt):
    """Those after it are all kept, in order."""
    with bus.connect("master", opts) as events:
        many = [("a/b", {"n": number}) for number in range(300)]

        def check():
            assert events.fire_events(many[:10]) == 10

        interrupt(lambda: events.fire_events(many), check)


def test_listening(opts, interrupt):
    """What comes after it is heard, whole and in order; what it made us miss is told."""
    with bus.connect("master", opts) as firing, get_event("master", opts=opts) as listening:
        numbers = itertools.count(1)

        def act():
            firing.fire_events(("a/b", {"n": next(numbers)}) for _ in range(20))
            for _ in range(20):
                listening.get_event(wait=5, tag="a/b")

        def heard():
            n = next(numbers)
            seq = firing.fire("a/c", {"n": n})
            while not any(first <= seq <= last for first, last in listening.gaps):
                found = listening.get_event(wait=0.2, tag="a/c")
                if found:
                    assert found["n"] == n
                    return True
            return False

        interrupt(act, lambda: wait_for(heard))
