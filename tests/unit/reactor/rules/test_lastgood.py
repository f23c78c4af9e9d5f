"""Last good versions that one process tells another: what is in force beside broken files."""

import json

from reactor.rules.lastgood import kept, restored
from reactor.rules.loading import RuleSet
from reactor.rules.snapshot import Snapshot


def _rules(folder):
    return RuleSet(rules=["."], conf_dir=str(folder))


def _told(snapshot):
    return json.loads(json.dumps(kept(snapshot.state)))


def _write(folder, **texts):
    for name, text in texts.items():
        (folder / name.replace("_", ".")).write_text(text)


def _broken(folder):
    """Return the rules in force where each file was good once, and is broken now."""
    _write(
        folder,
        a_yaml="a: {on: x, do: [{event: out/a}]}\n",
        m_yaml="reactor: [{x: s.sls}]\n",
        s_sls="{% include 'part.sls' %}\n",
        part_sls="b: {runner.test.ping: []}\n",
    )
    rules = _rules(folder)
    good = rules.load()
    _write(folder, a_yaml="a: [", m_yaml="reactor: 5", s_sls="{% if %}", part_sls="{{")
    return rules.load(good)


def test_what_is_kept_is_loaded_as_it_is_in_force(tmp_path):
    """Rules, maps and reactor files with their includes; and each problem is told as kept."""
    in_force = _broken(tmp_path)
    again = _rules(tmp_path).load(restored(_told(in_force)))
    assert [rule.name for rule in again.rules] == ["a", "s"]
    assert [rule.source for rule in again.rules] == [rule.source for rule in in_force.rules]
    assert [rule.style for rule in again.match("x")] == ["native", "salt"]
    assert again.rules[1].file.calls({})[0].function == "test.ping"
    assert again.problems == in_force.problems
    assert all(problem.kept for problem in again.problems)


def test_a_second_break_keeps_the_same_version(tmp_path):
    """What was good last stays, however often the file is saved broken."""
    in_force = _broken(tmp_path)
    _write(tmp_path, a_yaml="a: {{")
    told = _told(_rules(tmp_path).load(in_force))
    assert "out/a" in told["rule_files"][str(tmp_path / "a.yaml")]


def test_good_files_are_not_told(tmp_path):
    """They are read from the disk; a file that never was good has nothing to tell."""
    _write(tmp_path, a_yaml="a: {on: x, do: [{event: out/a}]}\n", b_yaml="b: [")
    snapshot = _rules(tmp_path).load()
    assert _told(snapshot) == {"rule_files": {}, "reactions": {}}
    assert restored(_told(Snapshot())).rules == ()


def test_a_mended_file_is_taken_as_it_is_now(tmp_path):
    """What was told before the file was mended does not outlive that."""
    told = _told(_broken(tmp_path))
    _write(tmp_path, a_yaml="new: {on: x, do: [{event: out/new}]}\n")
    assert _rules(tmp_path).load(restored(told)).rules[0].name == "new"
