"""Rules that are switched off and on: what is remembered, what ends, and what is told."""

import sqlite3

import pytest

from bus.record import Event
from reactor.engine.explaining import Known, explain, would
from reactor.engine.state import State, read_switches
from reactor.engine.statistics import Statistics, describe_rules
from reactor.engine.switchboard import Switchboard
from reactor.errors import ReactorError
from reactor.rules.identity import rule_key
from reactor.rules.snapshot import Snapshot
from reactor.rules.switches import UnknownRuleError
from tests.unit.reactor.rules.rule_tools import START, built
from tests.unit.reactor.test_engine_rules import Bench

RULES = """
web:
  on: my/*
  do: [{exec: [web]}]
web_too:
  on: my/*
  do: [{event: out/too}]
tick:
  every: 10s
  do: [{event: out/tick}]
quiet:
  on: my/*
  enabled: false
  do: [{event: out/quiet}]
"""


@pytest.fixture
def state(tmp_path):
    opened = State(tmp_path / "r.db")
    yield opened
    opened.close()


def _board(state, text=RULES, now=1767225600.0):
    board = Switchboard(state, lambda: now)
    board.use(Snapshot(built(text)[0]))
    return board


def _names(snapshot):
    return [rule.name for rule in snapshot.rules]


def test_off_and_on_again(state):
    """What changed is told apart from what was so already."""
    board = _board(state)
    [one] = board.switch(["web"], "alice", on=False)
    assert (one.on, one.changed) == (False, True)
    assert one.why == "switched off by alice at 2026-01-01 00:00:00 UTC"
    assert _names(board.in_force()) == ["web_too", "tick"]
    found = board.switch(["web*"], "bob", on=False)
    assert [(each.rule, each.changed) for each in found] == [("web", False), ("web_too", True)]
    assert board.off["web"].user == "alice"
    assert [each.on for each in board.switch(["*"], "bob", on=True)] == [False, True, True, True]
    assert _names(board.in_force()) == ["web", "web_too", "tick"]
    assert state.switches() == []


def test_it_survives_a_restart_and_a_file_that_is_away_for_a_moment(state, tmp_path):
    """A rule that comes back under its name is still off, and can be switched on while gone."""
    _board(state).switch(["web"], "alice", on=False)
    state.close()
    again = State(tmp_path / "r.db")
    try:
        board = _board(again)
        assert _names(board.in_force()) == ["web_too", "tick"]
        assert _names(board.use(Snapshot())) == []
        assert _names(board.use(Snapshot(built(RULES)[0]))) == ["web_too", "tick"]
        board.use(Snapshot())
        with pytest.raises(UnknownRuleError):
            board.switch(["web"], "alice", on=False)
        [one] = board.switch(["web"], "alice", on=True)
        assert (one.changed, one.why) == (True, "its file is gone")
        assert again.switches() == []
    finally:
        again.close()


def test_one_wrong_name_switches_nothing(state):
    """All or none."""
    board = _board(state)
    with pytest.raises(UnknownRuleError, match="did you mean tick"):
        board.switch(["web", "tik"], "alice", on=False)
    assert not board.off
    assert state.switches() == []


