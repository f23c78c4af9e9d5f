"""Millions of events: the last cost what the first did, and the bus keeps none in memory."""

from __future__ import annotations

import statistics
import time

import pytest

import bus
from bus.journal import JournalReader, journal_path
from bus.journal.segments import first_seqs
from tests.integration.loads import LOAD, MB, resident, scaled
from tests.support import master_options, running_bus

EVENTS = scaled(300_000, 10_000_000)
WINDOWS = 10
SEGMENT = scaled(8 * MB, 64 * MB)
GROWTH = 16 * MB
TEXT = "x" * 200
MOST = 1.2
"""How many times the first window's time an event may cost in a later one, in the long form."""


@pytest.fixture
def broker(place):
    """A bus that keeps a few segments."""
    opts = master_options(place, journal_segment_size=SEGMENT)
    with running_bus(opts) as running:
        yield running


@pytest.mark.timeout(scaled(120, 3000))
def test_the_last_events_cost_what_the_first_did(broker):
    """Time an event and memory in windows; the journal is whole, and has many segments."""
    size = EVENTS // WINDOWS
    costs, memory = [], []
    with bus.connect("master", broker.opts) as connection:
        for window in range(WINDOWS):
            begin = window * size
            pairs = ((f"{LOAD}m", {"n": n, "text": TEXT}) for n in range(begin, begin + size))
            begun = time.perf_counter()
            assert connection.fire_events(pairs, timeout=60) == size
            costs.append((time.perf_counter() - begun) / size * 1e6)
            memory.append(resident(broker.pid))
    print(f"\n{size:,} events a window; us an event:", *(f"{cost:.1f}" for cost in costs))
    print("the bus' memory in MB:", *(f"{size / MB:.0f}" for size in memory), end="")
    with JournalReader(journal_path(broker.opts["state_dir"])) as journal:
        assert journal.last_seq() == EVENTS
        last = EVENTS
        for seq in (1, EVENTS // 3, EVENTS - 999):
            numbers = [number for number, _ in journal.read(seq - 1, 100)]
            assert numbers == list(range(seq, min(seq + 100, last + 1)))
    assert len(first_seqs(journal_path(broker.opts["state_dir"]))) > 3
    assert memory[-1] - memory[0] < GROWTH
    if EVENTS >= 10_000_000:
        assert statistics.median(costs[1:]) <= MOST * costs[0]
