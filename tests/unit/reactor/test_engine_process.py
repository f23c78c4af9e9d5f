"""The reactor role against a real bus and a link server of the test's own."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import pytest
import zmq

import bus
from bus import endpoints, rpc
from bus.errors import BusError
from bus.journal import journal_path
from bus.stopping import Stop
from reactor.engine import process
from reactor.engine.state import State, state_path
from reactor.errors import ReactorError
from tests.support import SECONDS, master_options, running_bus, wait_for

RULES = """
out:
  on: my/out
  do:
    - event: out/done
      data: {n: "{{ data.n }}"}
ping:
  on: my/ping
  do:
    - local: test.ping
      tgt: web1
run:
  on: my/run
  do:
    - runner: test.arg
      args: ["{{ data.n }}"]
slow:
  on: my/slow
  do:
    - runner: test.sleep
      args: ["{{ data.seconds }}"]
off:
  on: my/out
  enabled: false
  do:
    - event: off/done
"""

SALT = """
shown:
  runner.test.arg:
    - args:
      - {{ salt['test.ping']() }}
      - {{ 'test.ping' in salt }}
"""


class Reactor:
    """The role in a thread, on a master's directory of its own."""

    def __init__(self, opts):
        self.opts = opts
        self._stop = None
        self._thread = None
        self._error = None

    def start(self):
        self._stop = Stop()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        wait_for(self._answers, "the reactor")

    def _run(self):
        try:
            process.run(self.opts, self._stop)
        except BusError as error:
            self._error = error

    def _answers(self):
        assert self._thread.is_alive(), self._error
        with contextlib.suppress(BusError):
            return self.ask("ping", timeout=2)
        return False

    def ask(self, method, timeout=SECONDS):
        return rpc.call(endpoints.master_reactor(self.opts), method, timeout=timeout)

    def stop(self):
        if self._thread:
            self._stop.set()
            self._thread.join(10)
            assert not self._thread.is_alive()
            self._stop.close()
            self._thread = None

    def fire(self, tag, **data):
        with bus.connect("master", self.opts) as events:
            return events.fire(tag, data)

    def expect(self, glob, after=0):
        with bus.connect("master", self.opts) as events:
            event = events.listen(glob, since=after).next(SECONDS)
        assert event, f"no {glob}"
        return event

    def tags(self, after=0):
        with bus.connect("master", self.opts) as events:
            return [event.tag for event in events.listen("*", since=after, timeout=0.3)]


class Link:
    """A link server that keeps what it is asked."""

    def __init__(self, opts):
        self.asked = []
        self._ending = threading.Event()
        self._server = rpc.open_server(endpoints.master_link(opts), {"jobs.publish": self._publish})
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _publish(self, params):
        self.asked.append(params)
        return {"jid": "20261122083555984727", "minions": ["web1"], "missing": []}

    def _serve(self):
        poller = zmq.Poller()
        poller.register(self._server.socket, zmq.POLLIN)
        while not self._ending.is_set():
            if poller.poll(20):
                self._server.handle()
        self._server.close()

    def close(self):
        self._ending.set()
        self._thread.join(5)


@pytest.fixture
def reactor(place):
    """A reactor that serves, over a bus."""
    Path(place, "master").write_text("rules: [rules]\nreactor: [{my/salt: shown.sls}]\n")
    Path(place, "rules").mkdir()
    Path(place, "rules/r.yaml").write_text(RULES)
    Path(place, "shown.sls").write_text(SALT)
    opts = master_options(place)
    with running_bus(opts):
        role = Reactor(opts)
        role.start()
        yield role
        role.stop()


def test_an_event_is_reacted_to_and_reported(reactor):
    """With the rule's values, and a report that names all of it."""
    seq = reactor.fire("my/out", n=5)
    assert reactor.expect("out/done", seq).payload == {"n": 5}
    report = reactor.expect("reactor/reaction/out/done", seq).data
    assert report["event"] == {"tag": "my/out", "seq": seq, "id": report["event"]["id"]}
    assert report["calls"][0]["function"] == "out/done"


def test_what_can_be_asked(reactor):
    """Its state and its rules, those that are off too."""
    seq = reactor.fire("my/out", n=1)
    reactor.expect("reactor/reaction/out/done", seq)
    status = wait_for(lambda: (found := reactor.ask("status")) and not found["under_way"] and found)
    assert (status["rules"], status["problems"], status["behind"]) == (5, 0, 0)
    assert status["counters"]["done"] == 1
    rows = {row["name"]: row for row in reactor.ask("rules")["rules"]}
    assert (rows["out"]["fired"], rows["off"]["state"], rows["shown"]["style"]) == (
        1,
        "off",
        "salt",
    )


def test_a_template_calls_functions_of_the_master(reactor):
    """They are loaded when the first template asks."""
    seq = reactor.fire("my/salt")
    assert reactor.expect("salt/run/*/ret", seq).data["return"]["args"] == [True, True]


def test_a_job_waits_for_the_link_server(reactor):
    """While it is away nothing fails and other rules go on; once it serves, the job is asked for."""
    seq = reactor.fire("my/ping")
    reactor.fire("my/out", n=1)
    reactor.expect("reactor/reaction/out/done", seq)
    assert "reactor/reaction/ping/done" not in reactor.tags(seq)
    link = Link(reactor.opts)
    try:
        report = reactor.expect("reactor/reaction/ping/done", seq).data
    finally:
        link.close()
    assert report["calls"][0]["result"]["minions"] == ["web1"]
    assert len({params["key"] for params in link.asked}) == 1


