"""The engine with real native rules: what policies and programs become in it, over restarts too."""

from __future__ import annotations

import datetime as dt

import pytest

from bus import wire
from bus.frames import Fire
from bus.journal import Journal, JournalReader
from bus.record import Event
from reactor.engine.actions import Actions
from reactor.engine.engine import Engine
from reactor.engine.state import State
from reactor.errors import ReactorError
from reactor.rules.snapshot import Snapshot
from tests.unit.reactor.rules.rule_tools import START, built
from tests.unit.reactor.test_engine import FakeFeed, FakeOutbox


def iso(at):
    return dt.datetime.fromtimestamp(START + at, dt.UTC).isoformat()


class Calls:
    """Begins calls; they end when the test says so, by their names."""

    def __init__(self):
        self.started, self.open, self.cancelled = [], {}, []

    def start(self, call, reaction, done):
        self.started.append(call.function)
        self.open.setdefault(call.function, []).append(done)
        return lambda: self.cancelled.append(call.function)

    def end(self, name, result=None, error=None):
        self.open[name].pop(0)(result or {}, error)


class Bench:
    """An engine over a journal, with a clock that the test moves; it can die and come back."""

    def __init__(self, path, text):
        self.path, self.text = path, text
        self.journal = Journal(path / "journal")
        self.now = 0.0
        self.seq = 0
        self.feed = FakeFeed()
        self.feed.bus_id = self.journal.bus_id
        self.engine = None
        self.start()

    def start(self):
        rules, errors = built(self.text)
        assert errors == []
        self.calls, self.outbox = Calls(), FakeOutbox()
        self.state = State(self.path / "r.db")
        cursor = self.state.cursor()
        self.feed.start_after(cursor[1] if cursor else 0)
        self.engine = Engine(
            feed=self.feed,
            state=self.state,
            actions=Actions({"event": self.calls, "exec": self.calls}),
            outbox=self.outbox,
            functions={},
            snapshot=self.in_force(rules),
            recall=self.recall,
            clock=lambda: self.now,
            wall_clock=lambda: START + self.now,
        )
        with JournalReader(self.path / "journal") as journal:
            self.engine.resume(journal)

    def in_force(self, rules):
        return Snapshot(rules)

    def recall(self, seq):
        with JournalReader(self.path / "journal") as journal:
            [(_, raw)] = journal.read(seq - 1, 1, seq)
        return Event.from_wire(raw, seq, self.journal.bus_id)

    def die(self):
        """End as a killed process does: nothing more is written."""
        self.state.close()
        self.start()

    def fire(self, tag, **data):
        raw = wire.pack_event(tag, {"_stamp": iso(self.now), **data})
        self.seq += 1
        self.journal.append([Fire(b"t", self.seq, 0, [raw])])
        self.feed.all.append((self.seq, raw))
        self.feed.ready.append((self.seq, raw))

    def turns(self, count=3):
        for _ in range(count):
            self.engine.turn()

    def at(self, now):
        self.now = now
        self.turns()

    def reports(self):
        return [tag.rpartition("/")[2] for tag in self.outbox.tags() if "/reaction/" in tag]

    @property
    def started(self):
        return self.calls.started


@pytest.fixture
def bench(tmp_path):
    benches = []

    def make(text):
        benches.append(Bench(tmp_path, text))
        return benches[-1]

    yield make
    for one in benches:
        one.state.close()
        one.journal.close()


THROTTLED = "r:\n  on: x\n  throttle: {once_within: 1h}\n  do: [{event: 'go-{{ data.n }}'}]\n"


def test_a_throttle_holds_over_a_kill(bench):
    """It is written with the firing that it allowed."""
    b = bench(THROTTLED)
    b.fire("x", n=1)
    b.turns()
    assert b.started == ["go-1"]
    b.die()
    assert b.started == ["go-1"]
    b.fire("x", n=2)
    b.turns()
    b.calls.end("go-1")
    b.at(3601)
    b.fire("x", n=3)
    b.turns()
    assert b.started == ["go-1", "go-3"]


