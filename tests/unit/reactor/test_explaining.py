"""Why a rule did not fire: every case that `reactor why` tells apart."""

import pytest

from bus.record import CAUSE, Event
from reactor.cli.telling import explanation, trace_lines
from reactor.engine.explaining import Known, explain, would
from reactor.rules.loading import RuleSet
from reactor.rules.native import NativeRule
from reactor.rules.nearness import nearest

RULES = """
hello:
  on: my/hello
  when: data.n > 3
  do: [{event: my/answered}]
off:
  on: my/*
  enabled: false
  do: [{event: x}]
job:
  on: salt/job/*/ret/*
  do: [{local: test.ping, tgt: "{{ data.id }}"}]
"""


@pytest.fixture
def snapshot(tmp_path):
    (tmp_path / "r.yaml").write_text(RULES)
    (tmp_path / "bad.yaml").write_text("x:\n  onn: a\n  do: []\n")
    return RuleSet(rules=[str(tmp_path)]).load()


def _text(found):
    return "\n".join(text for text, _ in explanation(found))


def _event(tag, data=None, seq=5):
    return Event(tag, {"_stamp": "2026-01-01T00:00:00+00:00", **(data or {})}, seq, "b")


def test_a_condition_with_its_values_and_what_else_there_is(snapshot):
    """What the rule would say now, the disabled one and the file that does not load."""
    text = _text(explain(_event("my/hello", {"n": 1}), snapshot, Known()))
    assert "when: data.n > 3 is false (data.n is 1)" in text
    assert "off: disabled" in text
    assert "failed to load" in text
    assert "bad.yaml:2" in text


CONDITIONS = """
all:
  on: my/all
  when:
    - data.n > 3
    - data.name == "x" or data.missing
    - data.password == "hunter2"
    - data.n < data.text
  count: {at_least: 2, within: 1m}
  do: [{event: x}]
pair:
  all_of: [my/all, my/other]
  within: 1m
  when: data.n == 1
  do: [{event: x}]
wrong:
  on: my/all
  vars: {n: "{{ data.n }}"}
  do: [{event: x}]
"""


def test_each_condition_with_its_values(tmp_path):
    """Those that held too, and behind one that did not; what is secret is not told."""
    (tmp_path / "r.yaml").write_text(CONDITIONS)
    rules = RuleSet(rules=[str(tmp_path)]).load()
    data = {"n": 5, "name": "x", "password": "planted", "text": "t"}
    found = explain(_event("my/all", data), rules, Known())
    assert [p.message for p in rules.problems] == []
    told = {verdict["rule"]: verdict["conditions"] for verdict in found["rules"]}
    first, second, secret, broken = told["all"]
    assert first == {"text": "data.n > 3", "state": "true", "values": ["data.n is 5"]}
    assert second["state"] == "true"
    assert second["values"] == ["data.missing is undefined", "data.name is 'x'"]
    assert secret["state"] == "false"
    assert "hunter2" not in str(secret)
    assert "planted" not in str(secret)
    assert broken["state"].startswith("error: ")
    assert [each["state"] for each in told["pair"]] == ["false"]
    assert told["wrong"] == []


def test_conditions_that_cannot_be_worked_out(snapshot, monkeypatch):
    """Whoever asks gets an answer all the same."""

    def fall(_rule, _event):
        raise RuntimeError("it fell over, password=planted")

    monkeypatch.setattr(NativeRule, "accounts", fall)
    found = explain(_event("my/hello", {"n": 5}), snapshot, Known())
    (said,) = found["rules"][0]["conditions"]
    assert said["state"].startswith("error: it fell over")
    assert "planted" not in str(said)


def test_a_trace_beats_a_guess(snapshot):
    """What is recorded is told, also of a rule that is gone."""
    rule = next(rule for rule in snapshot.rules if rule.name == "hello")
    done = {
        "key": f"{rule.source.path}::hello",
        "state": "done",
        "seconds": 0.002,
        "calls": [{"kind": "event", "function": "my/answered", "result": {"seq": 9}}],
    }
    gone = {
        "key": "old",
        "rule": "old",
        "source": "o.yaml:1",
        "state": "failed",
        "id": "b-5-old-1",
        "error": "o.yaml:1: it broke",
        "calls": [],
    }
    found = explain(_event("my/hello", {"n": 1}), snapshot, Known(traces=[done, gone]))
    text = _text(found)
    assert "hello: ok in 2 ms" in text
    assert '→ {"seq": 9}' in text
    assert "old: failed: it broke" in text
    assert "reactor dead retry b-5-old-1" in text


