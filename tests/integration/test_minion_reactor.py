"""A reactor on a minion: its own bus, its own functions, nothing of the master's."""

from __future__ import annotations

import json
import os
import re
import signal

import pytest

import bus
from bus.config import minion_config
from tests.system import EVENT_SECONDS, running, wait_until

RULES = """
answer:
  on: my/ask
  do:
    - caller: test.arg
      args: ["{{ data.n }}"]
      id: asked
    - event: my/answer
      data: {n: "{{ results.asked.return.args[0] }}"}
program:
  on: my/exec
  do:
    - exec: [sh, -c, 'echo "$N"']
      env: {N: "{{ data.n }}"}
      id: ran
    - event: my/ran
      data: {out: "{{ results.ran.stdout }}"}
once:
  on: my/once
  throttle: {once_within: 1h}
  do:
    - event: my/was-once
      data: {n: "{{ data.n }}"}
gathered:
  on: my/gather
  throttle: {once_after: 100ms}
  do:
    - event: my/gathered
      data: {n: "{{ data.n }}", count: "{{ window.count }}"}
mine:
  on: my/custom
  do:
    - caller: mine.about
      id: asked
    - event: my/custom-done
      data: {said: "{{ results.asked.return }}"}
not_here:
  on: my/local
  do:
    - local: test.ping
      tgt: "*"
"""

SLS = """
salted:
  caller.test.arg:
    - args:
      - {{ data['n'] }}
"""


@pytest.fixture
def system(tmp_path):
    """A system whose minion has rules, a reactor map, and no others."""
    (tmp_path / "own.yaml").write_text(RULES)
    (tmp_path / "salted.sls").write_text(SLS)
    with running(tmp_path) as first:
        folder = first.config / "minion.d"
        folder.mkdir(exist_ok=True)
        (folder / "reactor.conf").write_text(
            f"rules: [{tmp_path}/own.yaml]\nreactor:\n  - my/salt: {tmp_path}/salted.sls\n"
        )
    with running(tmp_path) as second:
        log = second.config / "log" / "up.log"
        # The minion is ready before its reactor listens, and its bus keeps nothing for later.
        wait_until(lambda: "the reactor serves 7 rules" in log.read_text(), 30)
        yield second


def _ask(system, tag, data, glob):
    """Fire on the minion's bus, and return the first event there that answers."""
    with bus.connect("minion", minion_config(system.config)) as events:
        listening = events.listen(glob, timeout=EVENT_SECONDS)
        events.fire(tag, data)
        event = listening.next(EVENT_SECONDS)
    assert event is not None, f"no {glob}"
    return event


def test_rules_of_a_minion_act_on_its_own_bus(system):
    """`caller`, events, programs and Salt's files; what belongs to a master says so."""
    assert _ask(system, "my/ask", {"n": 5}, "my/answer").payload["n"] == 5
    assert _ask(system, "my/exec", {"n": 6}, "my/ran").payload["out"] == "6\n"
    done = _ask(system, "my/salt", {"n": 7}, "reactor/reaction/salted/*")
    assert done.tag.endswith("/done")
    gathered = _ask(system, "my/gather", {"n": 1}, "my/gathered").payload
    assert gathered == {"n": 1, "count": 1}
    failed = _ask(system, "my/local", {}, "reactor/reaction/not_here/failed")
    assert "'local' reactions do not run here" in failed.payload["error"]
    assert not [event for event in system.events() if event.tag.startswith("my/")]


def test_a_minions_reactor_is_asked_as_the_masters_is(system):
    """Its rules, switches, traces and dead reactions, and none of the master's."""
    of_minion = ("--node", "minion", "--json")
    _ask(system, "my/once", {"n": 1}, "reactor/reaction/once/done")
    _ask(system, "my/local", {}, "reactor/reaction/not_here/failed")
    nothing = {key: [] for key in ("rules", "problems", "warnings", "switches")}
    assert _ran(system, "rules") == {**nothing, "version": 1}
    names = [rule["name"] for rule in _ran(system, "rules", *of_minion)["rules"]]
    assert {"answer", "once", "salted"} < set(names)

    (fired,) = _ran(system, "trace", "once", *of_minion)
    assert (fired["rule"], fired["event"]["tag"]) == ("once", "my/once")
    (letter,) = _ran(system, "dead", "list", *of_minion)["letters"]
    assert letter["rule"] == "not_here"
    assert _ran(system, "dead", "show", letter["id"], *of_minion)["id"] == letter["id"]
    assert _ran(system, "dead", "drop", letter["id"], "--yes", *of_minion) == {"dropped": 1}

    (switched,) = _ran(system, "rules", "disable", "ans*", *of_minion)
    assert (switched["rule"], switched["state"]) == ("answer", "off")
    # What comes later is done later: had the rule answered, it would have done so before.
    with bus.connect("minion", minion_config(system.config)) as events:
        heard = events.listen("my/*", timeout=EVENT_SECONDS)
        events.fire("my/ask", {"n": 1})
        events.fire("my/exec", {"n": 2})
        assert [heard.next(EVENT_SECONDS).tag for _ in range(3)] == ["my/ask", "my/exec", "my/ran"]
    _ran(system, "rules", "enable", "answer", *of_minion)
    assert _ask(system, "my/ask", {"n": 3}, "my/answer").payload["n"] == 3


def _ran(system, *arguments):
    """Run a command and return the JSON that it prints."""
    given = arguments if "--json" in arguments else (*arguments, "--json")
    return json.loads(system.run(*given).stdout)


def test_functions_that_came_from_the_master(system):
    """A `caller` reaction has the minion's custom modules and grains, as they are now."""
    _bring(system, "grains", "extra.py", "def extra():\n    return {'extra': 'yes'}\n")
    for said in ("one", "three"):
        text = f"def about():\n    return ['{said}', __grains__['extra']]\n"
        _bring(system, "modules", "mine.py", text)
        answer = _ask(system, "my/custom", {}, "my/custom-done")
        assert answer.payload["said"] == [said, "yes"]


def _bring(system, kind, name, text):
    """Write a custom file on the master, and wait until the minion has it."""
    source = system.config / "files" / f"_{kind}" / name
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(text)
    copy = system.config / "cache/minion/extmods" / kind / name
    wait_until(lambda: copy.exists() and copy.read_text() == text)


def test_a_throttle_of_a_minion_survives_a_kill(system):
    """The reactor is started again, and remembers."""
    assert _ask(system, "my/once", {"n": 1}, "reactor/reaction/once/done")
    log = system.config / "log" / "up.log"
    started = re.compile(r"started minion-reactor as process (\d+)")
    pids = started.findall(log.read_text())
    os.kill(int(pids[-1]), signal.SIGKILL)
    wait_until(lambda: len(started.findall(log.read_text())) > len(pids), 30)
    wait_until(lambda: log.read_text().count("the reactor serves 7 rules") >= 2, 30)
    with bus.connect("minion", minion_config(system.config)) as events:
        listening = events.listen("my/was-*", timeout=EVENT_SECONDS)
        events.fire("my/once", {"n": 2})
        events.fire("my/ask", {"n": 3})
        assert _ask(system, "my/ask", {"n": 4}, "my/answer")
        assert listening.next(0.2) is None
