"""Waiting for the returns of a job: with a link server and a clock of the test's own."""

from __future__ import annotations

import pytest

from bus import wire
from bus.errors import RemoteError
from bus.jid import JidMaker, format_jid, moment_of
from reactor.engine import jobreturns
from reactor.engine.actions.local import LocalAction
from reactor.engine.firing import Reaction
from reactor.engine.jobreturns import JobReturns, Word
from reactor.rules.model import Call

REACTION = Reaction("b-7-r-0", "r", "f.yaml:1", "my/tag", 7, "b-7", 2)
START = 1_800_000_000.0
JID = format_jid(int(START * 1_000_000))


class Link:
    """A link server that answers when the test says so."""

    def __init__(self):
        self.asked, self.returns = [], {}

    def call(self, method, params, on_reply):
        self.asked.append((method, params, on_reply))

    def answer(self, **job):
        method, _, on_reply = self.asked.pop(0)
        assert method == "jobs.get"
        on_reply({"returns": dict(self.returns), **job}, None)

    def has(self, **returns):
        self.returns |= {
            minion: {"return": value, "retcode": 0, "success": True}
            for minion, value in returns.items()
        }


class Bench:
    def __init__(self):
        self.link, self.now, self.ends = Link(), START, []
        self.returns = JobReturns(self.link, "inproc://none", None, lambda: self.now)

    def wait(self, *minions, missing=(), seconds=10.0):
        pub = {"jid": JID, "minions": [*minions, *missing], "missing": list(missing)}
        return self.returns.wait("test.ping", pub, seconds, lambda *end: self.ends.append(end))

    def at(self, seconds):
        self.now = START + seconds
        self.returns.tick()

    def hear(self, *minions, kind="ret", reason=""):
        self.returns.take([Word(JID, kind, minion, reason) for minion in minions])


@pytest.fixture
def bench():
    return Bench()


def test_a_job_is_over_once_all_have_returned(bench):
    """The link server is asked when the events say that nothing more is to come."""
    bench.wait("a", "b")
    bench.link.answer()
    bench.hear("a")
    assert bench.link.asked == []
    bench.hear("b", "stranger")
    bench.link.has(a=1, b=[2])
    bench.link.answer()
    [(result, error)] = bench.ends
    assert (result["returns"], result["failed"], result["silent"]) == ({"a": 1, "b": [2]}, [], {})
    assert (result["jid"], result["minions"], error) == (JID, ["a", "b"], None)
    bench.hear("a")
    bench.at(99)
    assert (len(bench.ends), bench.link.asked) == (1, [])


def test_what_returned_before_anybody_listened_counts(bench):
    """As after a restart of the reactor."""
    bench.link.has(a=1)
    bench.wait("a")
    bench.link.answer()
    assert bench.ends[0][0]["returns"] == {"a": 1}


def test_a_return_that_is_heard_while_the_question_is_under_way_is_asked_for_again(bench):
    """The answer may be older than the event; without news there is no second question."""
    bench.wait("a")
    bench.hear("a")
    bench.link.answer()
    assert len(bench.link.asked) == 1
    bench.link.answer()
    assert bench.link.asked == []
    bench.at(1.9)
    assert bench.link.asked == []
    bench.at(2)
    bench.link.has(a=1)
    bench.link.answer()
    assert bench.ends[0][0]["returns"] == {"a": 1}


def test_what_did_not_come_in_time_is_named_with_what_did(bench):
    """The result has both."""
    bench.wait("a", "b", "c", missing=["d"])
    bench.link.answer()
    bench.hear("c", kind="gone", reason="was started anew")
    bench.link.has(a=1)
    bench.at(9.9)
    bench.link.answer()
    assert bench.ends == []
    bench.at(10)
    bench.link.answer()
    [(result, error)] = bench.ends
    assert result["returns"] == {"a": 1}
    assert result["silent"] == {
        "b": "did not answer in time",
        "c": "was started anew",
        "d": "is not connected",
    }
    assert error == ("test.ping: b did not answer in time; d is not connected; c was started anew")


def test_the_time_is_that_of_the_job_so_a_restart_does_not_prolong_it(bench):
    """A second reactor that finds the job again waits for what is left."""
    bench.now = START + 9
    bench.wait("a")
    bench.link.answer()
    bench.at(10)
    bench.link.answer()
    assert bench.ends[0][1] == "test.ping: a did not answer in time"


