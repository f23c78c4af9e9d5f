"""The rules in force: order, matching, comparison."""

from dataclasses import dataclass

from reactor.rules.model import Plan, Source
from reactor.rules.snapshot import Problem, Snapshot


@dataclass(frozen=True)
class _Rule:
    name: str
    patterns: tuple[str, ...]
    priority: int = 0
    enabled: bool = True
    description: str = ""
    style: str = "native"
    source: Source | None = None

    def plan(self, event, functions):
        return Plan()


def _names(rules):
    return [rule.name for rule in rules]


def test_priority_then_order():
    """Higher first; equal ones as they came."""
    rules = [_Rule("a", ("x",)), _Rule("b", ("x",), 5), _Rule("c", ("*",)), _Rule("d", ("x",), -1)]
    snapshot = Snapshot(rules, version=3)
    assert _names(snapshot.rules) == ["b", "a", "c", "d"]
    assert _names(snapshot.match("x")) == ["b", "a", "c", "d"]
    assert snapshot.version == 3


def test_disabled_rules_are_kept_apart():
    """They can be listed, and never match."""
    snapshot = Snapshot([_Rule("a", ("*",), enabled=False), _Rule("b", ("*",))])
    assert _names(snapshot.match("x")) == _names(snapshot.rules) == ["b"]
    assert _names(snapshot.disabled) == ["a"]


def test_own_events_are_matched_only_on_purpose():
    """A rule on everything cannot feed on what the engine says about it."""
    snapshot = Snapshot(
        [
            _Rule("all", ("*", "r*", "?eactor/*")),
            _Rule("own", ("reactor/*",)),
            _Rule("both", ("reactor/a", "b")),
        ]
    )
    assert _names(snapshot.match("reactor/a")) == ["own", "both"]
    assert _names(snapshot.match("b")) == ["all", "both"]
    assert _names(snapshot.match("reactor")) == ["all"]


def test_snapshots_compare_by_what_is_in_force():
    """The same rules and problems are the same, whatever the version."""
    rules = [_Rule("a", ("x",)), _Rule("b", ("y",), enabled=False)]
    problem = Problem(Source("f", 2), "broken", kept=True)
    one, two = Snapshot(rules, [problem], 1), Snapshot(rules, [problem], 2)
    assert one.same_as(two)
    assert not one.same_as(Snapshot(rules))
    assert not one.same_as(Snapshot(rules[:1], [problem]))
    more = one.with_problem(Problem(Source("g"), "gone"))
    assert [str(found) for found in more.problems] == [
        "f:2: broken (the last good version stays in force)",
        "g: gone",
    ]
    assert len(one.problems) == 1
    assert _names(more.match("x")) == ["a"]
