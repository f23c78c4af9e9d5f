"""What the engine counts."""

from __future__ import annotations

from reactor.engine.firing import rule_key
from reactor.engine.statistics import Statistics, describe_rules
from reactor.rules.loading import RuleSet


def test_counters_of_rules_that_are_gone_are_forgotten():
    """Those of the others stay as they are."""
    statistics = Statistics()
    statistics.of("a").fired += 1
    statistics.of("b").fired += 1
    statistics.keep_only({"a"})
    assert (statistics.of("a").fired, statistics.of("b").fired) == (1, 0)


def test_what_reactor_rules_shows(tmp_path):
    """Every rule with its counters, those that are off too, and every problem."""
    (tmp_path / "a.yaml").write_text(
        "one: {on: x, description: first, do: [{event: e}]}\n"
        "two: {on: [x, y], enabled: false, do: [{event: e}]}\n"
    )
    (tmp_path / "b.yaml").write_text("one: 5\n")
    snapshot = RuleSet(rules=[str(tmp_path)]).load()
    statistics = Statistics()
    statistics.of(rule_key(snapshot.rules[0])).matched = 7
    shown = describe_rules(snapshot, statistics, rule_key)
    one, two = shown["rules"]
    assert (one["name"], one["state"], one["matched"], one["description"]) == (
        "one",
        "on",
        7,
        "first",
    )
    assert (two["name"], two["state"], two["patterns"]) == ("two", "off", ["x", "y"])
    assert shown["problems"][0]["source"] == f"{tmp_path}/b.yaml:1"
    assert shown["version"] == 1
