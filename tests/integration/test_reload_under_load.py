"""Rules reloaded again and again while events come: nothing is lost, doubled or mixed."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest

from bus.config import master_config
from bus.journal import JournalReader, journal_path
from bus.wire import unpack_event
from tests.integration.loads import scaled
from tests.integration.test_kill import Firing
from tests.system import running, wait_until

RELOADS = scaled(12, 200)

RULES = """
first:
  on: load
  do: [{{event: first/seen, data: {{n: "{{{{ data.n }}}}", version: {version}}}}}]
{more}
second:
  on: load
  do: [{{event: second/seen, data: {{n: "{{{{ data.n }}}}", version: {version}}}}}]
counted:
  on: load
  count: {{at_least: 5, within: 1h, reset: true}}
  do: [{{event: counted/seen, data: {{n: "{{{{ data.n }}}}", version: {version}}}}}]
"""


def _save(rules, chance, version):
    """Save a file as an editor does; now and then a broken one, or a rule more."""
    more = "" if chance.random() < 0.5 else f"more{version}:\n  on: other\n  do: [{{log: x}}]"
    text = RULES.format(version=version, more=more)
    if chance.random() < 0.2:
        text += "broken: ["
    draft = rules / ".draft"
    draft.write_text(text)
    draft.replace(rules / "r.yaml")


@pytest.fixture
def rules(tmp_path):
    folder = tmp_path / "rules"
    folder.mkdir()
    return folder


def _events(opts):
    with JournalReader(journal_path(opts["state_dir"])) as journal:
        return [unpack_event(raw) for _, raw in journal.scan()]


@pytest.mark.timeout(scaled(240, 3000))
def test_reloads_under_load_lose_and_double_nothing(tmp_path, rules):
    """Each event is answered once by each rule, by one version of them all; counts go on."""
    chance = random.Random(11)
    _save(rules, random.Random(1), 0)
    with running(tmp_path, "--rules", str(rules)) as system:
        opts = master_config(system.config)
        with Firing(opts, "load") as firing:
            for version in range(1, RELOADS + 1):
                enough = len(firing.acknowledged) + chance.randrange(5, 60)
                wait_until(lambda enough=enough: len(firing.acknowledged) >= enough, 60)
                _save(rules, chance, version)

        def complete():
            events = _events(opts)
            last = [data["n"] for tag, data in events if tag == "load"][-1]
            tags = {tag for tag, data in events if data.get("n") == last}
            return {"first/seen", "second/seen"} <= tags

        wait_until(complete, 60)
        events = _events(opts)
    fired = [data["n"] for tag, data in events if tag == "load"]
    seen = defaultdict(list)
    for tag, data in events:
        if tag.endswith("/seen"):
            seen[tag].append((data["n"], data["version"]))
    for tag in ("first/seen", "second/seen"):
        assert [n for n, _ in seen[tag]] == fired, tag
    # One version for both: no event was matched by half of an old and half of a new set.
    assert dict(seen["first/seen"]) == dict(seen["second/seen"])
    versions = [version for _, version in seen["first/seen"]]
    assert versions == sorted(versions)
    assert len(set(versions)) > 2
    assert [n for n, _ in seen["counted/seen"]] == fired[4::5]
    of_first = dict(seen["first/seen"])
    assert all(of_first[n] == version for n, version in seen["counted/seen"])
