"""Traces: bounded for each rule, without secrets, and the same after a restart."""

import pytest

from bus.record import CAUSE, Event
from reactor.engine.firing import Firing, Reaction
from reactor.engine.service import Keeper
from reactor.engine.traces import MAX_SIZE, Skip, Traces
from reactor.engine.tracestore import TraceStore, read_traces
from reactor.rules.model import Call, Source
from reactor.rules.redaction import hide_literals, is_secret, redact, redact_text


class FakeRule:
    """As much of a rule as a trace shows."""

    def __init__(self, name):
        self.name, self.source = name, Source("r.yaml", 3)


def _firing(seq, rule="r", cause=None, **values):
    event = Event("a/b", {"_stamp": "2026-01-01T00:00:00+00:00", CAUSE: cause}, seq, "b")
    call = Call("local", "test.arg", ("x",), values, "web1", ident="do[0]")
    reaction = Reaction(f"b-{seq}-{rule}", rule, "r.yaml:3", "a/b", seq, event.id, 1)
    return Firing(reaction, (seq, f"r.yaml::{rule}"), (call,), True, 5.0, event=event)


def _end(firing, error=None):
    firing.finish(0, "ok", error)
    firing.reported, firing.seconds = True, 0.25


def test_a_busy_rule_does_not_push_out_a_rare_one():
    """Each rule has room of its own, and each kind of trace too."""
    traces = Traces(keep=3)
    rare = _firing(1, "rare")
    traces.began("r.yaml::rare", rare)
    failed = _firing(2, "busy")
    traces.began("r.yaml::busy", failed)
    _end(failed, "broken")
    traces.failed("r.yaml::busy", failed)
    for seq in range(10, 30):
        traces.began("r.yaml::busy", _firing(seq, "busy"))
        traces.skipped("r.yaml::busy", Skip(seq + 100, "a", "", FakeRule("busy"), "no"))
    assert [trace["event"]["seq"] for trace in traces.find(rule="rare")] == [1]
    found = traces.find(rule="busy")
    assert [trace["event"]["seq"] for trace in found] == [129, 128, 127, 29, 28, 27, 2]
    assert [trace["error"] for trace in traces.find(failed=True)] == ["broken"]
    fired = traces.find(rule="busy", fired=True)
    assert [trace["event"]["seq"] for trace in fired] == [29, 28, 27, 2]


def test_one_that_fails_after_it_was_pushed_out_is_kept_as_failed():
    """A failure is never lost to reactions that came after it."""
    traces = Traces(keep=1)
    firing = _firing(1)
    traces.began("r.yaml::r", firing)
    traces.began("r.yaml::r", _firing(2))
    _end(firing, "late")
    traces.failed("r.yaml::r", firing)
    assert [t["event"]["seq"] for t in traces.find(failed=True)] == [1]


def test_a_trace_tells_all_of_a_reaction():
    """Event, cause, arguments, result and times; a secret is not among them."""
    traces = Traces(keep=3, epoch=100.0)
    firing = _firing(7, cause={"rule": "x", "seq": 6}, password="hunter2", n=1)
    traces.began("r.yaml::r", firing)
    assert traces.find(seq=7)[0]["state"] == "under way"
    _end(firing)
    [trace] = traces.find(reaction="b-7-r")
    assert (trace["state"], trace["began"], trace["seconds"]) == ("done", 105.0, 0.25)
    assert trace["cause"] == {"rule": "x", "seq": 6}
    [call] = trace["calls"]
    assert (call["args"], call["kwargs"]) == (["x"], {"password": "***", "n": 1})
    assert (call["target"], call["result"]) == ("web1", "ok")
    assert "hunter2" not in repr(trace)


def test_large_events_are_cut_at_once():
    """What a large event led to is not kept whole in memory."""
    traces = Traces(keep=3)
    firing = _firing(1, text="x" * (MAX_SIZE + 1))
    traces.began("r.yaml::r", firing)
    _end(firing)
    traces.condense("r.yaml::r", firing)
    [trace] = traces.find()
    assert len(trace["calls"][0]["kwargs"]["text"]) <= 500


def test_rules_that_are_gone_leave_their_room_to_others():
    """With very many rules each keeps fewer; without them, none of theirs is kept."""
    traces = Traces(keep=20)
    for seq in range(30):
        traces.began("r.yaml::r", _firing(seq))
    traces.keep_only({"r.yaml::r", *(f"k{n}" for n in range(10_000))})
    assert len(traces.find()) == 1
    traces.keep_only(set())
    assert traces.find() == []


def test_traces_survive_a_restart(tmp_path):
    """They are written when there is nothing else to do, and what was under way again later."""
    store = TraceStore(tmp_path / "traces.db")
    now = [0.0]
    traces = Traces(keep=3)
    keeper = Keeper(traces, store, lambda: now[0])
    firing = _firing(1)
    traces.began("r.yaml::r", firing)
    keeper.idle()
    assert read_traces(tmp_path) == []
    now[0] = 3.0
    keeper.idle()
    assert [trace["state"] for trace in read_traces(tmp_path)] == ["under way"]
    _end(firing)
    keeper.close()
    store.close()
    after = Traces(keep=3)
    after.load(read_traces(tmp_path))
    assert [trace["state"] for trace in after.find(rule="r")] == ["done"]
    assert (tmp_path / "traces.db").stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_broken_costs_the_traces_only(tmp_path, caplog):
    """Nothing ends because of it, and the log says so."""
    (tmp_path / "traces.db").write_text("no database" * 100)
    assert read_traces(tmp_path) == []
    store = TraceStore(tmp_path / "traces.db")
    store.save({"k": []})
    store.close()
    assert "traces" in caplog.text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("login --password=hunter2 now", "login --password=*** now"),
        ('{"token": "abc"}', '{"token": ***}'),
        ("Authorization: Bearer abcdef123", "Authorization: ***"),
        ("https://me:pw@host/x", "https://me:***@host/x"),
        ("data.password == 'x' is false", "data.password == 'x' is false"),
        (
            "do[0].password: data.password is undefined",
            "do[0].password: data.password is undefined",
        ),
        ("the monkey: 3", "the monkey: 3"),
        (
            "POST https://hooks.slack.com/services/T0/B0/x1 now",
            "POST https://hooks.slack.com/*** now",
        ),
        ("https://api.telegram.org/bot12:ab/sendMessage", "https://api.telegram.org/bot***"),
        ("https://discord.com/api/webhooks/1/ab", "https://discord.com/api/webhooks/***"),
        ("https://discord.com/channels/1", "https://discord.com/channels/1"),
        ("use xoxb-123456789012 and ghp_abcdefgh12345", "use xoxb-*** and ghp_***"),
    ],
)
def test_secrets_in_texts(text, shown):
    """What looks like a secret is hidden; what only speaks of one stays readable."""
    assert redact_text(text).startswith(shown)


def test_secrets_by_name_and_bounds():
    """Names decide at any depth; sizes and depths are bounded."""
    value = {"a": [{"apiKey": "k", "deep": {"secret": b"x"}}], "keyboard": 1, 3: (1, 2)}
    assert redact(value) == {
        "a": [{"apiKey": "***", "deep": {"secret": "***"}}],
        "keyboard": 1,
        "3": [1, 2],
    }
    assert len(redact(list(range(1_000)))) == 51
    assert len(redact({str(n): n for n in range(1_000)})) == 51
    nested = []
    for _ in range(100):
        nested = [nested]
    assert "…" in repr(redact(nested))
    assert is_secret("DB_PASSWORD")
    assert hide_literals("data.token == 'abc'") == "data.token == '***'"
