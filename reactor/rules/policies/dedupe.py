"""``dedupe``: of events that are the same by a key, only the first within a time counts."""

from __future__ import annotations

from dataclasses import dataclass

from reactor.rules.memory import Table
from reactor.rules.policies import PASS, Case, Key, Remembers, Verdict, for_key, shown, stop
from reactor.rules.wording import Later


@dataclass(frozen=True, slots=True)
class Dedupe(Remembers):
    """Lets one event of a key pass. The cell: when it was."""

    within: float
    by: Key
    mark: str
    name: str = "dedupe"

    def judge(self, case: Case, table: Table) -> Verdict:
        """Stop a repeat."""
        now, within = case.now, self.within
        table.drop_stale(lambda first: first + within <= now)
        key = self.by(case.values)
        first = table.get(key)
        if first is not None and now < first + within:
            return stop(Later(_repeated, now - first, within, key))
        table.put(key, now)
        return PASS


def _repeated(ago: float, within: float, key: str) -> str:
    return f"dedupe: the same came {shown(ago)} ago, within {shown(within)}{for_key(key)}"
