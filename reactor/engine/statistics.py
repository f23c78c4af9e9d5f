"""What the engine counts, for `reactor rules` and `reactor status`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from reactor.rules.model import Rule
from reactor.rules.snapshot import Snapshot
from reactor.rules.switches import Switch
from reactor.rules.wording import Words


@dataclass(slots=True)
class RuleCounters:
    """What became of one rule's events since the engine started.

    Attributes:
        matched: events whose tag matched.
        skipped: of these, those that a condition turned away.
        fired: reactions that ended without an error.
        failed: reactions that ended with one, or could not be planned.
        last_fired: the stamp of the last event that it reacted to.
        skip: why the last one that was turned away was.
        last_error: the last error, as one line; empty again after a reaction that went well.
        last_error_at: when that was, in seconds since 1970, or 0.
    """

    matched: int = 0
    skipped: int = 0
    fired: int = 0
    failed: int = 0
    last_fired: str = ""
    skip: Words = ""
    last_error: str = ""
    last_error_at: float = 0.0

    @property
    def last_skip(self) -> str:
        """Why the last one that was turned away was, in words."""
        return str(self.skip)


@dataclass(slots=True)
class Statistics:
    """All counters, by rule key; those of a rule that did not change survive a reload."""

    total: Counter[str] = field(default_factory=Counter)
    _rules: dict[str, RuleCounters] = field(default_factory=dict)

    def of(self, key: str) -> RuleCounters:
        """Return the counters of a rule."""
        found = self._rules.get(key)
        if found is None:
            found = self._rules[key] = RuleCounters()
        return found

    def keep_only(self, keys: set[str]) -> None:
        """Forget rules that are no more."""
        self._rules = {key: value for key, value in self._rules.items() if key in keys}


def describe_rules(snapshot: Snapshot, statistics: Statistics, key_of: Any) -> dict[str, Any]:
    """Return what `reactor rules` shows."""
    rules = [
        *((rule, "", None) for rule in snapshot.rules),
        *((rule, switch.why, switch) for rule, switch in snapshot.switched_off),
        *((rule, "enabled: false", None) for rule in snapshot.disabled),
    ]
    rows = [
        _describe_rule(rule, statistics.of(key_of(rule)), why, switch)
        for rule, why, switch in rules
    ]
    problems = [
        {"source": str(problem.source), "message": problem.message, "kept": problem.kept}
        for problem in snapshot.problems
    ]
    warnings = [
        {"source": str(warning.source), "message": warning.message} for warning in snapshot.warnings
    ]
    return {
        "version": snapshot.version,
        "rules": rows,
        "problems": problems,
        "warnings": warnings,
    }


def _describe_rule(
    rule: Rule, counters: RuleCounters, why: str, switch: Switch | None
) -> dict[str, Any]:
    return {
        "name": rule.name,
        "description": rule.description,
        "style": rule.style,
        "source": str(rule.source),
        "patterns": list(rule.patterns),
        "state": "off" if why else "on",
        "why_off": why,
        "switched_off": {"user": switch.user, "at": switch.at} if switch else None,
        "matched": counters.matched,
        "skipped": counters.skipped,
        "fired": counters.fired,
        "failed": counters.failed,
        "last_fired": counters.last_fired,
        "last_skip": counters.last_skip,
        "last_error": counters.last_error,
        "last_error_at": counters.last_error_at,
    }
