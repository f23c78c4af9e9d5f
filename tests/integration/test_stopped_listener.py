"""A listener stopped with SIGSTOP under full load hurts nobody, and loses nothing unnoticed."""

from __future__ import annotations

import contextlib
import os
import signal
import statistics

import pytest

import bus
from tests.integration.loads import LOAD, MB, SOAK, child, fire, listen, resident, scaled
from tests.support import SECONDS, master_options, running_bus, wait_for

EVENTS = scaled(50_000, 400_000)
RUNS = scaled(1, 9)
OTHERS = 2
QUEUE = 4 * MB
BOUND = 20 * MB
"""The queue of one listener and what ZeroMQ adds, several times."""


@contextlib.contextmanager
def _stopped(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture
def broker(place):
    """A bus."""
    with running_bus(master_options(place, listener_queue_size=QUEUE)) as running:
        yield running


def _ready(stack, opts, since, last, silence=SECONDS):
    listener = stack.enter_context(child(listen, opts, since, last, silence))
    assert listener.receive() == "ready"
    return listener


def _fire_and_hear(stack, opts, others, last):
    """Fire all events and return what each of the others heard, and the seconds it took."""
    publisher = stack.enter_context(child(fire, opts, "a", 1, last))
    kept, seconds = publisher.receive(600)
    assert kept == last
    return [other.receive(600) for other in others], seconds


@pytest.mark.parametrize("since", [0, None], ids=["since", "live"])
@pytest.mark.timeout(scaled(120, 1200))
def test_others_hear_everything_and_the_memory_is_bounded(broker, since):
    """With ``since=`` it hears all once it goes on; without, it knows how many it lost."""
    opts = broker.opts
    with contextlib.ExitStack() as stack:
        others = [_ready(stack, opts, 0, EVENTS) for _ in range(OTHERS)]
        victim = _ready(stack, opts, since, EVENTS + 1)
        before = resident(broker.pid)
        with _stopped(victim.pid):
            heard, _ = _fire_and_hear(stack, opts, others, EVENTS)
            grown = resident(broker.pid) - before
        found = _after_it_went_on(victim, opts)
    for other in heard:
        assert other[:5] == (EVENTS, True, 1, EVENTS, 0)
    print(f"\na stopped listener: {grown / MB:.1f} MB more in the bus; then {found}")
    assert grown < BOUND
    assert found.in_order
    assert found.count + found.lost == found.last
    assert since is None or found.lost == 0
    assert since == 0 or found.lost > 0


def _after_it_went_on(victim, opts):
    """Fire now and then until it has heard one of these, and return what it heard."""
    number = EVENTS
    with bus.connect("master", opts) as connection:
        while not victim.has_said(0.1):
            number += 1
            connection.fire(f"{LOAD}a", {"n": number})
    return victim.receive()


@pytest.mark.timeout(1800)
@pytest.mark.skipif(not SOAK, reason="a rate says something only where nothing else runs")
def test_others_keep_their_rate(place):
    """The others' rate beside a stopped listener, and beside one that listens to nothing."""
    rates = {False: [], True: []}
    for run in range(RUNS):
        for stopped in (False, True):
            folder = place / f"{run}{stopped}"
            folder.mkdir()
            rates[stopped].append(_rate(folder, stopped))
    without, beside = (statistics.median(rates[key]) for key in (False, True))
    print(
        f"\nrate of the others: {without:,.0f}/s; beside a stopped one {beside:,.0f}/s; "
        f"{beside / without:.2f} of it"
    )
    assert beside >= 0.95 * without


def _rate(folder, stopped):
    with running_bus(master_options(folder)) as broker, contextlib.ExitStack() as stack:
        others = [_ready(stack, broker.opts, 0, EVENTS) for _ in range(OTHERS)]
        if stopped:
            victim = _ready(stack, broker.opts, 0, EVENTS)
            stack.enter_context(_stopped(victim.pid))
        heard, _ = _fire_and_hear(stack, broker.opts, others, EVENTS)
        return min(other.count / other.seconds for other in heard)


def test_the_bus_forgets_a_listener_that_is_killed_while_stopped(broker):
    """Its queue is freed, and the bus goes on."""
    opts = broker.opts
    with contextlib.ExitStack() as stack:
        victim = _ready(stack, opts, 0, EVENTS)
        os.kill(victim.pid, signal.SIGSTOP)
        publisher = stack.enter_context(child(fire, opts, "a", 1, 1000))
        assert publisher.receive()[0] == 1000
        os.kill(victim.pid, signal.SIGKILL)
        other = _ready(stack, opts, 0, 1001)
        late = stack.enter_context(child(fire, opts, "a", 1001, 1001))
        assert late.receive()[0] == 1
        assert other.receive()[:5] == (1001, True, 1, 1001, 0)
    wait_for(lambda: broker.call("ping"))