def test_what_was_counted_and_not_written_is_read_again(bench):
    """Cursor and counts are one: no event counts twice, and none is forgotten."""
    b = bench("r:\n  on: x\n  count: {at_least: 3, within: 1h}\n  do: [{event: go}]\n")
    for number in range(3):
        assert b.started == []
        b.fire("x", n=number)
        b.turns()
        if number < 2:
            b.die()
    assert b.started == ["go"]


def test_timers_survive_and_act_on_their_event(bench):
    """What waits is due at the same moment, whoever was killed meanwhile."""
    text = (
        "r:\n  on: x\n  throttle: {once_after: 60s, by: data.id}\n"
        "  do: [{event: 'go-{{ data.n }}-{{ window.count }}'}]\n"
    )
    b = bench(text)
    b.fire("x", id=1, n=1)
    b.fire("x", id=1, n=2)
    b.fire("x", id=2, n=3)
    b.turns()
    b.now = 1
    b.turns()
    b.die()
    b.at(59)
    assert b.started == []
    assert b.engine.next_in(10) == pytest.approx(1)
    b.at(60)
    assert sorted(b.started) == ["go-2-2", "go-3-1"]
    b.die()
    assert sorted(b.started) == ["go-2-2", "go-3-1"]


def test_events_that_wait_are_read_before_time_passes(bench):
    """An engine that was away does not miss what came in time."""
    b = bench("r:\n  on: go\n  none_of: ok\n  within: 60s\n  do: [{event: alarm}]\n")
    b.fire("go")
    b.turns()
    b.now = 1
    b.turns()
    b.now = 30
    b.fire("ok")
    b.now = 500
    b.die()
    b.turns()
    assert b.started == []
    b.fire("go")
    b.turns()
    b.at(560)
    assert b.started == ["alarm"]


def test_a_schedule_announces_itself_and_acts_once(bench):
    """Through the journal; a second announcement of the same time does nothing."""
    b = bench("r:\n  every: 60s\n  do: [{event: tick}]\n")
    b.at(60)
    b.turns()
    [(tag, data)] = b.outbox.fired
    assert tag == "reactor/schedule/r"
    b.die()
    b.turns()
    assert b.outbox.tags() == ["reactor/schedule/r"]
    b.fire(tag, **data)
    b.fire(tag, **data)
    b.turns()
    assert b.started == ["tick"]


def test_a_time_that_an_event_read_late_does_not_count_is_done_by_itself(bench):
    """A reactor that is killed announces once more, and knows of more; either way none is left out."""
    b = bench("r:\n  every: 60s\n  do: [{event: 'tick-{{ data.missed }}'}]\n")
    b.at(60)
    [(tag, first)] = b.outbox.fired
    b.die()
    b.at(130)
    [(tag, second)] = b.outbox.fired
    assert (first["missed"], second["missed"]) == (0, 1)
    b.fire(tag, **first)
    b.fire(tag, **second)
    b.turns()
    assert b.started == ["tick-0"]
    assert b.outbox.fired[-1][1]["missed"] == 0  # of the time at 120
    b.fire(tag, **b.outbox.fired[-1][1])
    b.turns()
    assert b.started == ["tick-0", "tick-0"]
    b.at(180)
    assert b.outbox.fired[-1][1]["due"] > b.outbox.fired[-2][1]["due"]


QUEUED = (
    "r:\n  on: x\n  mode: queued\n  by: data.id\n  do: [{event: '{{ data.id }}{{ data.n }}'}]\n"
)


def test_queued_serialises_a_key_while_others_run(bench):
    """In the order of the events; after a kill too."""
    b = bench(QUEUED)
    for number in (1, 2, 3):
        b.fire("x", id="a", n=number)
    b.fire("x", id="b", n=1)
    b.turns()
    assert b.started == ["a1", "b1"]
    b.calls.end("a1")
    b.turns()
    assert b.started == ["a1", "b1", "a2"]
    b.die()
    assert b.started == ["a2", "b1"]
    b.calls.end("a2")
    b.turns()
    assert b.started == ["a2", "b1", "a3"]


def test_single_and_a_full_queue_refuse_and_say_so(bench):
    """As skipped, with the reason."""
    b = bench(QUEUED.replace("queued", "single"))
    b.fire("x", id="a", n=1)
    b.fire("x", id="a", n=2)
    b.turns()
    assert b.started == ["a1"]
    [counters] = b.engine.statistics._rules.values()
    assert counters.skipped == 1
    assert counters.last_skip == "mode: single, and one is running for key a"


