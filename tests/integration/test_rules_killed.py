"""The reactor killed with SIGKILL at random moments: windows, counts and queues go on as they were.

Short in the suite; `make soak` sets REACTOR_SOAK and kills fifty times.
"""

from __future__ import annotations

from collections import Counter

import pytest

from bus.config import master_config
from bus.journal import JournalReader, journal_path
from bus.wire import unpack_event
from tests.integration.test_kill import CATCH_UP, KILLS, Firing, _kill_under_load
from tests.system import running, wait_until

EACH = 5

RULES = f"""
counted:
  on: load
  count: {{at_least: {EACH}, within: 1h, by: data.n % 7, reset: true}}
  do:
    - event: counted
      data: {{n: "{{{{ data.n }}}}", key: "{{{{ data.n % 7 }}}}"}}
queued:
  on: load
  mode: queued
  by: data.n % 3
  do:
    - event: queued
      data: {{n: "{{{{ data.n }}}}"}}
steps:
  on: load
  when: data.n % 10 == 0
  do:
    - {{runner: test.arg, args: ["{{{{ data.n }}}}"], id: first}}
    - event: stepped
      data: {{n: "{{{{ results.first.return.args[0] }}}}"}}
"""


@pytest.fixture
def system(tmp_path):
    """A running system with rules that remember."""
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "r.yaml").write_text(RULES)
    with running(tmp_path, "--rules", str(rules)) as running_system:
        yield running_system


def _events(opts):
    with JournalReader(journal_path(opts["state_dir"])) as journal:
        return [unpack_event(raw) for _, raw in journal.scan()]


def _ids(events, rule):
    return [data["id"] for tag, data in events if tag == f"reactor/reaction/{rule}/done"]


@pytest.mark.timeout(600)
def test_counts_queues_and_programs_survive_kills(system):
    """What acts, and how often, is what a count of the journal says; nothing finished runs twice."""
    opts = master_config(system.config)
    with Firing(opts, "load") as firing:
        _kill_under_load(system, "reactor", firing)
    numbers = [data["n"] for tag, data in _events(opts) if tag == "load"]
    assert set(firing.acknowledged) <= set(numbers)
    seen, due = Counter(), set()
    for number in numbers:
        seen[number % 7] += 1
        if seen[number % 7] % EACH == 0:
            due.add(number)

    def complete():
        events = _events(opts)
        return (
            len(_ids(events, "counted")) >= len(due)
            and len(_ids(events, "queued")) >= len(numbers)
            and len(_ids(events, "steps")) >= sum(n % 10 == 0 for n in numbers)
        )

    wait_until(complete, CATCH_UP)
    events = _events(opts)
    assert {data["n"] for tag, data in events if tag == "counted"} == due
    assert {data["n"] for tag, data in events if tag == "stepped"} == {
        n for n in numbers if n % 10 == 0
    }
    for rule in ("counted", "queued", "steps"):
        ids = Counter(_ids(events, rule))
        assert max(ids.values()) == 1, rule
    _assert_in_order([data["n"] for tag, data in events if tag == "queued"])


def _assert_in_order(numbers):
    """One after the other for each key; only what was in flight at a kill may come again."""
    for key in range(3):
        mine = [number for number in numbers if number % 3 == key]
        firsts = list(dict.fromkeys(mine))
        assert firsts == sorted(firsts)
        assert len(mine) - len(firsts) <= KILLS
