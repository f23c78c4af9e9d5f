"""``throttle``: how often a rule acts, for each key."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from reactor.rules.memory import Table
from reactor.rules.policies import PASS, Case, Key, Remembers, Ripe, Verdict, for_key, shown, stop
from reactor.rules.wording import Later


@dataclass(frozen=True, slots=True)
class OnceWithin(Remembers):
    """Acts at once, and then not again for a while. The cell: when it last acted."""

    within: float
    by: Key
    mark: str
    name: str = "throttle"

    def judge(self, case: Case, table: Table) -> Verdict:
        """Stop what comes too soon after the last firing."""
        now, within = case.now, self.within
        table.drop_stale(lambda fired: fired + within <= now)
        key = self.by(case.values)
        fired = table.get(key)
        if fired is not None and now < fired + within:
            return stop(Later(_too_soon, now - fired, within, key), key=key)
        table.put(key, now)
        return PASS


@dataclass(frozen=True, slots=True)
class OnceAfter:
    """Waits from the first event on, then acts once. The cell: due, first, last seq, count."""

    after: float
    by: Key
    mark: str
    name: str = "throttle"

    def judge(self, case: Case, table: Table) -> Verdict:
        """Gather the event."""
        key = self.by(case.values)
        cell = table.get(key)
        due, first, _, count = cell or (case.now + self.after, case.now, 0, 0)
        table.put(key, (due, first, case.event.seq, count + 1))
        why = Later(_waits, due - case.now, self.after, key)
        return stop(why, None if cell else due, key)

    def timers(self, table: Table, now: float) -> Iterable[tuple[float, str]]:  # noqa: ARG002
        """Return all keys that wait."""
        return [(cell[0], key) for key, cell in table.items()]

    def ripe(self, key: str, table: Table, now: float) -> Ripe | None:
        """Act on the last event."""
        cell = table.get(key)
        if cell is None or cell[0] > now:
            return None
        table.drop(key)
        _, first, seq, count = cell
        window = {"key": key, "count": count, "first": first}
        why = f"throttle: {count} within once_after {shown(self.after)}{for_key(key)}"
        return Ripe(seq, window, why)


@dataclass(frozen=True, slots=True)
class Rate(Remembers):
    """At most so many within a time, in bursts too: a bucket of tokens. The cell: tokens, when."""

    times: int
    per: float
    by: Key
    mark: str
    name: str = "throttle"

    def judge(self, case: Case, table: Table) -> Verdict:
        """Take a token, or stop."""
        now, per = case.now, self.per
        table.drop_stale(lambda cell: cell[1] + per <= now)
        key = self.by(case.values)
        tokens, at = table.get(key) or (float(self.times), now)
        tokens = min(float(self.times), tokens + (now - at) * self.times / per)
        if tokens < 1 - 1e-9:
            wait = (1 - tokens) * per / self.times
            return stop(Later(_too_many, self.times, per, wait, key), key=key)
        table.put(key, (tokens - 1, now))
        return PASS


def _too_soon(ago: float, within: float, key: str) -> str:
    return f"throttle: fired {shown(ago)} ago, once_within {shown(within)}{for_key(key)}"


def _waits(left: float, after: float, key: str) -> str:
    return f"throttle: waits {shown(left)} more, once_after {shown(after)}{for_key(key)}"


def _too_many(times: int, per: float, wait: float, key: str) -> str:
    rate = f"throttle: rate {times} per {shown(per)} is reached"
    return f"{rate}, the next in {shown(wait)}{for_key(key)}"
