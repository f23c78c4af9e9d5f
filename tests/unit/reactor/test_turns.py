"""`mode` where nothing runs: on a simulated clock, with actions that last as long as is said."""

import heapq
import json
import random

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from bus.durations import DurationError
from bus.record import Event
from reactor.cli import program
from reactor.errors import ReactorError
from reactor.rules import turns as turns_module
from reactor.rules.deciding import Decider
from reactor.rules.memory import Memory
from reactor.rules.rehearsing import Durations
from reactor.rules.snapshot import Snapshot
from reactor.rules.turns import Turns
from reactor.suites import run_file
from reactor.testing import RuleTest
from tests.unit.reactor.rules.rule_tools import START, built, iso
from tests.unit.reactor.test_engine_rules import Bench


@pytest.fixture
def rules(tmp_path):
    """Return a function that makes a test of a rule ``r`` on ``x``."""

    def make(text, do="[{exec: [work, '{{ data.n }}']}]", **more):
        (tmp_path / "r.yaml").write_text(f"r:\n  on: x\n  do: {do}\n{text}")
        return RuleTest(tmp_path / "r.yaml", **more)

    return make


def _fired(rules, at, n, **data):
    """Return which runs an event brings about, by the number of the event of each."""
    made = rules.fire("x", {"n": n, **data}, at=at)
    return [call["exec"].split()[-1] if "exec" in call else call["event"] for call in made]


def test_single_turns_away_what_comes_while_one_runs(rules):
    """For a second, if nothing else is said; another key is another matter."""
    one = rules("  mode: single\n  by: data.k\n")
    assert len(_fired(one, "0s", 1, k="a")) == 1
    assert _fired(one, "0.9s", 2, k="a") == []
    assert one.reasons["r"] == "mode: single, and one is running for key a"
    assert one.outcomes[0]["state"] == "skipped"
    assert one.outcomes[0]["steps"][-1]["policy"] == "mode"
    assert len(_fired(one, "0.9s", 3, k="b")) == 1
    assert len(_fired(one, "1s", 4, k="a")) == 1
    assert len(one.calls) == 3


def test_queued_begins_when_the_one_before_ends(rules):
    """In order; what is beyond the limit is turned away."""
    one = rules(
        "  mode: queued\n  max: 3\n", "[{runner: a.b, args: ['{{ data.n }}']}]", takes="10s"
    )
    assert one.fire("x", {"n": 1}) == [{"runner": "a.b", "args": [1]}]
    assert one.fire("x", {"n": 2}, at="1s") == []
    assert one.reasons["r"] == "mode: queued behind 1"
    assert one.outcomes[0]["state"] == "waits"
    assert one.fire("x", {"n": 3}, at="2s") == []
    assert one.fire("x", {"n": 4}, at="3s") == []
    assert one.reasons["r"] == "mode: queued, 2 wait and max is 3"
    assert one.fire("x", {"n": 5}, at="11s") == [{"runner": "a.b", "args": [2]}]
    assert one.reasons["r"] == "mode: queued behind 2"
    assert one.outcomes[0]["steps"][-1]["why"] == "mode: its turn came after 9s"
    assert one.wait("5s") == []
    assert one.wait("5s") == [{"runner": "a.b", "args": [3]}]
    assert one.finish() == [{"runner": "a.b", "args": [5]}]
    assert [call["args"] for call in one.calls] == [[1], [2], [3], [5]]
    assert one.fire("x", {"n": 6}) == [{"runner": "a.b", "args": [6]}]


def test_parallel_with_max_makes_the_others_wait(rules):
    """Nothing is turned away."""
    one = rules("  mode: parallel\n  max: 2\n", "[{runner: a.b, args: ['{{ data.n }}']}]", takes=4)
    assert [len(one.fire("x", {"n": n}, at=n)) for n in (1, 2, 3)] == [1, 1, 0]
    assert one.reasons["r"] == "mode: 2 run, max 2"
    assert one.wait("2s") == [{"runner": "a.b", "args": [3]}]


def test_restart_keeps_later_actions_from_being_begun(rules):
    """What was begun was begun; the rest is taken back."""
    one = rules("  mode: restart\n", "[{runner: a.b}, {event: 'done/{{ data.n }}'}]")
    assert one.fire("x", {"n": 1}) == [{"runner": "a.b"}, {"event": "done/1"}]
    assert one.fire("x", {"n": 2}, at="500ms") == [{"runner": "a.b"}, {"event": "done/2"}]
    ended, began = one.outcomes
    assert (ended["state"], began["state"]) == ("ended", "runs")
    assert ended["why"] == "mode: restart, event 2 took its place after 500ms"
    assert [call["function"] for call in ended["unbegun"]] == ["done/1"]
    assert one.reasons == {}
    assert one.calls == [{"runner": "a.b"}, {"runner": "a.b"}, {"event": "done/2"}]
    assert one.fire("x", {"n": 3}, at="5s") == [{"runner": "a.b"}, {"event": "done/3"}]
    assert [outcome["state"] for outcome in one.outcomes] == ["runs"]


