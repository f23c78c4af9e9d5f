"""What a reaction can do: each kind of call, with collaborators of the test's own."""

from __future__ import annotations

import queue

import pytest

from bus import wire
from bus.errors import DataError, LoadError, RemoteError
from bus.jid import JidMaker
from bus.record import CAUSE
from bus.yamlfile import load
from reactor.engine.actions import Actions
from reactor.engine.actions.event import EventAction
from reactor.engine.actions.functions import FunctionAction
from reactor.engine.actions.local import LocalAction
from reactor.engine.firing import Reaction
from reactor.engine.outbox import Outbox
from reactor.engine.pool import WorkerPool
from reactor.rules.model import Call, Source
from reactor.rules.reactions import read_calls

REACTION = Reaction("b-7-r-0", "r", "f.yaml:1", "my/tag", 7, "b-7", 2)
MAX_SIZE = 4_000


class Heard:
    """Keeps what an action said."""

    def __init__(self):
        self.ends = []

    def __call__(self, result, error):
        self.ends.append((result, error))


class Raising:
    """An action that cannot begin."""

    def __init__(self, error):
        self.error = error

    def start(self, call, reaction, done):
        raise self.error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (DataError("too odd"), "too odd"),
        (LoadError("runners do not load"), "runners do not load"),
        (ZeroDivisionError("oops"), "ZeroDivisionError: oops"),
    ],
)
def test_an_action_that_cannot_begin_is_a_failed_call(error, text):
    """Whatever it raises, the engine goes on and the reaction says why."""
    heard = Heard()
    Actions({"event": Raising(error)}).start(Call("event", "t"), REACTION, heard)
    assert heard.ends == [(None, text)]


def test_a_kind_that_does_not_run_here_says_what_does():
    """A `caller` call on a master names its place and what may stand there."""
    heard = Heard()
    call = Call("caller", "test.ping", source=Source("a.sls", 3))
    Actions({"local": None, "event": None}).start(call, REACTION, heard)
    assert heard.ends == [
        (None, "'caller' reactions do not run here: a.sls:3 may use event, local")
    ]


class FakePublisher:
    """Keeps fires until the test answers."""

    pending = 0

    def __init__(self):
        self.sent = []

    def send(self, events, *, on_done):
        self.sent.append((list(events), on_done))

    def events(self):
        return [wire.unpack_event(event) for events, _ in self.sent for event in events]


@pytest.fixture
def publisher():
    return FakePublisher()


@pytest.fixture
def outbox(publisher):
    return Outbox(publisher, MAX_SIZE)


def test_an_event_is_done_once_it_is_kept(publisher, outbox):
    """It carries its cause, and the result is its number."""
    heard = Heard()
    EventAction(outbox).start(Call("event", "out", data={"n": 5}), REACTION, heard)
    outbox.flush()
    assert heard.ends == []
    [(tag, data)] = publisher.events()
    assert (tag, data["n"], data[CAUSE]) == ("out", 5, REACTION.cause())
    publisher.sent[0][1](41, None)
    assert heard.ends == [({"seq": 41}, None)]


def test_an_event_that_the_bus_refuses_is_a_failed_call(publisher, outbox):
    """The bus's line is the call's error."""
    heard = Heard()
    EventAction(outbox).start(Call("event", "out"), REACTION, heard)
    outbox.flush()
    publisher.sent[0][1](None, DataError("refused"))
    assert heard.ends == [({"seq": None}, "refused")]


class FakeLink:
    """Keeps what the link server is asked."""

    def __init__(self):
        self.asked = []

    def call(self, method, params, on_reply):
        self.asked.append((method, params, on_reply))


def test_a_job_is_asked_for_with_a_key_of_its_own():
    """The key is the same whenever the reaction runs, so that a repeat is no second job."""
    link, heard = FakeLink(), Heard()
    call = Call(
        "local",
        "test.arg",
        (1, "two"),
        {"k": 3},
        "web*",
        options={"timeout": 5, "ret": "x", "other": 1},
        ident="do[0]",
    )
    LocalAction(link).start(call, REACTION, heard)
    [(method, params, on_reply)] = link.asked
    assert method == "jobs.publish"
    assert params["arg"] == [1, "two", {"__kwarg__": True, "k": 3}]
    assert params["key"] == "b-7-r-0/do[0]/test.arg"
    assert (params["tgt"], params["tgt_type"], params["fun"]) == ("web*", "glob", "test.arg")
    assert (params["timeout"], params["ret"]) == (5, "x")
    assert "other" not in params
    on_reply({"jid": "1", "minions": ["web1"], "missing": []}, None)
    assert heard.ends == [({"jid": "1", "minions": ["web1"]}, None)]


