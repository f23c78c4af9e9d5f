"""Past events before the present rules, on the clock of their stamps: no I/O, nothing remembered.

Policies are asked with an empty memory, so a throttle, a count or a window sees what the replayed
events make of it and nothing else; what rules remember of the present is not touched. Rules that
act by the clock alone (``every``, ``cron``, ``none_of`` by itself) have no event to replay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from bus.record import Event
from reactor.rules.deciding import Decider, Found, Outcome, Recall
from reactor.rules.memory import Memory
from reactor.rules.model import Functions, Rule
from reactor.rules.policies.schedule import Absence, Schedule
from reactor.rules.snapshot import Snapshot


class Replaying:
    """One replay.

    Args:
        snapshot: the rules.
        functions: what templates of Salt's files may call.
        recall: finds events that were waited upon.
        wants: says whether a rule is asked at all.

    Attributes:
        time: how far it is, in seconds since 1970.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        functions: Functions,
        recall: Recall,
        wants: Callable[[Rule], bool] = lambda _rule: True,
    ) -> None:
        rules = [rule for rule in snapshot.rules if wants(rule) and not _is_by_clock(rule)]
        self._snapshot = Snapshot(rules)
        self._decider = Decider(functions, Memory(), recall)
        self._decider.use(self._snapshot, 0.0)
        self.time = 0.0

    def matches(self, tag: str) -> bool:
        """Say whether a rule is about such events."""
        return bool(self._snapshot.match(tag))

    def event(self, event: Event) -> list[Outcome]:
        """Return what rules make of an event; they come in the order of their numbers."""
        self.time = max(self.time, moment(event))
        return _outcomes(self._decider.decide(event, self.time))

    def end(self, at: float) -> list[Outcome]:
        """Return what still waited and is due by ``at``, in seconds since 1970."""
        self.time = max(self.time, at)
        return _outcomes(self._decider.advance(at))


def moment(event: Event) -> float:
    """Return when an event was fired, in seconds since 1970; 0 if it does not say."""
    try:
        return datetime.fromisoformat(event.stamp).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def _is_by_clock(rule: Rule) -> bool:
    return any(isinstance(policy, Schedule | Absence) for policy in rule.policies)


def _outcomes(found: Iterable[Found]) -> list[Outcome]:
    return [one for one in found if isinstance(one, Outcome)]