def test_what_is_handed_over_takes_no_time(rules):
    """An event, a line of the log, a job that nobody waits for; one that is waited for does."""
    handed = "[{event: e}, {log: l}, {local: test.ping, tgt: m}]"
    one = rules("  mode: single\n", handed, takes="1h")
    assert len(one.fire("x", {})) == len(one.fire("x", {})) == 3
    one = rules("  mode: single\n", "[{local: test.ping, tgt: m, wait: true}]")
    assert len(one.fire("x", {})) == 1
    assert one.fire("x", {}) == []


def test_times_of_actions_by_id_and_path(rules):
    """A named one takes what is said of it, in a loop too; pauses of a retry count."""
    do = (
        "[{event: 'a-{{ item }}', for_each: [1, 2], id: slow}, "
        "{runner: a.b, retry: {times: 1, backoff: 10s, jitter: 0}}]"
    )
    takes = {"slow": "30s", "do[1]": "5s"}
    one = rules("  mode: single\n", do, takes=takes, results={"do[1]": {"error": "no"}})
    assert len(one.fire("x", {"n": 1})) == 4  # two events, two attempts: 30 + 30 + 5 + 10 + 5 s
    assert one.fire("x", {}, at="79s") == []
    assert len(one.fire("x", {}, at="80s")) == 4
    one = rules("  mode: single\n", "[{runner: a.b, timeout: 200ms}]")
    assert [len(one.fire("x", {}, at=at)) for at in (0, "199ms", "200ms")] == [1, 0, 1]
    with pytest.raises(DurationError):
        rules("  mode: single\n", takes="soon")


def test_what_is_too_old_when_its_turn_comes_does_not_begin(rules):
    """And makes room for the next."""
    one = rules("  mode: queued\n  expires: 5s\n", takes="10s")
    assert len(_fired(one, 0, 1)) == 1
    assert _fired(one, 1, 2) == _fired(one, 6, 3) == []
    assert len(one.wait("4s")) == 1
    assert [(each["event"]["seq"], each["state"]) for each in one.outcomes] == [
        (2, "skipped"),
        (3, "runs"),
    ]
    assert one.outcomes[0]["why"] == "expires: the event is 9s old, expires 5s"


def test_an_error_takes_its_turn_and_no_time(rules):
    """As in the engine, which has a place for it before it fails."""
    one = rules("  mode: queued\n", "[{exec: [work, '{{ data.n }}']}]", takes="10s")
    assert one.fire("x", {}) == []
    assert "data.n is undefined" in one.errors["r"]
    assert len(_fired(one, 1, 1)) == 1
    assert one.fire("x", {}, at=2) == []
    assert one.reasons["r"] == "mode: queued behind 1"
    one.finish()
    assert "data.n is undefined" in one.errors["r"]


def test_what_was_due_earlier_begins_earlier(rules):
    """A window's end counts at its own time, not at that of the event after which it is seen."""
    text = "  mode: single\n  throttle: {once_after: 10s, by: data.k}\n"
    one = rules(text, "[{runner: a.b, args: ['{{ data.k }}']}]", takes="5s")
    one.fire("x", {"k": "a"}, at=0)
    one.fire("x", {"k": "b"}, at=3)
    one.fire("x", {"k": "c"}, at=7)
    assert one.fire("x", {"k": "d"}, at=30) == [
        {"runner": "a.b", "args": ["a"]},
        {"runner": "a.b", "args": ["c"]},
    ]
    assert one.reasons["r"] != ""


def test_too_many_that_wait_are_an_error(rules, monkeypatch):
    """Said in words, before they fill the memory."""
    monkeypatch.setattr(turns_module, "MAX_WAITING", 2)
    one = rules("  mode: queued\n", takes="1h")
    for n in range(3):
        _fired(one, n, n)
    with pytest.raises(ReactorError, match=r"rule r: more than 2 reactions wait"):
        _fired(one, 9, 9)


SUITE = """
takes: 30s
tests:
  the second waits:
    events: [{tag: x, data: {n: 1}}, {tag: x, data: {n: 2}, at: 10s}]
    skipped: {r: queued behind 1}
    expect: [{runner: a.b, args: [1]}, {runner: a.b, args: [2]}]
  it is over by then:
    takes: {"do[0]": 5s}
    events: [{tag: x, data: {n: 1}}, {tag: x, data: {n: 2}, at: 10s}]
    skipped: {r: queued}
    expect: [{runner: a.b, args: [1]}, {runner: a.b, args: [2]}]
"""


def test_suites_say_how_long_actions_take(rules, tmp_path):
    """For all tests of a file, or for one."""
    rules("  mode: queued\n", "[{runner: a.b, args: ['{{ data.n }}']}]")
    (tmp_path / "r.test.yaml").write_text(SUITE)
    first, second = run_file(tmp_path / "r.test.yaml")
    assert first["failures"] == []
    assert second["failures"] == ["rule r: it was not skipped, where 'queued' is expected"]


