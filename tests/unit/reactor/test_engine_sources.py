"""The rules of a configuration that changes."""

from __future__ import annotations

import os

import pytest

from bus.config import master_config
from reactor.engine.sources import ConfiguredRules

RULE = "{name}:\n  on: a/*\n  do:\n    - event: out\n"


@pytest.fixture
def config(tmp_path):
    """A configuration directory with one rule."""
    (tmp_path / "master").write_text("rules: [one.yaml]\n")
    (tmp_path / "master.d").mkdir()
    (tmp_path / "one.yaml").write_text(RULE.format(name="one"))
    (tmp_path / "two.yaml").write_text(RULE.format(name="two"))
    (tmp_path / "a.sls").write_text("a: {runner.test.ping: []}\n")
    return tmp_path


def _names(snapshot):
    return [rule.name for rule in snapshot.rules]


def _write(path, text):
    """Write so that a look at the file's times shows it, whatever its clock's tick is."""
    path.write_text(text)
    os.utime(path, ns=(path.stat().st_mtime_ns + 1,) * 2)


def test_a_changed_option_is_followed(config):
    """Both the main file and its neighbours count, one that comes and one that goes."""
    rules = ConfiguredRules(master_config(config))
    first = rules.load()
    assert _names(first) == ["one"]
    _write(config / "master.d/a.conf", "reactor:\n  - 'x': a.sls\n")
    second = rules.load(first)
    assert _names(second) == ["a", "one"]
    _write(config / "master", "rules: [two.yaml]\n")
    (config / "master.d/a.conf").unlink()
    assert _names(rules.load(second)) == ["two"]


def test_rules_of_this_run_stay_beside_those_of_the_files(config):
    """What `reactor up --rules` names is in no file and outlives each change of them."""
    opts = master_config(config).with_(rules=["one.yaml", str(config / "two.yaml")])
    rules = ConfiguredRules(opts)
    first = rules.load()
    assert _names(first) == ["one", "two"]
    _write(config / "master", "rules: []\n")
    assert _names(rules.load(first)) == ["two"]


def test_a_broken_configuration_keeps_the_rules_and_their_version(config):
    """It is a problem with file and line, said once, which ends when the file is mended."""
    rules = ConfiguredRules(master_config(config))
    first = rules.load()
    _write(config / "master.d/z.conf", "\nreactor: 5\n")
    second = rules.load(first)
    third = rules.load(second)
    [problem] = second.problems
    assert str(problem).startswith(f"{config}/master.d/z.conf:2: the option reactor expects")
    assert str(problem).count("z.conf") == 1
    assert problem.kept
    assert (_names(third), third.version, third.problems) == (["one"], 1, second.problems)
    (config / "master.d/z.conf").unlink()
    mended = rules.load(third)
    assert (mended.problems, mended.version) == ((), 1)


def test_a_configuration_that_nothing_acts_by_is_not_kept(config):
    """A command that reads it while no reactor runs cannot say that anything stays in force."""
    opts = master_config(config)
    _write(config / "master.d/z.conf", "reactor: 5\n")
    [problem] = ConfiguredRules(opts, in_force=False).load().problems
    assert not problem.kept
    [problem] = ConfiguredRules(opts).load().problems
    assert problem.kept


def test_what_a_file_names_in_vain_is_said_with_its_line(config):
    """Entries are counted over the files, in the order in which they are joined."""
    (config / "master").write_text("rules:\n  - one.yaml\n  - nope.yaml\n")
    (config / "master.d/a.conf").write_text("reactor:\n  - 'x': a.sls\n")
    (config / "master.d/b.conf").write_text("# why\nreactor:\n  - 'y': none.sls\n")
    problems = [str(problem) for problem in ConfiguredRules(master_config(config)).load().problems]
    assert [problem.partition(": ")[0] for problem in problems] == [
        f"{config}/master:3",
        f"{config}/master.d/b.conf:3",
    ]


def test_what_no_file_names_has_the_folder_as_its_place(config):
    """Options that a program gave have no line."""
    opts = master_config(config).with_(rules=["one.yaml", "nope.yaml"])
    [problem] = ConfiguredRules(opts).load().problems
    assert problem.source.path == str(config)


def test_what_is_watched(config):
    """The configuration itself and the files that it names."""
    rules = ConfiguredRules(master_config(config))
    rules.load()
    watched = {str(path) for path in rules.watch_paths()}
    assert {f"{config}/master", f"{config}/master.d", f"{config}/one.yaml"} <= watched


def test_other_file_roots_are_followed(config):
    """A `salt://` address is looked up where the files now say."""
    (config / "srv").mkdir()
    (config / "srv/b.sls").write_text("b: {runner.test.ping: []}\n")
    _write(config / "master", "reactor: [{'x': 'salt://b.sls'}]\n")
    rules = ConfiguredRules(master_config(config))
    first = rules.load()
    assert _names(first) == []
    _write(
        config / "master",
        f"reactor: [{{'x': 'salt://b.sls'}}]\nfile_roots: {{base: [{config}/srv]}}\n",
    )
    assert _names(rules.load(first)) == ["b"]
