"""``count``: a rule acts only while there were enough events within a time, for each key."""

from __future__ import annotations

from dataclasses import dataclass

from reactor.rules.memory import Table
from reactor.rules.policies import Case, Key, Remembers, Verdict, for_key, shown
from reactor.rules.wording import Later


@dataclass(frozen=True, slots=True)
class Count(Remembers):
    """At least so many within a sliding time. The cell: the times of the newest ones.

    Attributes:
        at_least: how many; no more are remembered for a key.
        within: seconds.
        by: works out the key.
        reset: whether counting begins anew once the number is reached.
        mark: see `Policy.mark`.
    """

    at_least: int
    within: float
    by: Key
    reset: bool
    mark: str
    name: str = "count"

    def judge(self, case: Case, table: Table) -> Verdict:
        """Count the event."""
        now, since = case.now, case.now - self.within
        table.drop_stale(lambda times: times[-1] <= since)
        key = self.by(case.values)
        times = [at for at in table.get(key) or () if at > since]
        times = [*times[-self.at_least + 1 :], now] if self.at_least > 1 else [now]
        case.window |= {"key": key, "count": len(times), "first": times[0]}
        why = Later(_said, len(times), self.at_least, self.within, key)
        enough = len(times) >= self.at_least
        if enough and self.reset:
            table.drop(key)
        else:
            table.put(key, times)
        return Verdict(enough, why, key=key)


def _said(count: int, at_least: int, within: float, key: str) -> str:
    return f"count: {count} of {at_least} within {shown(within)}{for_key(key)}"
