"""The engine's turns, with a feed and actions of the test's own."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections import deque
from dataclasses import dataclass, field

import pytest

from bus import wire
from bus.frames import Fire
from bus.journal import Journal, JournalReader
from bus.record import CAUSE
from reactor.engine.actions import Actions
from reactor.engine.engine import Engine
from reactor.engine.firing import rule_key
from reactor.engine.loops import MAX_CHAIN
from reactor.engine.state import State
from reactor.errors import ReactorError, RuleError
from reactor.rules.model import Call, Plan, Source
from reactor.rules.snapshot import Snapshot


@dataclass(frozen=True)
class FakeRule:
    """A rule whose plan the test chooses."""

    name: str
    make: object
    patterns: tuple[str, ...] = ("*",)
    style: str = "native"
    description: str = ""
    source: Source = field(default_factory=lambda: Source("f.yaml", 1))
    priority: int = 0
    enabled: bool = True
    policies: tuple = ()
    mode: object = None

    def values(self, event):
        return {}

    def plan(self, event, functions, window=None):
        return self.make(event)


class FakeFeed:
    """Gives out the events that the test puts in."""

    bus_id = "b"

    def __init__(self):
        self.all, self.ready, self.after = [], deque(), 0

    def put(self, tag, data=None):
        seq = len(self.all) + 1
        self.all.append((seq, wire.pack_event(tag, data or {})))
        self.ready.append(self.all[-1])

    @property
    def upto(self):
        return len(self.all)

    @property
    def behind(self):
        return bool(self.ready)

    def take(self, limit):
        batch = [self.ready.popleft() for _ in range(min(limit, len(self.ready)))]
        if batch:
            self.after = batch[-1][0]
        return batch

    def start_after(self, seq):
        self.after = seq
        self.ready = deque(item for item in self.all if item[0] > seq)


@dataclass
class FakeOutbox:
    """Keeps what the engine fires."""

    fired: list = field(default_factory=list)

    def fire(self, tag, data, on_fired=None):
        wire.pack_event(tag, data)
        self.fired.append((tag, data))
        if on_fired:
            on_fired(len(self.fired), None)

    def flush(self):
        """Everything is sent at once here."""

    def tags(self):
        return [tag for tag, _ in self.fired]


class FakeAction:
    """Begins calls; they end when the test says so, or at once."""

    def __init__(self, at_once=True):
        self.at_once, self.started = at_once, []

    def start(self, call, reaction, done):
        self.started.append((call, reaction, done))
        if self.at_once:
            done("ok", None)


class Bench:
    """An engine and all that it works with."""

    def __init__(self, path, rules, at_once=True):
        self.feed, self.outbox, self.action = FakeFeed(), FakeOutbox(), FakeAction(at_once)
        self.state = State(path / "r.db")
        self.time = 0.0
        self.full = False
        self.engine = Engine(
            feed=self.feed,
            state=self.state,
            actions=Actions({"event": self.action}),
            outbox=self.outbox,
            functions={},
            snapshot=Snapshot(rules),
            is_full=lambda: self.full,
            clock=lambda: self.time,
        )

    def turns(self, count=3):
        for _ in range(count):
            self.engine.turn()


def _calls(*tags):
    calls = tuple(Call("event", tag, ident=f"do[{n}]") for n, tag in enumerate(tags))
    return lambda event: Plan(calls)


@pytest.fixture
def bench(tmp_path):
    benches = []

    def make(*rules, at_once=True):
        benches.append(Bench(tmp_path, rules, at_once))
        return benches[-1]

    yield make
    for made in benches:
        made.state.close()


def test_an_event_becomes_a_reaction_and_a_report(bench):
    """The call runs once, and its end is told after it was written down."""
    on = bench(FakeRule("r", _calls("out"), ("a/*",)))
    on.feed.put("a/1")
    on.feed.put("b/1")
    on.turns()
    assert [call.function for call, _, _ in on.action.started] == ["out"]
    assert on.outbox.tags() == ["reactor/reaction/r/done"]
    assert on.state.unfinished() == []
    assert on.engine.statistics.of("f.yaml::r").fired == 1


def test_a_reaction_is_written_down_before_it_begins(bench):
    """While a call runs, the state knows of it: a kill now would not lose it."""
    on = bench(FakeRule("r", _calls("out")), at_once=False)
    on.feed.put("a")
    on.turns()
    assert [left.rule for left in on.state.unfinished()] == ["f.yaml::r"]
    assert on.state.cursor() == ("b", 1)
    assert on.outbox.fired == []
    on.action.started[0][2]("ok", None)
    on.turns()
    assert on.state.unfinished() == []
    assert on.outbox.tags() == ["reactor/reaction/r/done"]


def test_done_twice_counts_once(bench):
    """An answer that comes again changes nothing."""
    on = bench(FakeRule("r", _calls("out")), at_once=False)
    on.feed.put("a")
    on.turns()
    done = on.action.started[0][2]
    done("ok", None)
    done("ok", None)
    on.turns()
    assert on.outbox.tags() == ["reactor/reaction/r/done"]


def test_a_failed_call_is_reported_with_its_error(bench):
    """The report, the counters and the last error name it."""
    on = bench(FakeRule("r", _calls("out")), at_once=False)
    on.feed.put("a")
    on.turns()
    on.action.started[0][2](None, "no such function")
    on.turns()
    tag, data = on.outbox.fired[0]
    assert tag == "reactor/reaction/r/failed"
    assert data["error"] == "no such function"
    assert on.engine.statistics.of("f.yaml::r").last_error == "no such function"


def test_a_rule_that_cannot_be_planned_fails_alone(bench):
    """Its neighbour runs, and both a rule's error and a bug are reported."""

    def broken(event):
        raise RuleError("'x' is undefined", "f.yaml", 3)

    def buggy(event):
        raise ZeroDivisionError("oops")

    on = bench(
        FakeRule("broken", broken), FakeRule("buggy", buggy), FakeRule("good", _calls("out"))
    )
    on.feed.put("a")
    on.turns()
    assert [call.function for call, _, _ in on.action.started] == ["out"]
    assert sorted(on.outbox.tags()) == [
        "reactor/reaction/broken/failed",
        "reactor/reaction/buggy/failed",
        "reactor/reaction/good/done",
    ]
    assert "f.yaml:3" in on.engine.statistics.of("f.yaml::broken").last_error