AGED = QUEUED.replace("  by:", "  expires: 10m\n  by:")


@pytest.mark.parametrize("mode", ["queued", "parallel\n  max: 1"])
def test_what_waited_too_long_for_its_turn_does_not_begin(bench, mode):
    """Its age counts when it would begin; who comes after it has its turn."""
    b = bench(AGED.replace("queued", mode))
    for number in range(3):
        b.fire("x", id="a", n=number)
    b.turns()
    b.now = 500
    b.fire("x", id="a", n=3)
    b.turns()
    b.now = 601
    b.calls.end("a0")
    b.turns()
    assert b.started == ["a0", "a3"]
    assert b.reports() == ["done", "cancelled", "cancelled"]
    [first, _] = [data for tag, data in b.outbox.fired if tag.endswith("/cancelled")]
    assert first["error"] == "expires: the event is 10m1s old, expires 10m"
    b.calls.end("a3")
    b.turns()
    assert b.reports()[-1] == "done"
    b.die()
    assert b.started == []


def test_a_rule_that_is_over_begins_nothing_that_waited(bench):
    """A moment as well as an age."""
    moment = iso(100)
    b = bench(QUEUED.replace("  by:", f"  expires: '{moment}'\n  by:"))
    b.fire("x", id="a", n=0)
    b.fire("x", id="a", n=1)
    b.turns()
    b.now = 100
    b.calls.end("a0")
    b.turns()
    assert b.started == ["a0"]
    assert b.reports() == ["done", "cancelled"]


def test_a_long_queue_of_what_ends_at_once_is_a_loop_not_a_tower(bench):
    """Five hundred that follow each other within one turn."""
    b = bench(QUEUED)
    b.calls.start = lambda call, reaction, done: b.started.append(call.function) or done({}, None)
    for number in range(500):
        b.fire("x", id="a", n=number)
    b.turns()
    assert b.started == [f"a{number}" for number in range(500)]
    assert b.reports() == ["done"] * 500


def test_restart_ends_what_runs(bench):
    """The older reaction is reported as cancelled, and its call is ended."""
    b = bench(QUEUED.replace("queued", "restart"))
    b.fire("x", id="a", n=1)
    b.turns()
    b.fire("x", id="a", n=2)
    b.turns()
    assert (b.started, b.calls.cancelled, b.reports()) == (["a1", "a2"], ["a1"], ["cancelled"])
    b.calls.end("a1")
    b.calls.end("a2")
    b.turns()
    assert b.reports() == ["cancelled", "done"]
    b.die()
    assert b.started == []


def test_a_retry_waits_without_holding_up_others(bench):
    """The pause is a timer; the reaction is done in the end."""
    b = bench(
        "r:\n  on: x\n  do: [{event: '{{ data.n }}', retry: {times: 2, backoff: 10s, jitter: 0}}]\n"
    )
    b.fire("x", n="a")
    b.turns()
    b.calls.end("a", error="no")
    b.turns()
    b.fire("x", n="b")
    b.turns()
    assert b.started == ["a", "b"]
    assert b.engine.next_in(60) == pytest.approx(10)
    b.at(10)
    assert b.started == ["a", "b", "a"]
    b.calls.end("a")
    b.turns()
    assert b.reports() == ["done"]


def test_an_action_that_takes_too_long_is_ended(bench):
    """What it says later is not heard."""
    b = bench("r:\n  on: x\n  do: [{exec: [sleep, 9], timeout: 5s}, {event: after}]\n")
    b.fire("x")
    b.turns()
    late = b.calls.open["sleep"][0]
    b.at(5)
    assert b.calls.cancelled == ["sleep"]
    late({}, None)
    b.turns()
    assert (b.started, b.reports()) == (["sleep"], ["failed"])
    assert b.outbox.fired[-1][1]["error"] == "timed out after 5s"


PROGRAM = """
r:
  on: x
  do:
    - {event: one, id: one}
    - {event: "two-{{ results.one.v }}", retry: 1}
    - {event: three}
"""