def test_a_report_of_the_journal_tells_what_no_trace_does(snapshot):
    """After a crash the journal still knows how it ended."""
    rule = next(rule for rule in snapshot.rules if rule.name == "hello")
    report = {
        "rule": "hello",
        "source": str(rule.source),
        "id": "i",
        "seconds": 1.5,
        "calls": [],
    }
    found = explain(_event("my/hello"), snapshot, Known(reports=[report]))
    assert "hello: ok in 1.5 s" in _text(found)


@pytest.mark.parametrize(
    ("data", "known", "said"),
    [
        ({"user": "Reactor"}, Known(), "user: Reactor"),
        ({CAUSE: {"hops": 32, "rule": "q", "seq": 1, "tag": "t"}}, Known(), "chain of 32"),
        ({}, Known(read_upto=3, is_running=True), "2 events before it wait"),
        ({}, Known(read_upto=3), "the reactor is not running"),
    ],
)
def test_what_stops_all_rules(snapshot, data, known, said):
    """An event of the reactor, a loop, and one that was not read yet."""
    assert said in _text(explain(_event("my/hello", data), snapshot, known))


def test_no_event_and_no_rule(snapshot):
    """Which rules would match is told, and without one, which nearly do."""
    assert "hello: would match: if its conditions hold" in _text(would("my/hello", snapshot))
    text = _text(would("my/helo", snapshot, ["something"]))
    assert "no rule matches this tag (2 in force)" in text
    assert "hello: on my/hello: part 2 is 'helo', not 'hello'" in text
    assert "not known: something" in text


@pytest.mark.parametrize(
    ("tag", "why"),
    [
        ("My/hello", "only upper and lower case differ"),
        ("my/hello/", "only a slash or blank at an end differs"),
        ("my/hello/x", "the tag goes on: 'x'"),
        ("salt/job/1/ret", "the tag ends before '*'"),
    ],
)
def test_in_what_a_tag_differs(snapshot, tag, why):
    """The difference is named exactly."""
    assert nearest(tag, snapshot.rules)[0].why == why


def test_globs_and_the_engines_own_events(snapshot, tmp_path):
    """A glob for everything does not see reactor/..., and that is said."""
    (tmp_path / "all.yaml").write_text("all:\n  on: '*'\n  do: [{event: x}]\n")
    snapshot = RuleSet(rules=[str(tmp_path / "all.yaml")]).load()
    assert "only globs that begin with reactor/" in nearest("reactor/behind", snapshot.rules)[0].why


def test_trace_lines_are_safe_for_a_terminal():
    """Data of other hosts cannot steer it."""
    trace = {
        "event": {"tag": "a\x1b[2J", "seq": 1, "stamp": ""},
        "rule": "r",
        "state": "skipped",
        "why": "no\x07",
    }
    [(line, colour)] = trace_lines([trace])
    assert "\x1b" not in line
    assert (colour, "\\x07" in line) == ("yellow", True)


def test_each_part_of_a_rule_is_said_once(snapshot):
    """What stopped it stands in its line; what passed before that below."""
    rule = next(rule for rule in snapshot.rules if rule.name == "hello")
    steps = [
        {"policy": "count", "passed": True, "why": "3 of 2"},
        {"policy": "throttle", "passed": False, "why": "throttle: too soon"},
        {"policy": "throttle", "passed": False, "why": "throttle: too soon"},
    ]
    trace = {"key": f"{rule.source.path}::hello", "state": "skipped", "why": "throttle: too soon"}
    found = explain(_event("my/hello"), snapshot, Known(traces=[{**trace, "steps": steps}]))
    text = _text(found)
    assert text.count("too soon") == 1
    assert "count: 3 of 2" in text
