"""``match``: tags that a rule matches by something else than globs."""

from __future__ import annotations

from dataclasses import dataclass

from bus.tags import Matcher
from reactor.rules.memory import Table
from reactor.rules.policies import PASS, Case, Remembers, Verdict, stop


@dataclass(frozen=True, slots=True)
class Match(Remembers):
    """What the index of globs cannot say: regular expressions."""

    patterns: tuple[str, ...]
    matchers: tuple[Matcher, ...]
    mark: str = ""
    name: str = "match"

    def judge(self, case: Case, table: Table) -> Verdict:  # noqa: ARG002 - remembers nothing
        """Try the tag."""
        tag = case.event.tag
        if any(matches(tag) for matches in self.matchers):
            return PASS
        return stop(f"match: the tag does not match the regex {' or '.join(self.patterns)}")
