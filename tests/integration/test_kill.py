"""Roles killed with SIGKILL at random moments under load: nothing acknowledged is lost.

Short in the suite; `make soak` sets REACTOR_SOAK and kills fifty times.
"""

from __future__ import annotations

import os
import random
import re
import signal
import threading
import time
from collections import Counter

import pytest

import bus
import bus.event
from bus.client import LocalClient
from bus.config import master_config, minion_config
from bus.errors import BusError
from bus.journal import JournalReader, journal_path
from bus.wire import unpack_event
from tests.integration.loads import scaled
from tests.system import running, wait_until

KILLS = scaled(4, 50)
CATCH_UP = scaled(60, 1500)
"""Seconds for the reactor to answer what came while it was away: with fifty kills, a million."""

RULES = """\
answer:
  on: ask/*
  do:
    - event: "answer/{{ data.n }}"
      data: {n: "{{ data.n }}"}
"""


@pytest.fixture
def system(tmp_path):
    """A running system with one rule that answers."""
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "answer.yaml").write_text(RULES)
    with running(tmp_path, "--rules", str(rules)) as running_system:
        yield running_system


def _kill(system, role):
    """Kill the present process of a role and wait until there is another."""
    log = system.config / "log" / "up.log"
    started = re.compile(rf"started {role} as process (\d+)")
    pids = started.findall(log.read_text())
    os.kill(int(pids[-1]), signal.SIGKILL)
    wait_until(lambda: len(started.findall(log.read_text())) > len(pids))


class Firing:
    """A thread that fires numbered events and remembers which were acknowledged."""

    def __init__(self, opts, tag):
        self._opts, self._tag = opts, tag
        self._stop = threading.Event()
        self.acknowledged = []
        self.tried = 0
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        with bus.event.MasterEvent(opts=self._opts, listen=False) as event:
            while not self._stop.is_set():
                self.tried += 1
                if event.fire_event({"n": self.tried}, self._tag, timeout=10_000):
                    self.acknowledged.append(self.tried)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


def _kill_under_load(system, role, firing):
    chance = random.Random(7)
    for _ in range(KILLS):
        enough = len(firing.acknowledged) + chance.randrange(20, 200)
        wait_until(lambda enough=enough: len(firing.acknowledged) >= enough, 60)
        _kill(system, role)
    enough = len(firing.acknowledged) + 20
    wait_until(lambda: len(firing.acknowledged) >= enough, 60)


def _journaled(opts, tag):
    with JournalReader(journal_path(opts["state_dir"])) as journal:
        numbers = [seq for seq, _ in journal.scan()]
        events = [unpack_event(raw) for _, raw in journal.scan()]
    assert numbers == list(range(1, len(numbers) + 1))
    return [data["n"] for found, data in events if found == tag]


def test_the_bus_is_killed(system):
    """Every acknowledged event is in the journal, once, in order; everybody carries on."""
    opts = master_config(system.config)
    heard, listening = [], threading.Event()

    def listen():
        with bus.connect("master", opts) as events:
            for event in events.listen("load", since=0, timeout=15):
                heard.append(event.payload["n"])
                if listening.is_set() and len(heard) >= len(firing.acknowledged):
                    return

    firing = Firing(opts, "load")
    listener = threading.Thread(target=listen)
    with firing:
        listener.start()
        _kill_under_load(system, "bus", firing)
    listening.set()
    system.fire("load", {"n": 0})
    listener.join(20)
    journaled = _journaled(opts, "load")[:-1]
    assert len(set(journaled)) == len(journaled)
    assert journaled == sorted(journaled)
    assert set(firing.acknowledged) <= set(journaled)
    assert heard[: len(journaled)] == journaled


def test_the_reactor_is_killed(system):
    """Each matching event is answered, and a finished reaction never runs again."""
    opts = master_config(system.config)
    with Firing(opts, "ask/x") as firing:
        _kill_under_load(system, "reactor", firing)
    asked = firing.acknowledged
    wait_until(lambda: set(asked) <= set(_answers(opts)), CATCH_UP)
    wait_until(lambda: len(_done(opts)) >= len(asked), CATCH_UP)
    answers, done = Counter(_answers(opts)), Counter(_done(opts))
    # In flight at the kill a reaction may run again, with the same id; finished it may not.
    assert max(done.values()) == 1
    again = sum(count - 1 for count in answers.values())
    assert again <= KILLS * 600


def _answers(opts):
    with JournalReader(journal_path(opts["state_dir"])) as journal:
        events = (unpack_event(raw) for _, raw in journal.scan())
        return [data["n"] for tag, data in events if tag.startswith("answer/")]


def _done(opts):
    with JournalReader(journal_path(opts["state_dir"])) as journal:
        events = (unpack_event(raw) for _, raw in journal.scan())
        return [data["id"] for tag, data in events if tag == "reactor/reaction/answer/done"]


@pytest.mark.parametrize("role", ["link", "bus"])
@pytest.mark.timeout(600)
def test_a_role_is_killed_while_a_minion_sends(system, role):
    """What a minion was told is sent arrives on the master's bus, once and in order."""
    opts = minion_config(system.config)
    sent = []
    with bus.event.MinionEvent(opts, listen=False) as event:
        deadline = time.monotonic() + 30
        for number in range(1, 301):
            if number % (300 // KILLS if KILLS < 300 else 2) == 0:
                _kill(system, role)
            assert event.fire_master({"n": number}, "up", timeout=20_000)
            sent.append(number)
            # The supervisor waits before it starts a role again, up to five seconds.
            assert time.monotonic() < deadline + 8 * KILLS
    master = master_config(system.config)
    wait_until(lambda: len(_sent(master)) >= len(sent), 60)
    assert _sent(master) == sent


def _sent(opts):
    with JournalReader(journal_path(opts["state_dir"])) as journal:
        events = (unpack_event(raw) for _, raw in journal.scan())
        return [data["data"]["n"] for tag, data in events if tag == "up"]


def test_a_reaction_while_the_link_comes_back_reaches_its_minion(system):
    """A local reaction right after the link was killed runs its job, once."""
    rules = system.config.parent / "rules"
    seq = system.fire("mark", {})
    (rules / "job.yaml").write_text(
        "job:\n  on: do/job\n  do:\n    - local: test.echo\n      tgt: web1\n      args: [hi]\n"
    )
    system.expect("reactor/rules/reloaded", after=seq)
    _kill(system, "link")
    seq = system.fire("do/job", {})
    done = system.expect("reactor/reaction/job/done", after=seq)
    jid = done.payload["calls"][0]["result"]["jid"]
    system.expect(f"salt/job/{jid}/ret/web1", after=seq, **{"return": "hi"})


def test_the_minion_is_killed(system):
    """It comes back, and takes jobs again."""
    _kill(system, "minion")
    client = LocalClient(mopts=master_config(system.config))

    def answers():
        try:
            return client.cmd("web1", "test.ping", timeout=1) == {"web1": True}
        except BusError:
            return False

    wait_until(answers, 60)
    client.close()
