"""``dedupe``: of events that are the same by a key, only the first within a time counts."""

from __future__ import annotations

from dataclasses import dataclass

from reactor.rules.memory import Table
from reactor.rules.policies import PASS, Case, Key, Remembers, Verdict, for_key, shown, stop


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
            ago = shown(now - first)
            return stop(f"dedupe: the same came {ago} ago, within {shown(within)}{for_key(key)}")
        table.put(key, now)
        return PASS
