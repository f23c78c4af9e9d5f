"""Actions that wait for what minions return, over a kill of the reactor and of the link too."""

from __future__ import annotations

import pytest

from tests.integration.test_kill import _kill
from tests.system import running, wait_until

RULES = """
ask:
  on: my/ask
  do:
    - local: cmd.run
      tgt: "*"
      args: ["{{ data.command }}"]
      timeout: 60s
      wait: true
      id: ran
      on_failure: continue
    - event: my/answer
      data: {n: "{{ data.n }}", ran: "{{ results.ran }}"}
impatient:
  on: my/impatient
  do:
    - local: cmd.run
      tgt: web1
      args: ["{{ data.command }}"]
      wait: 500ms
      on_failure:
        - event: my/gave-up
          data: {why: "{{ failure.error }}"}
"""


@pytest.fixture
def system(tmp_path):
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "r.yaml").write_text(RULES)
    with running(tmp_path, "--rules", str(rules)) as running_system:
        yield running_system


def _gated(tmp_path, name):
    """Return a command that says that it runs, and ends when it is let go."""
    begun, go = tmp_path / f"{name}.begun", tmp_path / f"{name}.go"
    return f"echo x >> {begun}; while [ ! -e {go} ]; do sleep 0.02; done; echo {name}", begun, go


def test_later_actions_see_what_minions_returned(system):
    """Values as they are, and who failed."""
    after = system.fire("my/ask", {"n": 1, "command": "echo hello"})
    ran = system.expect("my/answer", after, n=1).payload["ran"]
    assert (ran["returns"], ran["failed"], ran["silent"]) == ({"web1": "hello"}, [], {})
    assert (ran["ok"], ran["minions"]) == (True, ["web1"])
    after = system.fire("my/ask", {"n": 2, "command": "echo oh; exit 3"})
    ran = system.expect("my/answer", after, n=2).payload["ran"]
    assert (ran["returns"], ran["failed"], ran["ok"]) == ({"web1": "oh"}, ["web1"], False)
    assert ran["error"] == "cmd.run: failed on web1"
    done = system.expect("reactor/reaction/ask/done", after)
    assert "returns" not in done.data["calls"][0].get("result", {})


@pytest.mark.parametrize("role", ["reactor", "link"])
def test_a_wait_goes_on_after_a_kill(system, tmp_path, role):
    """The job is the same one: it runs once, and its return is found."""
    command, begun, go = _gated(tmp_path, "one")
    after = system.fire("my/ask", {"n": 1, "command": command})
    wait_until(begun.exists)
    _kill(system, role)
    go.touch()
    ran = system.expect("my/answer", after, n=1).payload["ran"]
    assert ran["returns"] == {"web1": "one"}
    assert begun.read_text() == "x\n"


def test_what_returned_while_the_reactor_was_away_is_found(system, tmp_path):
    """Its events were published when nobody listened."""
    command, begun, go = _gated(tmp_path, "two")
    after = system.fire("my/ask", {"n": 1, "command": command})
    wait_until(begun.exists)
    go.touch()
    _kill(system, "reactor")
    assert system.expect("my/answer", after, n=1).payload["ran"]["returns"] == {"web1": "two"}


def test_nobody_waits_for_ever(system, tmp_path):
    """The failure says who did not answer; the job goes on."""
    command, begun, go = _gated(tmp_path, "three")
    after = system.fire("my/impatient", {"command": command})
    gave_up = system.expect("my/gave-up", after)
    assert gave_up.payload["why"] == "cmd.run: web1 did not answer in time"
    go.touch()
    wait_until(begun.exists)