def test_on_the_command_line(rules, tmp_path, monkeypatch):
    """What waits is shown when its turn has come, at the end at the latest."""
    monkeypatch.setenv("REACTOR_CONFIG_DIR", str(tmp_path))
    rules("  mode: queued\n", "[{runner: a.b, args: ['{{ data.n }}']}]")
    events = [{"tag": "x", "data": {"n": n}, "at": at} for n, at in ((1, 0), (2, 1), (3, 7))]
    (tmp_path / "e.json").write_text(json.dumps(events))

    def run(*more):
        args = ["test", str(tmp_path / "r.yaml"), "--events", str(tmp_path / "e.json"), *more]
        found = CliRunner().invoke(program.program, args)
        assert found.exit_code == 0, found.output
        return found.output

    assert "queued" not in run()
    told = run("--takes", "5s")
    assert "r: mode: queued behind 1" in told
    assert "r, for event 2: would run" in told.partition("3  x")[2]
    assert "r, for event 3: would run" in told.partition("when its turn comes")[2]
    found = json.loads(run("--takes", "5s", "--json"))
    assert [one["state"] for one in found["after"]] == ["runs"]
    rules("  mode: restart\n", "[{runner: a.b}, {event: late}]")
    assert "not begun: event late" in run("--takes", "5s")


@given(
    st.sampled_from(["single", "queued", "restart", "parallel"]),
    st.integers(1, 3),
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 8)), min_size=1, max_size=25),
)
def test_each_event_runs_or_is_said_to_be_turned_away(kind, most, given_events):
    """Once, and one after the other in the order of the events where the mode says so."""
    limit = "" if kind in ("single", "restart") else f"  max: {most}\n"
    # An event's own number of rounds is how many seconds its reaction lasts.
    text = f"r:\n  on: x\n  mode: {kind}\n{limit}  for_each: data.list\n  do: [{{runner: a.b}}]\n"
    made, errors = built(text)
    assert errors == []
    decider = Decider({}, Memory(), lambda _seq: None)
    decider.use(Snapshot(made), START)
    turns, at, found, last = Turns(takes=Durations(1.0)), 0, [], {}
    for seq, (pause, rounds) in enumerate(given_events, 1):
        at += pause
        event = Event("x", {"_stamp": iso(at), "list": list(range(rounds))}, seq, "b")
        last[seq] = rounds
        for one in decider.decide(event, START + at):
            found += [(each, turns.now) for each in turns.decided(one, START + at)]
    found += [(each, None) for each in turns.finish()]
    ran = [one.event.seq for one, _ in found if one.state == "runs" and last[one.event.seq]]
    refused = {one.event.seq for one, _ in found if one.reason.startswith("mode: single")}
    refused |= {one.event.seq for one, _ in found if "and max is" in one.reason}
    empty = {seq for seq, rounds in last.items() if not rounds}
    assert sorted(ran) == sorted(set(last) - refused - empty)
    if kind in ("queued", "restart"):
        assert ran == sorted(ran)
    if kind != "queued":
        assert not refused or kind == "single"


def test_one_that_takes_a_minute_runs_sixty_times_an_hour(rules):
    """However often it is asked to."""
    one = rules("  mode: single\n", takes="1m")
    ran = sum(len(_fired(one, second, second)) for second in range(0, 3600, 5))
    assert ran == 60


TAKES = {"do[0]": 3.0, "do[1]": 2.0}


def _engine_begins(folder, text, arrivals):
    """Run the engine itself, with actions that end when they are said to; return what it begins."""
    bench = Bench(folder, text)
    ends, seen = [], 0
    todo = [(at, "", number) for number, at in enumerate(arrivals)]
    while todo or ends:
        at, name, number = heapq.heappop(ends if ends and (not todo or ends < todo) else todo)
        bench.now = at
        if not name:
            bench.fire("x", n=number)
        elif name not in bench.calls.cancelled:
            bench.calls.end(name)
        bench.turns()
        for begun in bench.started[seen:]:
            seconds = TAKES["do[0]" if begun.startswith("a") else "do[1]"]
            heapq.heappush(ends, (at + seconds, begun, 0))
        seen = len(bench.started)
    bench.state.close()
    bench.journal.close()
    return bench.started


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "mode", ["single", "restart", "queued", "queued\n  max: 3", "parallel\n  max: 2"]
)
def test_the_engine_begins_the_same(tmp_path, mode, seed):
    """The same reactions in the same order, and of those that are ended the same actions."""
    chance, at, arrivals = random.Random(seed), 0.0, []
    for number in range(30):
        at = int(at) + chance.randint(0, 5) + 0.03 * number  # so that nothing is at the same time
        arrivals.append(at)
    text = (
        f"r:\n  on: x\n  mode: {mode}\n  by: data.n % 2\n  do:\n"
        "    - event: 'a-{{ data.n }}'\n    - event: 'b-{{ data.n }}'\n"
    )
    (tmp_path / "r.yaml").write_text(text)
    rules = RuleTest(tmp_path / "r.yaml", takes=TAKES)
    for number, moment in enumerate(arrivals):
        rules.fire("x", {"n": number}, at=moment)
    rules.finish()
    told = [call["event"] for call in rules.calls]
    begun = _engine_begins(tmp_path, text, arrivals)
    assert sorted(told) == sorted(begun)
    assert [name for name in told if name[0] == "a"] == [name for name in begun if name[0] == "a"]
