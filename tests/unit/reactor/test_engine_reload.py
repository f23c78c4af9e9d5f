"""The reloader, with real files and a real watch."""

from __future__ import annotations

import queue
import threading

import pytest

from bus.config import master_config
from reactor.engine.reload import MOST_LOOKS, Reloader
from reactor.engine.sources import ConfiguredRules
from reactor.rules.model import Source
from reactor.rules.snapshot import Problem, Snapshot

GOOD = "{name}:\n  on: a/*\n  do:\n    - event: out\n"


@pytest.fixture
def config(tmp_path):
    """A configuration directory with one rule."""
    (tmp_path / "master").write_text("rules: [rules]\n")
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "one.yaml").write_text(GOOD.format(name="one"))
    return tmp_path


@pytest.fixture
def watched(config):
    """The configuration's rules with a reloader, and a queue of what it loads."""
    rules = ConfiguredRules(master_config(config))
    loaded = queue.Queue()
    reloader = Reloader(rules, rules.load(), lambda snapshot, seconds: loaded.put(snapshot))
    reloader.start()
    yield config, loaded, reloader
    reloader.close()


def _names(snapshot):
    return sorted(rule.name for rule in snapshot.rules)


def test_a_saved_rule_is_in_force(watched):
    """A new file and a changed one are loaded without anybody asking."""
    config, loaded, _ = watched
    (config / "rules" / "two.yaml").write_text(GOOD.format(name="two"))
    assert _names(loaded.get(timeout=5)) == ["one", "two"]
    (config / "rules" / "one.yaml").write_text(GOOD.format(name="changed"))
    assert _names(loaded.get(timeout=5)) == ["changed", "two"]


def test_a_broken_rule_keeps_its_last_good_version_and_is_reported(watched):
    """The problem names file and line, and mending the file takes it away."""
    config, loaded, _ = watched
    (config / "rules" / "one.yaml").write_text("one:\n  on: a/*\n  doo: []\n")
    broken = loaded.get(timeout=5)
    assert _names(broken) == ["one"]
    assert broken.problems[0].kept
    assert any("one.yaml:3" in str(problem) for problem in broken.problems)
    (config / "rules" / "one.yaml").write_text(GOOD.format(name="mended"))
    mended = loaded.get(timeout=5)
    assert _names(mended) == ["mended"]
    assert mended.problems == ()


def test_a_thousand_files_are_one_reload(watched):
    """A burst of changes is waited out."""
    config, loaded, _ = watched
    for number in range(300):
        (config / "rules" / f"r{number}.yaml").write_text(GOOD.format(name=f"r{number}"))
    seen = [loaded.get(timeout=5)]
    while len(seen[-1].rules) < 301:
        seen.append(loaded.get(timeout=5))
    assert len(seen) <= 3


def test_a_poke_without_a_change_loads_nothing_new(watched):
    """What is the same stays in force and is not announced."""
    config, loaded, reloader = watched
    reloader.poke()
    (config / "rules" / "two.yaml").write_text(GOOD.format(name="two"))
    assert _names(loaded.get(timeout=5)) == ["one", "two"]
    assert loaded.empty()


def test_a_changed_map_in_the_configuration_is_followed(watched):
    """Salt's `reactor:` map takes effect without a restart."""
    config, loaded, _ = watched
    (config / "start.sls").write_text("x:\n  runner.test.ping: []\n")
    (config / "master.d").mkdir()
    (config / "master.d" / "reactor.conf").write_text("reactor:\n  - 'a/*':\n    - start.sls\n")
    while "start" not in _names(snapshot := loaded.get(timeout=5)):
        pass
    assert [str(problem) for problem in snapshot.problems] == []


def test_a_broken_configuration_keeps_the_rules_and_says_so(watched):
    """An unknown option in the file ends nothing."""
    config, loaded, _ = watched
    (config / "master").write_text("rules: [rules]\nreactr: []\n")
    snapshot = loaded.get(timeout=5)
    assert _names(snapshot) == ["one"]
    assert "master:2" in str(snapshot.problems[0])


def test_rules_of_the_command_line_stay_beside_those_of_the_files(config, tmp_path):
    """`up --rules` adds to the configuration, also when that changes."""
    more = config / "more"
    more.mkdir()
    (more / "extra.yaml").write_text(GOOD.format(name="extra"))
    opts = master_config(config)
    rules = ConfiguredRules(opts.with_(rules=[*opts["rules"], str(more)]))
    first = rules.load()
    assert _names(first) == ["extra", "one"]
    (config / "master").write_text("rules: []\n")
    assert _names(rules.load(first)) == ["extra"]


def test_one_that_never_began_can_be_closed(config):
    """What failed before it, at a start, is what has to be said."""
    rules = ConfiguredRules(master_config(config))
    loaded: list[object] = []
    reloader = Reloader(rules, rules.load(), lambda *what: loaded.append(what))
    reloader.poke()
    reloader.close()
    assert loaded == []
    assert "reloader" not in [thread.name for thread in threading.enumerate()]


class Looks:
    """Rules that are something else at each look, up to the last, which stays."""

    def __init__(self, snapshots):
        self._snapshots = list(snapshots)
        self.count = 0

    def load(self, previous=None):
        self.count += 1
        return self._snapshots.pop(0) if len(self._snapshots) > 1 else self._snapshots[0]

    def prepare(self, paths, before):
        """Nothing is made ahead."""

    def watch_paths(self):
        return ()


def _loaded_by(looks, before):
    loaded = queue.Queue()
    reloader = Reloader(looks, before, lambda snapshot, seconds: loaded.put(snapshot))
    reloader.start()
    reloader.poke()
    try:
        return loaded.get(timeout=20)
    finally:
        reloader.close()


def test_what_only_one_look_sees_is_not_in_force():
    """A file that is moved during a look is seen twice or not at all."""
    torn, whole = (Snapshot((), [Problem(Source(name), "x")], 2) for name in ("torn", "whole"))
    assert _loaded_by(Looks([torn, whole]), Snapshot()) is whole


def test_files_that_never_rest_are_taken_as_they_are():
    """After some looks."""
    looks = Looks(Snapshot((), [Problem(Source(f"f{n}"), "x")], n) for n in range(100))
    assert _loaded_by(looks, Snapshot()).version == MOST_LOOKS
    assert looks.count >= MOST_LOOKS + 1