def test_a_program_goes_on_where_it_was(bench):
    """Finished actions do not run again, and what they gave is known."""
    b = bench(PROGRAM)
    b.fire("x")
    b.turns()
    b.calls.end("one", {"v": 7})
    b.turns()
    assert b.started == ["one", "two-7"]
    b.die()
    assert b.started == ["two-7"]
    b.calls.end("two-7")
    b.turns()
    assert b.started == ["two-7", "three"]
    b.calls.end("three")
    b.turns()
    assert b.reports() == ["done"]
    b.die()
    assert b.started == []


def test_a_window_is_there_again_after_a_kill(bench):
    """A reaction in flight sees the same values."""
    b = bench(
        "r:\n  all_of: [{on: a, name: a}, {on: b, name: b}]\n  within: 1m\n"
        "  do: [{event: 'go-{{ window.events.a.data.n }}'}]\n"
    )
    b.fire("a", n=5)
    b.fire("b")
    b.turns()
    assert b.started == ["go-5"]
    b.die()
    assert b.started == ["go-5"]


def test_a_thousand_actions_that_end_at_once(bench):
    """A long loop is a loop, not a thousand calls within each other."""
    b = bench("r:\n  on: x\n  do: [{event: 'e', for_each: data.n}]\n")
    b.calls.start = lambda call, reaction, done: (b.started.append(call.function), done({}, None))
    b.engine._performer._actions = Actions({"event": b.calls})
    b.fire("x", n=list(range(1000)))
    b.turns()
    assert len(b.started) == 1000
    assert b.reports() == ["done"]


def test_without_a_state_nothing_is_counted(bench, monkeypatch):
    """What could not be written did not happen: the events are read and counted again."""
    b = bench("r:\n  on: x\n  count: {at_least: 2, within: 1h}\n  do: [{event: go}]\n")
    b.fire("x")
    b.turns()
    b.at(1)
    save = b.state.save

    def broken(**_):
        raise ReactorError("no room")

    monkeypatch.setattr(b.state, "save", broken)
    b.fire("x")
    assert not b.engine.turn()
    assert not b.engine.turn()
    assert b.started == []
    monkeypatch.setattr(b.state, "save", save)
    b.turns()
    assert b.started == ["go"]
    [counters] = b.engine.statistics._rules.values()
    assert counters.last_skip == "count: 1 of 2 within 1h"


def test_state_of_unchanged_rules_stays_over_a_reload(bench):
    """And that of a rule whose throttle changed is forgotten, on disk too."""
    b = bench(THROTTLED)
    b.fire("x", n=1)
    b.turns()
    rules, _ = built(THROTTLED + "other:\n  on: y\n  do: [{event: o}]\n")
    b.engine.swap(Snapshot(rules))
    b.fire("x", n=2)
    b.turns()
    assert b.started == ["go-1"]
    rules, _ = built(THROTTLED.replace("1h", "2h"))
    b.engine.swap(Snapshot(rules))
    b.fire("x", n=3)
    b.turns()
    assert b.started == ["go-1", "go-3"]
    assert len(b.state.cells()) == 1


def test_a_database_of_the_first_version_is_taken_over(tmp_path):
    """Its columns are added."""
    import sqlite3

    with sqlite3.connect(tmp_path / "r.db") as old:
        old.execute(
            "CREATE TABLE firings (seq INTEGER NOT NULL, rule TEXT NOT NULL, done TEXT NOT NULL, "
            "PRIMARY KEY (seq, rule)) WITHOUT ROWID"
        )
        old.execute("INSERT INTO firings VALUES (3, 'f::a', '[0]')")
    old.close()
    state = State(tmp_path / "r.db")
    [left] = state.unfinished()
    assert (left.seq, left.done, left.window, left.replies) == (3, {0}, None, {})
    state.close()


def test_keys_that_had_to_go_are_counted_and_said(bench, caplog):
    """Nothing is dropped without a count and a word."""
    b = bench("r:\n  on: x\n  dedupe: {within: 1h, by: data.n}\n  do: [{event: go}]\n")
    b.engine._memory._max_keys = 3
    b.engine._memory.load([])
    for number in range(5):
        b.fire("x", n=number)
    b.turns()
    b.at(1)
    assert b.engine.statistics.total["evicted"] == 2
    assert "rule r: dedupe has more than 10000 keys" in caplog.text
