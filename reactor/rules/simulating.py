"""What rules would do about events, without doing anything: no I/O, and no clock but the given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from bus.record import Event
from reactor.errors import RuleError
from reactor.rules.model import Call, Functions, Plan, Rule
from reactor.rules.redaction import redact, redact_text
from reactor.rules.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one rule would do about one event.

    Attributes:
        rule: the rule.
        event: the event.
        calls: what it would do.
        reason: why it would do nothing.
        error: what is wrong, if that cannot be worked out.
    """

    rule: Rule
    event: Event
    calls: tuple[Call, ...] = ()
    reason: str = ""
    error: str = ""

    def describe(self) -> dict[str, Any]:
        """Return it as plain data, without secrets."""
        event = self.event
        return {
            "rule": self.rule.name,
            "source": str(self.rule.source),
            "event": {"tag": event.tag, "seq": event.seq, "stamp": event.stamp},
            "calls": [describe_call(call) for call in self.calls],
            "why": redact_text(self.reason),
            "error": redact_text(self.error),
        }


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
    """

    def __init__(
        self, snapshot: Snapshot, functions: Functions | None = None, now: float = 0.0
    ) -> None:
        self._snapshot = snapshot
        self._functions: Functions = _Refused() if functions is None else functions
        self._now = now

    def event(self, event: Event, now: float) -> list[Outcome]:
        """Return what each rule that matches an event would do about it."""
        self._now = max(self._now, now)
        return [self._outcome(rule, event) for rule in self._snapshot.match(event.tag)]

    def advance(self, now: float) -> list[Outcome]:
        """Let time pass; return what rules would do because of it."""
        self._now = max(self._now, now)
        return []

    def _outcome(self, rule: Rule, event: Event) -> Outcome:
        plan, error = Plan(), ""
        try:
            plan = rule.plan(event, self._functions)
        except RuleError as fault:
            error = str(fault)
        except Exception as fault:  # the boundary of a rule: one must not end the others
            error = f"{rule.source}: {type(fault).__name__}: {fault}"
        return Outcome(rule, event, plan.calls, plan.skipped, error)


def simulate(events: Iterable[Event], snapshot: Snapshot) -> Iterator[Outcome]:
    """Yield, for each event and each rule that matches it, what the rule would do."""
    simulation = Simulation(snapshot)
    for event in events:
        yield from simulation.event(event, 0.0)


def describe_call(call: Call) -> dict[str, Any]:
    """Return a call with its arguments, as plain data without secrets."""
    about: dict[str, Any] = {"kind": call.kind, "function": call.function, "id": call.ident}
    if call.kind == "local":
        about |= {"target": redact(call.target), "target_type": call.target_type}
    for name in ("args", "kwargs", "data", "options"):
        value = getattr(call, name)
        if value:
            about[name] = redact(value)
    if call.source is not None:
        about["source"] = str(call.source)
    return about
