"""``when`` within a chain of policies; see `reactor.rules.native` for a rule without others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from reactor.rules.memory import Table
from reactor.rules.policies import PASS, Case, Remembers, Verdict
from reactor.rules.wording import Words


class Condition(Protocol):
    """One expression of ``when``."""

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Work it out."""
        ...

    def refusal(self, values: Mapping[str, Any]) -> Words:
        """Say why it does not hold."""
        ...


@dataclass(frozen=True, slots=True)
class When(Remembers):
    """All conditions hold.

    Attributes:
        conditions: the conditions.
        otherwise: whether the rule has an ``else``.
    """

    conditions: tuple[Condition, ...]
    otherwise: bool = False
    mark: str = ""
    name: str = "when"

    def judge(self, case: Case, table: Table) -> Verdict:  # noqa: ARG002 - remembers nothing
        """Work the conditions out, up to the first that does not hold."""
        for condition in self.conditions:
            if not condition.holds(case.values):
                branch = "else" if self.otherwise else ""
                return Verdict(False, condition.refusal(case.values), branch=branch)
        return PASS