def test_a_plan_that_fails_is_remembered_until_its_report_is_kept(bench, tmp_path):
    """Killed before the report, the failure is reported after the restart: once, and not as dead."""

    def broken(event):
        raise RuleError("'x' is undefined", "f.yaml", 3)

    before = bench(FakeRule("r", broken, ("a",)))
    before.outbox.fire = lambda *_: None  # the bus answers no more
    before.feed.put("a")
    before.turns()
    assert [left.rule for left in before.state.unfinished()] == ["f.yaml::r"]
    after = bench(FakeRule("r", broken, ("a",)))
    reader = JournalReader(_journal_of(tmp_path, before.feed))
    after.engine.resume(reader)
    reader.close()
    after.turns()
    assert after.outbox.tags() == ["reactor/reaction/r/failed"]
    assert after.state.unfinished() == []


def test_plans_that_fail_while_the_disk_is_full_are_reported_once(bench, monkeypatch):
    """Each turn reads the same events again; their reports must not pile up."""

    def broken(event):
        raise RuleError("'x' is undefined", "f.yaml", 3)

    on = bench(FakeRule("r", broken, ("a",)))
    on.feed.put("a")
    real = on.state.save

    def full(**_):
        raise ReactorError("disk full")

    monkeypatch.setattr(on.state, "save", full)
    on.turns(5)
    monkeypatch.setattr(on.state, "save", real)
    on.turns()
    assert on.outbox.tags() == ["reactor/reaction/r/failed"]


