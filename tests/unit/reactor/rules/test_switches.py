"""Which rules are meant by names and globs, and what is said of those that are off."""

import pytest

from reactor.rules.snapshot import Snapshot
from reactor.rules.switches import Switch, UnknownRuleError, named
from tests.unit.reactor.rules.rule_tools import built

NAMES = ("deploy_web", "deploy_db", "hello", "/srv/a[1].sls")
RULES = """
first:
  on: my/*
  do: [{event: out/first}]
second:
  on: my/*
  do: [{event: out/second}]
third:
  on: my/*
  enabled: false
  do: [{event: out/third}]
"""


def test_names_and_globs():
    """Each name once, in the order in which it was asked for; a name is never read as a glob."""
    assert named(["hello", "deploy_*", "hello"], NAMES) == ["hello", "deploy_db", "deploy_web"]
    assert named(["/srv/a[1].sls"], NAMES) == ["/srv/a[1].sls"]


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("helo", "there is no rule 'helo': did you mean hello?"),
        ("zzz", "there is no rule 'zzz': 'reactor rules' lists them"),
        ("z*", "no rule's name matches 'z*': 'reactor rules' lists them"),
        ("x" * 5000, f"there is no rule '{'x' * 100}': 'reactor rules' lists them"),
    ],
)
def test_an_unknown_name(pattern, text):
    """One line that says what is wrong, with the nearest name."""
    with pytest.raises(UnknownRuleError) as caught:
        named(["hello", pattern], NAMES)
    assert str(caught.value) == text
    assert caught.value.status == 404


def test_what_is_said_of_it():
    """Who and when, in a form that is the same everywhere."""
    switch = Switch("hello", "alice", 1767225600.9)
    assert switch.why == "switched off by alice at 2026-01-01 00:00:00 UTC"
    assert switch.describe()["why"] == switch.why


def test_a_snapshot_without_them():
    """They match nothing, are not gone, and come back in their own place."""
    rules, _ = built(RULES)
    loaded = Snapshot(rules)
    off = {"first": Switch("first", "alice", 0), "third": Switch("third", "alice", 0)}
    changed = loaded.switched(off)
    assert [rule.name for rule in changed.match("my/x")] == ["second"]
    assert [(rule.name, switch.user) for rule, switch in changed.switched_off] == [
        ("first", "alice")
    ]
    assert {rule.name for rule in changed.remembered} == {"first", "second"}
    assert [rule.name for rule in changed.disabled] == ["third"]
    assert loaded.switched({}) is loaded
    assert [rule.name for rule in loaded.match("my/x")] == ["first", "second"]
