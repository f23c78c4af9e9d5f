"""``expires``: a rule that ends at a moment, or that leaves alone what is too old."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from bus.record import Event
from reactor.rules.memory import Table
from reactor.rules.policies import PASS, Case, Policy, Remembers, Verdict, shown, stop

_NOTHING = Table(0, lambda _key: None, lambda: None)
"""What these policies remember."""


@dataclass(frozen=True, slots=True)
class Ends(Remembers):
    """The rule is over at a moment, in seconds since 1970."""

    at: float
    mark: str = ""
    name: str = "expires"

    def judge(self, case: Case, table: Table) -> Verdict:  # noqa: ARG002 - remembers nothing
        """Stop from that moment on."""
        if case.now < self.at:
            return PASS
        moment = datetime.fromtimestamp(self.at, UTC).isoformat(timespec="seconds")
        return stop(f"expires: the rule ended at {moment}")


@dataclass(frozen=True, slots=True)
class TooOld(Remembers):
    """Events that were fired longer ago than so many seconds are left alone."""

    age: float
    mark: str = ""
    name: str = "expires"

    def judge(self, case: Case, table: Table) -> Verdict:  # noqa: ARG002 - remembers nothing
        """Compare the event's stamp with the clock."""
        why = too_old(self.age, case.event.stamp, case.clock)
        return stop(why) if why else PASS


def expired(policies: Iterable[Policy], event: Event, now: float) -> str:
    """Say why a rule that waited for its turn has nothing to do any more; else an empty text.

    Args:
        policies: the rule's.
        event: what it was to act on.
        now: the clock.
    """
    for policy in policies:
        if isinstance(policy, Ends | TooOld):
            verdict = policy.judge(Case(event, now, {}, clock=now), _NOTHING)
            if not verdict.passes:
                return str(verdict.why)
    return ""


def too_old(age: float, stamp: str, now: float) -> str:
    """Say in a text that an event is older than ``age``; an empty one if it is not."""
    try:
        is_old = now - datetime.fromisoformat(stamp).timestamp()
    except (ValueError, OverflowError):
        return ""
    return (
        f"expires: the event is {shown(is_old)} old, expires {shown(age)}" if is_old > age else ""
    )