def test_a_skipped_event_says_why(bench):
    """The counters keep the last reason, for `reactor rules`."""
    on = bench(FakeRule("r", lambda event: Plan((), "when: data.n is false")))
    on.feed.put("a")
    on.turns()
    counters = on.engine.statistics.of("f.yaml::r")
    assert (counters.matched, counters.skipped) == (1, 1)
    assert counters.last_skip == "when: data.n is false"
    assert on.outbox.fired == []


def test_events_of_the_user_reactor_are_not_reacted_to(bench):
    """As in Salt: what a runner reaction fires does not feed the rules."""
    on = bench(FakeRule("r", _calls("out")))
    on.feed.put("a", {"user": "Reactor"})
    on.turns()
    assert on.action.started == []


def test_a_chain_of_reactions_that_is_too_long_is_stopped_and_named(bench):
    """A loop ends, and an event says which rule was the last."""
    on = bench(FakeRule("r", _calls("out")))
    on.feed.put("a", {CAUSE: {"hops": MAX_CHAIN, "rule": "r"}})
    on.turns()
    assert on.action.started == []
    assert on.outbox.fired[0][0] == "reactor/loop"
    assert on.outbox.fired[0][1]["cause"]["rule"] == "r"


def test_an_action_that_is_not_known_here_fails_with_a_clear_line(bench):
    """A `caller` reaction on a master is a failed reaction, not an end of anything."""
    on = bench(FakeRule("r", lambda event: Plan((Call("caller", "test.ping"),))))
    on.feed.put("a")
    on.turns()
    assert "'caller' reactions do not run here" in on.outbox.fired[0][1]["error"]


def test_without_a_state_nothing_begins_and_nothing_is_lost(bench, monkeypatch):
    """While the disk is full the engine waits, then goes on with the same events."""
    on = bench(FakeRule("r", _calls("out")))
    on.feed.put("a")
    real = on.state.save

    def full(**_):
        raise ReactorError("disk full")

    monkeypatch.setattr(on.state, "save", full)
    assert on.engine.turn() is False
    assert on.action.started == []
    monkeypatch.setattr(on.state, "save", real)
    on.turns()
    assert len(on.action.started) == 1
    assert on.outbox.tags() == ["reactor/reaction/r/done"]


def test_when_the_workers_are_full_nothing_is_read(bench):
    """What waits stays in the journal."""
    on = bench(FakeRule("r", _calls("out")))
    on.feed.put("a")
    on.full = True
    on.turns()
    assert on.action.started == []
    assert on.engine.behind == 1
    assert not on.engine.has_work
    on.full = False
    assert on.engine.has_work
    on.turns()
    assert len(on.action.started) == 1


def test_a_cursor_past_events_without_rules_is_written_now_and_then(bench):
    """Not each turn, but after a while, and at the end."""
    on = bench(FakeRule("r", _calls("out"), ("x/*",)))
    on.feed.put("a")
    on.turns()
    assert on.state.cursor() is None
    on.time = 1.0
    on.turns()
    assert on.state.cursor() == ("b", 1)
    on.feed.put("a")
    on.turns()
    on.engine.save_cursor()
    assert on.state.cursor() == ("b", 2)


def test_what_was_under_way_is_resumed_behind_what_was_done(bench, tmp_path):
    """A call that was done does not run again; the next ones do, with the same reaction id."""
    rule = FakeRule("r", _calls("one", "two"))
    before = bench(rule, at_once=False)
    before.feed.put("a")
    before.turns()
    reaction = before.action.started[0][1]
    before.action.started[0][2]("ok", None)
    before.turns()
    journal = _journal_of(tmp_path, before.feed)
    after = bench(rule)
    reader = JournalReader(journal)
    after.engine.resume(reader)
    reader.close()
    after.turns()
    assert [call.function for call, _, _ in after.action.started] == ["two"]
    assert after.action.started[0][1].rule == reaction.rule
    assert after.state.unfinished() == []


