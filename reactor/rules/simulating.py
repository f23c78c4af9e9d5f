"""What rules would do about events, without doing anything: no I/O, and no clock but the given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from bus.record import Event
from bus.wire import STAMP
from reactor.errors import ReactorError, RuleError
from reactor.rules import deciding
from reactor.rules.deciding import Announcement, Decider, Found
from reactor.rules.memory import Memory
from reactor.rules.model import Functions, Plan
from reactor.rules.rehearsing import Durations, Outcome, outcome_of
from reactor.rules.snapshot import Snapshot
from reactor.rules.turns import Turns

MAX_OUTCOMES = 10_000
"""What one event, or the passing of time, may lead to: a test that waits a year meets a bound."""

_MOST_EVENTS = 100_000


class _Refused(dict[str, Callable[..., Any]]):
    """Functions of templates: none is called where nothing is to happen."""

    def __missing__(self, name: str) -> Callable[..., Any]:
        def refuse(*_args: Any, **_kwargs: Any) -> Any:
            raise RuleError(f"the template calls salt[{name!r}], which nothing here runs")

        return refuse

    def __contains__(self, _name: object) -> bool:
        return True


class Simulation:
    """Rules over events from anywhere, on a clock of the caller's.

    Args:
        snapshot: the rules.
        functions: what templates may call; by default nothing.
        now: when the clock begins, in seconds since 1970.
        results: what actions give, by their ``id`` or their path, such as ``do[0]``; with
            ``error`` in it, the action fails. By default all go well and give nothing.
        takes: how long actions last, for rules with a ``mode``.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        functions: Functions | None = None,
        now: float = 0.0,
        results: Mapping[str, Any] | None = None,
        takes: Durations | None = None,
    ) -> None:
        self._turns = Turns(results, takes)
        self._events: dict[int, Event] = {}
        self._decider = Decider(
            _Refused() if functions is None else functions, Memory(), self._events.get
        )
        self._decider.use(snapshot, now)
        self._snapshot = snapshot
        self._now = now
        self._seq = 0

    def event(self, event: Event, now: float) -> list[Outcome]:
        """Return what each rule that matches an event would do about it."""
        self._now = max(self._now, now)
        self._seq = max(self._seq, event.seq)
        self._remember(event)
        return self._outcomes(self._decider.decide(event, self._now))

    def finish(self) -> list[Outcome]:
        """Let end what runs; return what had to wait for that. The clock stays as it is."""
        return self._turns.finish()

    def advance(self, now: float) -> list[Outcome]:
        """Let time pass; return what rules would do because of it, schedules included."""
        found: list[Outcome] = []
        while (due := self._decider.next_due) is not None and due <= now:
            self._now = max(self._now, due)
            found += self._outcomes(self._decider.advance(self._now))
            if len(found) > MAX_OUTCOMES:
                raise ReactorError(f"more than {MAX_OUTCOMES} reactions in this time: wait less")
        self._now = max(self._now, now)
        return found + self._turns.until(self._now)

    def _remember(self, event: Event) -> None:
        self._events[event.seq] = event
        if len(self._events) > _MOST_EVENTS:
            del self._events[next(iter(self._events))]

    def _outcomes(self, found: Iterable[Found]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for one in found:
            if isinstance(one, Announcement):
                outcomes += self._announced(one)
            else:
                outcomes += self._turns.decided(one, self._now if one.at is None else one.at)
        return outcomes

    def _announced(self, wanted: Announcement) -> list[Outcome]:
        """Have the rules look at the event that a schedule would fire."""
        self._seq += 1
        stamp = datetime.fromtimestamp(self._now, UTC).isoformat()
        event = Event(wanted.tag, {**wanted.data, STAMP: stamp}, self._seq, "test")
        self._remember(event)
        return self._outcomes(self._decider.decide(event, self._now))


def refused_functions() -> Functions:
    """Return functions for templates of which each says that nothing here runs it."""
    return _Refused()


def simulate(events: Iterable[Event], snapshot: Snapshot) -> Iterator[Outcome]:
    """Yield what rules would do about events that they react to each for itself.

    Conditions are asked; what remembers events of before (throttles, counts, windows) is not.
    """
    functions = _Refused()
    for event in events:
        for rule in snapshot.match(event.tag):
            plan, error = Plan(), ""
            try:
                plan = rule.plan(event, functions)
            except RuleError as fault:
                error = str(fault)
            except Exception as fault:  # the boundary of a rule: one must not end the others
                error = f"{rule.source}: {type(fault).__name__}: {fault}"
            yield outcome_of(
                deciding.Outcome(rule, rule.name, event, plan, plan.skipped, "when", error)
            )
