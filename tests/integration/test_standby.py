"""Several reactors of one master: the active one killed, stopped and woken at random, under load.

Short in the suite; `make soak` sets REACTOR_SOAK.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from bus import endpoints, rpc
from bus.config import master_config
from bus.errors import BusError
from reactor.up import find_free_port
from tests.integration.loads import journaled, scaled
from tests.integration.test_kill import CATCH_UP, Firing
from tests.system import running, wait_until

FAULTS = scaled(4, 50)
PATIENCE = 1.0

RULES = """
answer:
  on: load
  do:
    - event: answer
      data: {n: "{{ data.n }}"}
steps:
  on: load
  when: data.n % 10 == 0
  do:
    - {runner: test.arg, args: ["{{ data.n }}"], id: first}
    - event: stepped
      data: {n: "{{ results.first.return.args[0] }}"}
"""


def _configure(folder, **options):
    """Write a master's file before `up` would."""
    config = folder / ".reactor"
    config.mkdir(0o700)
    options |= {
        "interface": "127.0.0.1",
        "ret_port": find_free_port(),
        "reactor_take_over_after": PATIENCE,
    }
    (config / "master").write_text(json.dumps(options))


@pytest.fixture
def system(tmp_path):
    """A running system whose master has a second reactor, which stands by."""
    _configure(tmp_path, reactor_standbys=1)
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "r.yaml").write_text(RULES)
    with running(tmp_path, "--rules", str(rules)) as running_system:
        yield running_system


def _leader(opts, *but):
    """Return the process of the active reactor, once there is one that is none of these."""
    found = []

    def look():
        with contextlib.suppress(BusError):
            status = rpc.call(endpoints.master_reactor(opts), "status", timeout=1)
            pid = status["leader"]["pid"]
            if pid not in but:
                found.append(pid)
        return bool(found)

    wait_until(look, 60)
    return found[0]


def _stand_by(opts, count):
    """Wait until so many reactors stand by, so that there is one to take over."""

    def look():
        standing = 0
        for address in endpoints.master_reactors(opts).values():
            with contextlib.suppress(BusError):
                standing += not rpc.call(address, "leader", timeout=1)["active"]
        return standing >= count

    wait_until(look, 60)


def _kill(opts, _chance):
    pid = _leader(opts)
    os.kill(pid, signal.SIGKILL)
    _leader(opts, pid)


def _stop_until_replaced(opts, _chance):
    pid = _leader(opts)
    os.kill(pid, signal.SIGSTOP)
    try:
        _leader(opts, pid)
    finally:
        with contextlib.suppress(ProcessLookupError):  # whoever took over has ended it
            os.kill(pid, signal.SIGCONT)


def _stop_for_a_while(opts, chance):
    """Wake it about when another takes over: before, meanwhile or after."""
    pid = _leader(opts)
    os.kill(pid, signal.SIGSTOP)
    time.sleep(chance.uniform(0.5, 1.5) * PATIENCE)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("fault", [_kill, _stop_until_replaced, _stop_for_a_while])
def test_nothing_is_lost_or_done_twice(system, fault):
    """What is done is what matches, and nothing that is finished is done again."""
    opts = master_config(system.config)
    chance = random.Random(11)
    with Firing(opts, "load") as firing:
        for _ in range(FAULTS):
            _stand_by(opts, 1)
            enough = len(firing.acknowledged) + chance.randrange(20, 200)
            wait_until(lambda enough=enough: len(firing.acknowledged) >= enough, 60)
            fault(opts, chance)
        enough = len(firing.acknowledged) + 20
        wait_until(lambda: len(firing.acknowledged) >= enough, 60)
    numbers = [data["n"] for tag, data in journaled(opts) if tag == "load"]
    assert set(firing.acknowledged) <= set(numbers)
    due = {"answer": set(numbers), "steps": {n for n in numbers if n % 10 == 0}}
    wait_until(lambda: all(len(_done(opts, rule)) >= len(due[rule]) for rule in due), CATCH_UP)
    events = journaled(opts)
    assert {data["n"] for tag, data in events if tag == "answer"} == due["answer"]
    assert {data["n"] for tag, data in events if tag == "stepped"} == due["steps"]
    for rule, expected in due.items():
        done = Counter(_done(opts, rule))
        assert max(done.values()) == 1, rule
        assert len(done) == len(expected), rule


def _done(opts, rule):
    tag = f"reactor/reaction/{rule}/done"
    return [data["id"] for found, data in journaled(opts) if found == tag]


def test_a_reactor_of_its_own(tmp_path):
    """`reactor standby` is shown, takes over when the master's own one hangs, and ends clean."""
    _configure(tmp_path)
    with running(tmp_path) as system:
        opts = master_config(system.config)
        first = _leader(opts)
        with system.start("standby", "--name", "second") as process:
            _stand_by(opts, 1)
            shown = system.run("status").stdout
            assert "rules; standing by: second (process " in shown
            os.kill(first, signal.SIGSTOP)
            second = _leader(opts, first)
            _stand_by(opts, 1)
            shown = system.run("status").stdout
            assert f"serves as second (process {second}); 0 rules; standing by: reactor" in shown
            found = json.loads(system.run("status", "--json").stdout)["parts"]["reactor"]
            [standing] = found["details"]["standing_by"]
            assert (standing["name"], standing["leader"]["pid"]) == ("reactor", second)
            process.terminate()
            assert process.wait(20) == 0, process.stderr.read()
        assert _leader(opts, first, second)
        system.run("run", "reactor.set_leader", "False")
        shown = system.run("status", code=1).stdout
        assert "no reactor is active; standing by: reactor" in shown
        assert "told not to lead" in shown


@pytest.mark.parametrize("name", ["reactor", "Not a name", "much-too-long"])
def test_a_name_that_cannot_be(tmp_path, name):
    """One line, before anything is started."""
    (tmp_path / "master").write_text("")
    arguments = [sys.executable, "-m", "reactor", "standby", "--config", tmp_path, "--name", name]
    ended = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert name in ended.stderr