def test_what_cannot_be_written_down_is_not_switched(state):
    """Else a restart would bring back what somebody was told is off."""
    board = _board(state)
    other = sqlite3.connect(state.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    state._db.execute("PRAGMA busy_timeout = 1")
    with pytest.raises(ReactorError, match="cannot be written"):
        board.switch(["web"], "alice", on=False)
    other.execute("ROLLBACK")
    other.close()
    assert not board.off
    assert len(board.in_force().rules) == 3


def test_the_event(state):
    """Its tag names the rule, with nothing that a tag may not have."""
    text = 'web:\n  on: my/*\n  do: [{event: "out/x"}]\n'
    board = _board(state, text)
    [one] = board.switch(["web"], "alice", on=False)
    tag, data = board.event(one, "alice")
    assert tag == "reactor/rule/web/disabled"
    assert data == {
        "rule": "web",
        "user": "alice",
        "at": "2026-01-01T00:00:00+00:00",
        "sources": ["r.yaml:1"],
    }
    [one] = board.switch(["web"], "bob", on=True)
    assert board.event(one, "bob")[0] == "reactor/rule/web/enabled"


def test_a_database_of_before_is_read(tmp_path):
    """One that has no such table yet gets it."""
    path = tmp_path / "r.db"
    first = State(path)
    first._db.execute("DROP TABLE switches")
    first.close()
    second = State(path)
    assert second.switches() == []
    second.close()
    with sqlite3.connect(path) as database:
        assert read_switches(database) == []
    database.close()


class Switching(Bench):
    """A bench with a switchboard between the rules and the engine."""

    def in_force(self, rules):
        self.board = Switchboard(self.state, lambda: START + self.now)
        return self.board.use(Snapshot(rules))

    def switch(self, *names, on):
        self.board.switch(names, "alice", on=on)
        self.engine.swap(self.board.in_force())


@pytest.fixture
def bench(tmp_path):
    made = Switching(tmp_path, RULES)
    yield made
    made.state.close()
    made.journal.close()


def test_what_began_ends_and_nothing_new_begins(bench):
    """Until it is switched on again; what came meanwhile is not made up for."""
    bench.fire("my/1")
    bench.turns()
    bench.switch("web", on=False)
    bench.fire("my/2")
    bench.turns()
    assert bench.started.count("web") == 1
    bench.calls.end("web")
    bench.turns()
    assert "reactor/reaction/web/done" in bench.outbox.tags()
    bench.switch("web", on=True)
    bench.fire("my/3")
    bench.turns()
    assert bench.started.count("web") == 2


def test_counters_and_traces_stay(bench):
    """A rule that is off can still be looked at."""
    bench.fire("my/1")
    bench.turns()
    bench.calls.end("web")
    bench.turns()
    bench.switch("web", on=False)
    rows = describe_rules(bench.engine.snapshot, bench.engine.statistics, rule_key)["rules"]
    row = next(row for row in rows if row["name"] == "web")
    assert (row["state"], row["fired"], row["switched_off"]["user"]) == ("off", 1, "alice")
    assert row["why_off"].startswith("switched off by alice at ")
    assert next(row for row in rows if row["name"] == "quiet")["why_off"] == "enabled: false"


def test_a_schedule_is_off_too(bench):
    """No clock makes it act, and its time counts anew from when it is on again."""
    bench.switch("tick", on=False)
    bench.at(25)
    assert "reactor/schedule/tick" not in bench.outbox.tags()
    bench.switch("tick", on=True)
    bench.at(30)
    assert "reactor/schedule/tick" not in bench.outbox.tags()
    bench.at(36)
    assert "reactor/schedule/tick" in bench.outbox.tags()


def test_what_was_under_way_at_a_kill_is_begun_again(bench):
    """It was matched while the rule was on, and must not be lost with it."""
    bench.fire("my/1")
    bench.turns()
    bench.switch("web", on=False)
    bench.die()
    assert sorted(bench.started) == ["out/too", "web"]
    bench.fire("my/2")
    bench.turns()
    assert sorted(bench.started) == ["out/too", "out/too", "web"]


def _verdicts(snapshot, known=None):
    event = Event("my/1", {"_stamp": "2026-01-01T00:00:00+00:00"}, 5, "b")
    return explain(event, snapshot, known or Known())


def test_why_says_who_and_when(state):
    """For an event that came, and for a tag of which there is none."""
    board = _board(state)
    board.switch(["web"], "alice", on=False)
    said = "switched off by alice at 2026-01-01 00:00:00 UTC"
    off = {one["rule"]: one for one in _verdicts(board.in_force())["disabled"]}
    assert (off["web"]["state"], off["web"]["why"]) == ("switched off", said)
    assert off["quiet"]["why"] == "enabled: false"
    off = {one["rule"]: one for one in would("my/2", board.in_force())["disabled"]}
    assert off["web"]["why"] == said


def test_what_it_did_before_it_was_switched_off_is_still_told(state):
    """Once, with a note, and not as if its file were gone."""
    board = _board(state)
    board.switch(["web"], "alice", on=False)
    [(rule, _)] = board.in_force().switched_off
    trace = {"rule": "web", "key": rule_key(rule), "source": "r.yaml:1", "state": "done"}
    found = _verdicts(board.in_force(), Known(traces=[trace]))
    told = [one for one in found["rules"] if one["rule"] == "web"]
    assert [one["note"] for one in told] == [
        "it was switched off by alice at 2026-01-01 00:00:00 UTC"
    ]
    assert "web" not in {one["rule"] for one in found["disabled"]}


def test_counters_of_nothing():
    """A snapshot without switches says so of each rule."""
    [*rows] = describe_rules(Snapshot(built(RULES)[0]), Statistics(), rule_key)["rules"]
    assert {row["name"]: row["state"] for row in rows}["web"] == "on"
    assert all(row["switched_off"] is None for row in rows)