def test_a_job_that_is_refused_is_a_failed_call():
    """The link server's line is the call's error."""
    link, heard = FakeLink(), Heard()
    LocalAction(link).start(Call("local", "test.ping", target="x@"), REACTION, heard)
    link.asked[0][2](None, RemoteError("no such target"))
    assert heard.ends == [(None, "no such target")]


class Mail:
    """A mailbox whose jobs the test runs, as the loop would."""

    def __init__(self):
        self.jobs = queue.Queue()

    def put(self, job):
        self.jobs.put(job)


def _leave():
    raise SystemExit(3)


def _raise():
    raise ValueError("two\nlines")


FUNCTIONS = {
    "t.echo": lambda x: x,
    "t.set": lambda: {1, 2},
    "t.leave": _leave,
    "t.raise": _raise,
}


@pytest.fixture
def run(publisher, outbox):
    """Runs a call in a pool and returns what it ended with and the events that it fired."""
    pool, mail, loads = WorkerPool(1, 10), Mail(), []

    def load():
        loads.append(1)
        return FUNCTIONS

    action = FunctionAction("runner", load, pool=pool, mailbox=mail, outbox=outbox, jids=JidMaker())

    def run_(function, *args):
        heard = Heard()
        action.start(Call("runner", function, args), REACTION, heard)
        while not heard.ends:
            mail.jobs.get(timeout=5)()
        outbox.flush()
        fired, publisher.sent = publisher.events(), []
        assert len(loads) == 1
        return heard.ends[0], fired

    yield run_
    pool.close(1)


def test_a_function_runs_between_two_events(run):
    """Both carry the job's id, the user of reactions and the cause."""
    (result, error), fired = run("t.echo", 5)
    jid = result["jid"]
    assert error is None
    assert [tag for tag, _ in fired] == [f"salt/run/{jid}/new", f"salt/run/{jid}/ret"]
    assert all(data["user"] == "Reactor" and data[CAUSE]["rule"] == "r" for _, data in fired)
    assert (fired[1][1]["return"], fired[1][1]["success"]) == (5, True)


def test_a_function_that_raises_is_one_line(run):
    """The report has the error in one line, the event its traceback."""
    (_, error), fired = run("t.raise")
    assert error == "two lines"
    assert "ValueError" in fired[1][1]["return"]


def test_a_function_that_leaves_ends_neither_its_thread_nor_the_reaction(run):
    """`sys.exit()` is a failed call, and the only thread takes the next one."""
    (result, error), _ = run("t.leave")
    assert (result, error) == (None, "3")
    assert run("t.echo", 1)[0][1] is None


def test_a_return_that_cannot_be_carried_is_said(run):
    """A set is not msgpack's; the call is done all the same."""
    (_, error), fired = run("t.set")
    assert error is None
    assert "not carried" in fired[1][1]["return"]


def test_arguments_that_no_event_can_carry_end_the_call_all_the_same(run):
    """The function runs, and both of its events say that the arguments are left out."""
    (_, error), fired = run("t.echo", "x" * MAX_SIZE)
    assert error is None
    assert [len(data["fun_args"]) for _, data in fired] == [1, 1]
    assert all("not carried" in data["fun_args"][0] for _, data in fired)
    assert "return" not in fired[0][1]


def test_two_functions_of_one_id_are_two_jobs():
    """The key by which a job is found again after a crash tells them apart."""
    link = FakeLink()
    text = "a:\n  local.test.ping: [{tgt: x}]\n  cmd.test.ping: [{tgt: y}]\n  local.test.arg: [{tgt: x}]\n"
    value, lines = load(text, "r.sls")
    for call in read_calls(value, lines, "r.sls", {}, print):
        LocalAction(link).start(call, REACTION, Heard())
    assert [params["fun"] for _, params, _ in link.asked] == ["test.ping", "test.ping", "test.arg"]
    assert len({params["key"] for _, params, _ in link.asked}) == 3
