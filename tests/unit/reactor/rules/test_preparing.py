"""Rules made before the load that needs them: it finds the same, only sooner."""

from __future__ import annotations

import pytest

from reactor.rules.loading import RuleSet

RULE = "{name}:\n  on: {on}\n  do: [{{event: out}}]\n"


@pytest.fixture
def rules(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.yaml").write_text(RULE.format(name=name, on="x"))
    made = RuleSet(rules=[str(tmp_path)], conf_dir=str(tmp_path))
    made.folder = tmp_path
    made.makes = 0
    maker = made._makers._made

    def counted(text):
        made.makes += 1
        return maker(text)

    made._makers._made = counted
    return made


def _patterns(snapshot):
    return {rule.name: rule.patterns[0] for rule in snapshot.rules}


def test_what_was_prepared_is_not_made_again(rules):
    """The load takes it if the file still has that text."""
    first = rules.load()
    (rules.folder / "a.yaml").write_text(RULE.format(name="a", on="y"))
    rules.makes = 0
    for _ in range(2):
        rules.prepare([str(rules.folder / "a.yaml")], first)
    assert rules.makes == 1
    second = rules.load(first)
    assert (rules.makes, _patterns(second)) == (1, {"a": "y", "b": "x"})
    assert rules._makers.prepared == {}


def test_what_was_prepared_too_early_is_made_anew(rules):
    """Whatever was there when it was looked at."""
    first = rules.load()
    (rules.folder / "a.yaml").write_text("half a fi")
    rules.prepare([str(rules.folder / "a.yaml")], first)
    (rules.folder / "a.yaml").write_text(RULE.format(name="a", on="z"))
    second = rules.load(first)
    assert (_patterns(second), second.problems) == ({"a": "z", "b": "x"}, ())


def test_a_broken_file_that_was_prepared_keeps_its_last_good_version(rules):
    """That of the rules in force, and none that was only looked at."""
    first = rules.load()
    for text in (RULE.format(name="a", on="between"), "a: [broken"):
        (rules.folder / "a.yaml").write_text(text)
        rules.prepare([str(rules.folder / "a.yaml")], first)
    second = rules.load(first)
    assert _patterns(second) == {"a": "x", "b": "x"}
    assert second.problems[0].kept


def test_only_files_that_matter_are_looked_at(rules):
    """Others are no rules, gone, or not to be read."""
    first = rules.load()
    (rules.folder / "notes.yaml.bak").write_text("a: [")
    (rules.folder / "a.yaml").unlink()
    (rules.folder / "b.yaml").write_bytes(b"\xff")
    rules.makes = 0
    names = ("notes.yaml.bak", "a.yaml", "b.yaml", "none")
    rules.prepare([str(rules.folder / name) for name in names], first)
    assert (rules.makes, rules._makers.prepared) == (0, {})