def test_changed_rules_are_announced(reactor):
    """Only what differs counts as changed; a problem is told once, with file and line."""
    rules = Path(reactor.opts["config_dir"], "rules")
    seq = reactor.fire("mark")
    (rules / "new.yaml").write_text("new: {on: my/new, do: [{event: new/done}]}\n")
    reloaded = reactor.expect("reactor/rules/reloaded", seq)
    assert (reloaded.data["changed"], reloaded.data["removed"]) == (["new"], [])
    (rules / "new.yaml").write_text("new: {on: my/new, doo: []}\n")
    problem = reactor.expect("reactor/rules/error", seq).data
    assert (problem["file"], problem["line"], problem["kept"]) == (f"{rules}/new.yaml", 1, True)
    (rules / "new.yaml").unlink()
    gone = reactor.expect(
        "reactor/rules/reloaded", reactor.expect("reactor/rules/error", seq).seq + 1
    )
    assert gone.data["removed"] == ["new"]
    assert reactor.ask("reload") is True


def test_problems_that_remain_are_said_again(reactor, caplog):
    """Each reload says how many are left and which, and says it when the last one is gone."""
    caplog.set_level("INFO", "reactor.engine.rulesinforce")
    rules = Path(reactor.opts["config_dir"], "rules")
    seq = reactor.fire("mark")
    (rules / "bad.yaml").write_text("one: {onn: a}\ntwo: {onn: b}\n")
    broken = reactor.expect("reactor/rules/reloaded", seq)
    assert (broken.data["problems"], broken.data["remaining"]) == (2, [])
    caplog.clear()
    (rules / "bad.yaml").write_text("one: {on: a, do: [{event: b}]}\ntwo: {onn: b}\n")
    mended = reactor.expect("reactor/rules/reloaded", broken.seq)
    [left] = mended.data["remaining"]
    assert (mended.data["problems"], mended.data["solved"]) == (1, 1)
    assert (left["file"], left["line"]) == (f"{rules}/bad.yaml", 2)
    assert [r.getMessage() for r in caplog.records if r.levelname == "ERROR"] == [
        f"{left['source']}: {left['message']}"
    ]
    (rules / "bad.yaml").unlink()
    assert reactor.expect("reactor/rules/reloaded", mended.seq).data["solved"] == 1
    wait_for(lambda: "no problems now" in caplog.text, "the last line")


def test_what_ends_while_it_stops_is_reported_and_does_not_run_again(reactor):
    """A reaction that ends within the time of stopping is finished."""
    seq = reactor.fire("my/slow", seconds=0.3)
    reactor.expect("salt/run/*/new", seq)
    reactor.stop()
    assert "reactor/reaction/slow/done" in reactor.tags(seq)
    reactor.start()
    assert reactor.ask("status")["under_way"] == 0


def test_what_does_not_end_in_time_runs_again_after_the_start(reactor):
    """And what was fired while no reactor ran is reacted to as well."""
    seq = reactor.fire("my/slow", seconds=1.5)
    reactor.expect("salt/run/*/new", seq)
    reactor.stop()
    later = reactor.fire("my/out", n=2)
    reactor.start()
    assert reactor.expect("out/done", later).payload == {"n": 2}
    assert reactor.expect("reactor/reaction/slow/done", seq).data["event"]["seq"] == seq


def test_another_journal_is_read_from_its_start(reactor):
    """The cursor of the old one says nothing of it."""
    reactor.stop()
    state = State(state_path(reactor.opts["state_dir"]))
    state.reset("another", 4_000)
    state.close()
    seq = reactor.fire("my/out", n=3)
    reactor.start()
    assert reactor.expect("out/done", seq).payload == {"n": 3}


def test_without_a_bus_it_says_so_and_ends(place, monkeypatch):
    """Once its patience is over, in one line."""
    opts = master_options(place)
    monkeypatch.setattr(process, "PATIENCE", 0.1)
    stop = Stop()
    with pytest.raises(BusError, match=r"journal|running"):
        process.run(opts, stop)
    stop.close()
    assert not journal_path(opts["state_dir"]).exists()


def test_while_the_state_cannot_be_written_it_waits(reactor, monkeypatch):
    """Asked again and again, and gone on with as soon as it can."""
    real, refused = State.save, []

    def save(self, **values):
        if values.get("begun") and len(refused) < 2:
            refused.append(1)
            raise ReactorError("disk full")
        real(self, **values)

    monkeypatch.setattr(State, "save", save)
    seq = reactor.fire("my/out", n=4)
    assert reactor.expect("out/done", seq).payload == {"n": 4}
    assert len(refused) == 2


def test_it_says_when_it_is_behind_and_when_it_has_caught_up(reactor):
    """What waits is in the journal, and none of it is dropped."""
    seq = reactor.expect("reactor/reaction/out/done", reactor.fire("my/out", n=-1) - 1).seq
    reactor.stop()
    with bus.connect("master", reactor.opts) as events:
        fired = events.fire_events(("my/out", {"n": n}) for n in range(12_000))
    assert fired == 12_000
    reactor.start()
    behind = reactor.expect("reactor/behind", seq)
    assert behind.payload["unread"] >= 10_000
    caught_up = reactor.expect("reactor/caught-up", behind.seq)
    assert caught_up.payload["unread"] <= 1_000
    wait_for(lambda: not reactor.ask("status")["under_way"], "the last reaction")
    with bus.connect("master", reactor.opts) as events:
        heard = events.listen("out/done", since=seq, timeout=0.5)
        assert sorted(event.payload["n"] for event in heard) == list(range(12_000))
