"""Millions of events through rules that remember: the reactor's memory stays what it was."""

from __future__ import annotations

import time

import pytest

import bus
from bus import endpoints, rpc
from reactor.engine import process
from tests.integration.loads import LOAD, MB, resident, scaled
from tests.support import master_options, running_bus, running_role, wait_for

EVENTS = scaled(60_000, 10_000_000)
MARKS = 10
SEGMENT = scaled(4 * MB, 64 * MB)
KEPT = 512 * MB
GROWTH = 24 * MB
"""What a reactor may have more at the last mark than at the second: tables fill up at first."""

RULES = """
counted:
  on: load/*
  count: {at_least: 3, within: 1h, by: data.key}
  throttle: {once_within: 50ms}
  do: [{event: seen/counted, data: {key: "{{ window.key }}"}}]
pairs:
  all_of: [{on: load/a, by: data.key}, {on: load/b, by: data.key}]
  within: 1h
  throttle: {rate: 20/s}
  do: [{event: seen/pair, data: {key: "{{ window.key }}"}}]
missing:
  on: load/a
  none_of: load/never
  within: 1s
  by: data.key % 50
  throttle: {rate: 20/s}
  do: [{log: nothing came, level: debug}]
once:
  on: load/*
  when: data.n % 10 == 0
  dedupe: {within: 1h, by: data.key}
  throttle: {once_after: 200ms}
  mode: queued
  by: data.key % 100
  do: [{event: seen/once, data: {n: "{{ data.n }}", of: "{{ window.count }}"}}]
never:
  on: load/*
  when: data.key < 0
  do: [{event: seen/never}]
"""


@pytest.fixture
def roles(place):
    """A bus that keeps some segments, and a reactor."""
    (place / "r.yaml").write_text(RULES)
    opts = master_options(
        place, journal_segment_size=SEGMENT, journal_max_size=KEPT, rules=(str(place / "r.yaml"),)
    )
    with (
        running_bus(opts) as broker,
        running_role(process.run, opts, endpoints.master_reactor(opts)) as reactor,
    ):
        yield broker, reactor


def _read(reactor):
    time.sleep(0.1)  # a question every few milliseconds would be a load of its own
    return rpc.call(reactor.address, "status", timeout=60)["counters"]["events"]


@pytest.mark.timeout(scaled(180, 7200))
def test_memory_is_flat_with_windows_in_use(roles):
    """Every event has a key that is new or hardly seen, so all tables are full and turn over."""
    broker, reactor = roles
    size = EVENTS // MARKS
    memory = []
    with bus.connect("master", broker.opts) as connection:
        for mark in range(MARKS):
            begin = mark * size
            pairs = (
                (f"{LOAD}{'ab'[n % 2]}", {"n": n, "key": n // 4})
                for n in range(begin, begin + size)
            )
            assert connection.fire_events(pairs, timeout=600) == size
            read = begin + size
            wait_for(lambda read=read: _read(reactor) >= read, "the reactor", scaled(60, 1800))
            memory.append(resident(reactor.pid))
            shown = f"{memory[-1] / MB:.1f} MB, the bus {resident(broker.pid) / MB:.1f} MB"
            print(f"\n{read:,} events: the reactor {shown}", end="", flush=True)
    status = reactor.call("status")
    print(f"\n{status['counters']}")
    assert status["counters"]["events"] >= EVENTS
    assert status["counters"]["done"] > MARKS
    assert status["lost"] == 0
    assert memory[-1] - memory[1] < GROWTH
