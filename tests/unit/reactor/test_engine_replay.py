"""Replays that ask policies: past events, a clock of their stamps, and a memory of their own."""

from __future__ import annotations

import pytest

from bus.record import Event
from reactor.engine.service import MAX_REPLAYS, Service
from reactor.errors import ReactorError
from reactor.rules.replaying import Replaying, moment
from reactor.rules.snapshot import Snapshot
from tests.unit.reactor.rules.rule_tools import START, built, iso
from tests.unit.reactor.test_engine_rules import Bench

RULES = """
counted:
  on: x
  expires: 10m
  count: {at_least: 2, within: 1m, by: data.id, reset: true}
  do: [{event: 'counted-{{ data.n }}'}]
silent:
  on: beat
  none_of: beat
  within: 1m
  by: data.id
  do: [{event: 'silent-{{ data.id }}-{{ window.key }}'}]
hourly:
  every: 1h
  do: [{event: tick}]
idle:
  none_of: x
  within: 1h
  do: [{event: idle}]
plain:
  on: [x, beat]
  when: data.n == 3
  do: [{event: 'plain-{{ data.n }}'}]
"""


def _event(seq, at, tag, **data):
    return Event(tag, {"_stamp": iso(at), **data}, seq, "b")


def _named(outcomes):
    return [outcome.plan.calls[0].function for outcome in outcomes if outcome.acts]


@pytest.fixture
def replaying():
    rules, errors = built(RULES)
    assert errors == []
    events = {}

    def make(**more):
        made = Replaying(Snapshot(rules), {}, events.get, **more)

        def feed(*given):
            event = _event(*given[:3], **given[3])
            events[event.seq] = event
            return _named(made.event(event))

        made.feed = feed
        return made

    return make


def test_policies_see_what_is_replayed_at_the_times_of_its_stamps(replaying):
    """Years later too: an age counts from the event's own time."""
    one = replaying()
    assert one.feed(1, 0, "x", {"id": "a", "n": 1}) == []
    assert one.feed(2, 30, "x", {"id": "a", "n": 2}) == ["counted-2"]
    assert one.feed(3, 31, "x", {"id": "a", "n": 3}) == ["plain-3"]
    assert one.feed(4, 300, "x", {"id": "a", "n": 4}) == []
    assert one.feed(5, 301, "x", {"id": "a", "n": 5}) == ["counted-5"]


def test_what_waits_is_due_between_events_and_at_the_end(replaying):
    """Up to the end that is given, and no further."""
    one = replaying()
    one.feed(1, 0, "beat", {"id": "a", "n": 1})
    assert one.feed(2, 90, "beat", {"id": "b", "n": 2}) == ["silent-a-a"]
    assert _named(one.end(START + 149)) == []
    assert _named(one.end(START + 150)) == ["silent-b-b"]


def test_rules_that_act_by_the_clock_alone_are_left_out(replaying):
    """Nothing announces itself, however long the time."""
    one = replaying()
    assert one.end(START + 10**8) == []
    assert one.matches("x")
    assert not one.matches("reactor/schedule/hourly")


def test_only_wanted_rules_are_asked(replaying):
    """By whatever the caller says."""
    one = replaying(wants=lambda rule: rule.name == "silent")
    assert not one.matches("x")
    assert one.feed(1, 0, "beat", {"id": "a", "n": 3}) == []


def test_an_event_that_does_not_say_when_it_was_fired_is_as_old_as_the_one_before(replaying):
    """Time never runs back."""
    assert moment(Event("x", {}, 1, "b")) == 0.0
    one = replaying()
    one.feed(1, 50, "x", {"id": "a", "n": 1})
    made = Event("x", {"_stamp": "?", "id": "a", "n": 2}, 2, "b")
    assert _named(one.event(made)) == ["counted-2"]


class TestService:
    """The engine's method, over a journal."""

    @pytest.fixture
    def bench(self, tmp_path):
        bench = Bench(tmp_path, RULES)
        bench.replay = Service(bench.engine, None, tmp_path / "journal").methods()["replay"]
        yield bench
        bench.state.close()
        bench.journal.close()

    def _history(self, bench):
        for number in range(1, 5):
            bench.now = number * 10
            bench.fire("x", id="a", n=number)
        bench.fire("beat", id="a", n=0)
        bench.turns()
        for name in bench.started:
            bench.calls.end(name)
        bench.turns()
        assert sorted(bench.started) == ["counted-2", "counted-4", "plain-3"]
        bench.started.clear()

    def test_one_run_goes_over_several_calls(self, bench):
        """Counts go on from one to the next, and the present is not touched."""
        self._history(bench)
        assert bench.replay({"seqs": [1], "run": "r1", "policies": "begin"})["begun"] == 0
        told = bench.replay({"seqs": [2, 3, 4, 5], "run": "r1", "policies": "go on"})
        assert told == {"taken": 4, "matched": 8, "begun": 3}
        end = {"seqs": [], "run": "r1", "policies": "go on", "until": START + 9999}
        assert bench.replay(end)["begun"] == 1
        assert bench.started == ["counted-2", "plain-3", "counted-4", "silent-a-a"]
        bench.now = 41
        bench.fire("x", id="a", n=9)
        bench.turns()
        assert len(bench.started) == 4

    def test_a_replayed_reaction_goes_on_after_a_kill(self, bench):
        """With its window, under the same id; and ids are other ones than those of then."""
        self._history(bench)
        bench.replay({"seqs": [5], "run": "r1", "policies": "begin", "until": START + 9999})
        assert bench.started == ["silent-a-a"]
        before = {firing.reaction.id for firing in bench.engine._under_way.values()}
        bench.die()
        assert bench.started == ["silent-a-a"]
        assert {firing.reaction.id for firing in bench.engine._under_way.values()} == before
        assert all("replay-r1" in key for _, key in bench.engine._under_way)

    def test_a_run_that_the_engine_does_not_know_is_refused(self, bench):
        """After a restart the counts are gone, so it must not go on as if they were there."""
        with pytest.raises(ReactorError, match="started anew during the replay"):
            bench.replay({"seqs": [], "run": "r1", "policies": "go on"})

    def test_runs_that_nobody_ends_give_way(self, bench):
        """So that they cannot fill the memory."""
        for number in range(MAX_REPLAYS + 1):
            bench.replay({"seqs": [], "run": str(number), "policies": "begin"})
        bench.replay({"seqs": [], "run": "1", "policies": "go on"})
        with pytest.raises(ReactorError):
            bench.replay({"seqs": [], "run": "0", "policies": "go on"})

    def test_without_policies_each_event_stands_for_itself(self, bench):
        """As for a single one: conditions are asked."""
        self._history(bench)
        told = bench.replay({"seqs": [1, 3], "run": "r1", "rule": "counted"})
        assert told == {"taken": 2, "matched": 2, "begun": 2}
        assert bench.started == ["counted-1", "counted-3"]