def test_a_failed_return_fails_the_action_and_is_there(bench):
    """So that retry and on_failure see it."""
    bench.link.returns = {
        f"m{n}": {"return": "no", "retcode": 1, "success": False} for n in range(7)
    }
    bench.wait(*bench.link.returns)
    bench.link.answer()
    [(result, error)] = bench.ends
    assert result["returns"]["m1"] == "no"
    assert result["failed"] == [f"m{n}" for n in range(7)]
    assert error == "test.ping: failed on m0, m1, m2, m3, m4 and 2 more"


@pytest.mark.parametrize(
    ("missing", "error"),
    [((), "test.ping: no minion matches the target"), (("x",), "test.ping: x is not connected")],
)
def test_nobody_to_wait_for_is_an_end_at_once(bench, missing, error):
    """And a failure, as whoever waits wanted an answer."""
    bench.wait(missing=missing)
    assert bench.ends[0][1] == error
    assert bench.link.asked == []


def test_too_much_is_refused_and_said(bench, monkeypatch):
    """What one event could not hold is not kept."""
    monkeypatch.setattr(jobreturns, "MAX_BYTES", 100)
    bench.link.has(a="x" * 200)
    bench.wait("a")
    bench.link.answer()
    [(result, error)] = bench.ends
    assert result["returns"] == {}
    assert "the returns are 205 bytes long together, more than 100" in error


def test_a_link_server_that_does_not_answer_ends_the_wait_a_little_later(bench):
    """One that refuses is asked again."""
    bench.wait("a")
    bench.link.asked.pop()[2](None, RemoteError("busy"))
    bench.at(3)
    assert len(bench.link.asked) == 1
    bench.at(14.9)
    assert bench.ends == []
    bench.at(15)
    assert bench.ends[0][1] == "test.ping: a did not answer in time"
    bench.link.answer()
    assert len(bench.ends) == 1


def test_a_wait_can_be_ended(bench):
    """Another one for the same job goes on."""
    first = bench.wait("a")
    bench.wait("a")
    first()
    first()
    bench.link.has(a=1)
    bench.link.answer()
    bench.link.answer()
    assert len(bench.ends) == 1


def test_events_of_jobs_become_words(bench):
    """Only of those that are waited for, and whatever hostile events say."""
    bench.wait("a/b")

    def word(tag, data):
        return bench.returns._word(wire.pack_event(tag, data))

    assert word(f"salt/job/{JID}/ret/a/b", {}) == Word(JID, "ret", "a/b")
    assert word(f"salt/job/{JID}/gone/x", {"reason": "the minion slept"}).reason == "slept"
    assert word(f"salt/job/{JID}/gone/x", {}).reason == "is gone"
    assert bench.returns._word(f"salt/job/{JID}/gone/x\n\n".encode() + b"\xc1").reason == "is gone"
    for tag in ("salt/job/20260101000000000000/ret/a", f"salt/job/{JID}/new", "salt/job/", "x"):
        assert word(tag, {}) is None


def test_the_moment_of_a_job_id():
    """That of its making; what is none has none."""
    assert moment_of(JidMaker(lambda: 1_234_567_890_123_456_789).next()) == 1_234_567_890.123456
    assert moment_of("99999999999999999999") == moment_of("x") == 0.0


class Returns:
    """Keeps who waits."""

    def __init__(self):
        self.waits, self.ended, self.listens = [], [], 0

    def listen(self):
        self.listens += 1

    def wait(self, function, pub, seconds, done):
        self.waits.append((function, pub["jid"], seconds))
        return lambda: self.ended.append(pub["jid"])


def test_the_action_waits_once_the_job_is_published():
    """It listens before, so that no return is missed; it can be ended before and after."""
    link, returns, ends = Link(), Returns(), []
    call = Call("local", "test.ping", target="*", options={"wait": 7.0})
    pub = {"jid": JID, "minions": ["a"], "missing": []}
    for early in (False, True):
        cancel = LocalAction(link, returns).start(call, REACTION, lambda *end: ends.append(end))
        assert returns.listens == early + 1
        if early:
            cancel()
        link.asked.pop()[2](pub, None)
        cancel()
    assert (returns.waits, returns.ended, ends) == ([("test.ping", JID, 7.0)], [JID], [])


def test_a_job_that_is_refused_is_not_waited_for():
    """The error is the link server's."""
    link, returns, ends = Link(), Returns(), []
    call = Call("local", "test.ping", target="x@", options={"wait": 7.0})
    LocalAction(link, returns).start(call, REACTION, lambda *end: ends.append(end))
    link.asked.pop()[2](None, RemoteError("no such target"))
    assert (returns.waits, ends) == ([], [(None, "no such target")])
