"""What rules would do about events, without doing anything: no I/O, and no clock but the given."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bus.record import Event
from bus.wire import STAMP
from reactor.errors import ReactorError, RuleError
from reactor.rules import deciding
from reactor.rules.deciding import Announcement, Decider, Found
from reactor.rules.memory import Memory
from reactor.rules.model import Call, Functions, Plan, Rule
from reactor.rules.program import Program, Reply, steps_of
from reactor.rules.redaction import redact, redact_text
from reactor.rules.snapshot import Snapshot

MAX_OUTCOMES = 10_000
"""What one event, or the passing of time, may lead to: a test that waits a year meets a bound."""

_MOST_EVENTS = 100_000

_ROUND = re.compile(r"^for_each\[\d+\]\.")
_ITEM = re.compile(r"\[\d+\]$")
"""What paths of calls in a loop have more than the action's own."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one rule would do about one event.

    Attributes:
        rule: the rule.
        event: the event.
        calls: what it would do.
        reason: why it would do nothing.
        error: what is wrong, if that cannot be worked out.
        policy: which part of the rule stopped it.
        steps: (policy, whether it passed, why) of each part that was asked.
    """

    rule: Rule
    event: Event
    calls: tuple[Call, ...] = ()
    reason: str = ""
    error: str = ""
    policy: str = ""
    steps: tuple[tuple[str, bool, str], ...] = ()

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
            "policy": self.policy,
            "steps": [
                {"policy": name, "passed": passed, "why": redact_text(why)}
                for name, passed, why in self.steps
            ],
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
        results: what actions give, by their ``id`` or their path, such as ``do[0]``; with
            ``error`` in it, the action fails. By default all go well and give nothing.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        functions: Functions | None = None,
        now: float = 0.0,
        results: Mapping[str, Any] | None = None,
    ) -> None:
        self._results = results or {}
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

    def advance(self, now: float) -> list[Outcome]:
        """Let time pass; return what rules would do because of it, schedules included."""
        found: list[Outcome] = []
        while (due := self._decider.next_due) is not None and due <= now:
            self._now = max(self._now, due)
            found += self._outcomes(self._decider.advance(self._now))
            if len(found) > MAX_OUTCOMES:
                raise ReactorError(f"more than {MAX_OUTCOMES} reactions in this time: wait less")
        self._now = max(self._now, now)
        return found

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
                outcomes.append(outcome_of(one, self._results))
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


def outcome_of(found: deciding.Outcome, results: Mapping[str, Any] | None = None) -> Outcome:
    """Return what was decided, with the calls that it would lead to if actions gave ``results``."""
    plan, error = found.plan, found.error
    calls = list(plan.calls)
    if plan.program is not None:
        calls, error = _calls_of(plan.program, error, results or {})
    return Outcome(
        found.rule, found.event, tuple(calls), found.reason, error, found.policy, found.steps
    )


def _calls_of(program: Program, error: str, results: Mapping[str, Any]) -> tuple[list[Call], str]:
    """Run a program as if its calls gave these results."""
    calls: list[Call] = []
    names = {step.ident: step.id for step in steps_of(program.steps)}
    run = program.run("test")
    try:
        request = next(run)
        while len(calls) < MAX_OUTCOMES:
            reply = Reply({})
            if isinstance(request, Call):
                calls.append(request)
                reply = _reply(request.ident, names, results)
            request = run.send(reply)
    except StopIteration as end:
        error = error or str(end.value or "")
    except RuleError as fault:
        error = str(fault)
    return calls, error


def _reply(ident: str, names: Mapping[str, str], results: Mapping[str, Any]) -> Reply:
    """Return what a call gives: by its own path, or as one of a ``for_each``, or by its id."""
    path = _ROUND.sub("", ident)
    step = path if path in names else _ITEM.sub("", path)
    for name in (ident, step, names.get(step, "")):
        if name and name in results:
            given = results[name]
            if not isinstance(given, Mapping):
                return Reply(given)
            error = given.get("error")
            return Reply(dict(given), str(error) if error else None)
    return Reply({})


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
