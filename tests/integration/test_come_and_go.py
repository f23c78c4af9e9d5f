"""Listeners and clients that come and go by the thousand leave nothing behind on either side."""

from __future__ import annotations

import gc
import os
import signal

import pytest

import bus
import bus.event
from tests.integration.loads import MB, child, descriptors, fire, listen, resident, scaled
from tests.support import master_options, running_bus, wait_for

LISTENERS = scaled(1_000, 10_000)
ROUND = 100
GROWTH = 16 * MB


@pytest.fixture
def broker(place):
    """A bus with some events in its journal."""
    with running_bus(master_options(place)) as running:
        with bus.connect("master", running.opts) as connection:
            connection.fire_events(("a/b", {"n": n}) for n in range(100))
        yield running


def _since(opts):
    with bus.connect("master", opts) as connection:
        assert connection.listen("a/*", since=90).next(5) is not None


def _live(opts):
    with bus.connect("master", opts) as connection:
        listening = connection.listen("a/*")
        connection.fire("a/b", {})
        assert listening.next(5) is not None


def _salt(opts):
    with bus.event.get_event("master", opts=opts) as event:
        assert event.fire_event({}, "a/c")
        assert event.get_event(wait=5, tag="a/") is not None


def _forgotten(opts):
    """Not closed by whoever made it."""
    connection = bus.connect("master", opts)
    listening = connection.listen("a/*", since=0)
    assert listening.next(5) is not None


def _held(pid):
    gc.collect()
    return descriptors(), descriptors(pid), resident(), resident(pid)


@pytest.mark.parametrize("visit", [_since, _live, _salt, _forgotten])
@pytest.mark.timeout(scaled(120, 1800))
def test_a_thousand_listeners(broker, visit):
    """Descriptors are those of before on both sides, and memory is flat."""
    for _ in range(ROUND):
        visit(broker.opts)
    gc.collect()
    before = _held(broker.pid)
    for _ in range(LISTENERS):
        visit(broker.opts)

    def is_as_before():
        ours, theirs, *_ = _held(broker.pid)
        return ours <= before[0] and theirs <= before[1]

    wait_for(is_as_before, "the descriptors to be closed")
    after = _held(broker.pid)
    grown, theirs = after[2] - before[2], after[3] - before[3]
    print(
        f"\n{visit.__name__}: {grown / MB:+.1f} MB here, {theirs / MB:+.1f} MB in the bus", end=""
    )
    assert grown < GROWTH
    assert theirs < GROWTH


@pytest.mark.timeout(scaled(120, 600))
def test_listeners_that_are_killed(broker):
    """A listener that ends without a word, with events on the way, is let go as well."""
    opts = broker.opts
    before = descriptors(broker.pid)
    for _ in range(scaled(3, 50)):
        with child(listen, opts, 0, 10_000_000, 20.0) as one:
            assert one.receive() == "ready"
            with child(fire, opts, "a", 1, 5_000) as publisher:
                assert publisher.receive()[0] == 5_000
            os.kill(one.pid, signal.SIGKILL)
    wait_for(lambda: descriptors(broker.pid) <= before, "the descriptors to be closed")