def test_what_cannot_be_resumed_is_said_to_be_dead(bench, tmp_path):
    """A rule that is gone leaves no reaction behind in silence."""
    before = bench(FakeRule("r", _calls("one")), at_once=False)
    before.feed.put("a")
    before.turns()
    reader = JournalReader(_journal_of(tmp_path, before.feed))
    after = bench(FakeRule("other", _calls("one"), ("x",)))
    after.engine.resume(reader)
    reader.close()
    assert after.outbox.fired[0][0] == "reactor/reaction/r/dead"
    assert after.outbox.fired[0][1]["error"] == "its rule is gone"
    assert after.state.unfinished() == []


def test_a_report_in_the_journal_is_what_makes_a_reaction_finished(bench, tmp_path):
    """Killed between the report and the crossing off, it is crossed off and not run again."""
    rule = FakeRule("r", _calls("one"), ("a",))
    before = bench(rule, at_once=False)
    before.feed.put("a")
    before.turns()
    reaction = before.action.started[0][1]
    before.feed.put("reactor/reaction/r/done", {"id": reaction.id})
    reader = JournalReader(_journal_of(tmp_path, before.feed))
    reaction_again = reaction.id.replace("b-", f"{reader.bus_id}-", 1)
    reader.close()
    before.feed.all[1] = (2, wire.pack_event("reactor/reaction/r/done", {"id": reaction_again}))
    shutil.rmtree(tmp_path / "j.db")
    after = bench(rule)
    reader = JournalReader(_journal_of(tmp_path, before.feed, reader.bus_id))
    after.engine.resume(reader)
    reader.close()
    after.turns()
    assert after.action.started == []
    assert after.state.unfinished() == []


def test_rules_of_one_name_in_two_files_do_not_mix(bench):
    """Their reactions to one event have ids of their own, and both end."""
    one = FakeRule("r", _calls("x"), source=Source("one.yaml", 1))
    two = FakeRule("r", _calls("x"), source=Source("two.yaml", 1))
    on = bench(one, two, one)
    on.feed.put("a")
    on.turns()
    assert len({reaction.id for _, reaction, _ in on.action.started}) == 3
    assert on.outbox.tags() == ["reactor/reaction/r/done"] * 3
    assert on.state.unfinished() == []


def test_a_swap_keeps_the_counters_of_rules_that_stay(bench):
    """A reload does not make a rule look as if it had never fired."""
    stays, goes = FakeRule("stays", _calls("x")), FakeRule("goes", _calls("x"))
    on = bench(stays, goes)
    on.feed.put("a")
    on.turns()
    on.engine.swap(Snapshot((stays,)))
    assert on.engine.statistics.of(rule_key(stays)).fired == 1
    assert on.engine.statistics.of(rule_key(goes)).fired == 0


def test_an_event_that_cannot_be_decoded_is_stepped_over(bench):
    """Bytes that are no event end nothing."""
    on = bench(FakeRule("r", _calls("out")))
    on.feed.ready.append((1, b"tag\n\n\xc1"))
    on.feed.all.append((1, b"tag\n\n\xc1"))
    on.feed.put("a")
    on.turns()
    assert len(on.action.started) == 1


def test_a_rule_whose_name_no_tag_can_carry_still_reports(bench):
    """Control characters in a name are replaced in the tag."""
    on = bench(FakeRule("a\nb", _calls("out")))
    on.feed.put("a")
    on.turns()
    assert on.outbox.tags() == ["reactor/reaction/a?b/done"]


def _journal_of(path, feed, bus_id=None):
    journal = Journal(path / "j.db")
    if bus_id:
        with contextlib.closing(sqlite3.connect(journal.file)) as db, db:
            db.execute("UPDATE meta SET value = ? WHERE name = 'bus_id'", (bus_id,))
    journal.append([Fire(b"p", 1, 1, [raw for _, raw in feed.all])])
    journal.close()
    return path / "j.db"
