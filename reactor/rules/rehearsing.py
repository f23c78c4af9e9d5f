"""What was decided, gone through without doing anything: its calls, and when each would begin."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bus import durations
from bus.record import Event
from reactor.errors import RuleError
from reactor.rules import deciding
from reactor.rules.model import Call, Rule
from reactor.rules.program import Pause, Program, Reply, Request, steps_of
from reactor.rules.redaction import redact, redact_text

MAX_CALLS = 10_000
"""Calls of one reaction: each of a list of a thousand may have its own."""

SECONDS = 1.0
"""How long an action is taken to last, unless something else is said."""

_HANDED_OVER = frozenset({"event", "log"})
"""What is done as soon as it is handed over, and so takes no time; see `Durations.of`."""

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
        reason: why it would do nothing, or not yet, or no longer.
        error: what is wrong, if that cannot be worked out.
        policy: which part of the rule stopped it.
        steps: (policy, whether it passed, why) of each part that was asked.
        waits: it waits for its turn by the rule's ``mode``; another outcome says what becomes of
            it.
        unbegun: the calls of an earlier outcome that would not be begun after all, since another
            reaction took its place (``mode: restart``).
    """

    rule: Rule
    event: Event
    calls: tuple[Call, ...] = ()
    reason: str = ""
    error: str = ""
    policy: str = ""
    steps: tuple[tuple[str, bool, str], ...] = ()
    waits: bool = False
    unbegun: tuple[Call, ...] | None = None

    @property
    def state(self) -> str:
        """One word for what becomes of it."""
        if self.unbegun is not None:
            return "ended"
        if self.error:
            return "fails"
        if self.waits:
            return "waits"
        return "runs" if self.calls else "skipped"

    def describe(self) -> dict[str, Any]:
        """Return it as plain data, without secrets."""
        event = self.event
        about = {
            "rule": self.rule.name,
            "source": str(self.rule.source),
            "event": {"tag": event.tag, "seq": event.seq, "stamp": event.stamp},
            "state": self.state,
            "calls": [describe_call(call) for call in self.calls],
            "why": redact_text(self.reason),
            "error": redact_text(self.error),
            "policy": self.policy,
            "steps": [
                {"policy": name, "passed": passed, "why": redact_text(why)}
                for name, passed, why in self.steps
            ],
        }
        if self.unbegun is not None:
            about["unbegun"] = [describe_call(call) for call in self.unbegun]
        return about


@dataclass(frozen=True, slots=True)
class Durations:
    """How long actions are taken to last.

    Attributes:
        usual: seconds of one that is not named.
        named: seconds of others, by their ``id`` or their path, such as ``do[0]``.
    """

    usual: float = SECONDS
    named: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, given: Any) -> Durations:
        """Return what people write: one time for all, or a mapping of ids and paths to times.

        Raises:
            DurationError: it is neither.
        """
        if isinstance(given, Mapping):
            return cls(named={str(name): durations.seconds(time) for name, time in given.items()})
        return cls() if given is None else cls(durations.seconds(given))

    def of(self, call: Call, names: tuple[str, ...]) -> float:
        """Return the seconds of a call, which is known by these names.

        What is only handed over takes no time: an event, a line of the log, and a job that nobody
        waits for. No attempt takes longer than its ``timeout``.
        """
        for name in names:
            if name in self.named:
                return self.named[name]
        is_job = call.kind == "local" and "wait" not in call.options
        if is_job or call.kind in _HANDED_OVER:
            return 0.0
        return min(self.usual, call.timeout or self.usual)


class Rehearsal(NamedTuple):
    """What a reaction would do if nothing came in between.

    Attributes:
        outcome: what it would do.
        offsets: for each call, the seconds from the beginning after which it would begin.
        seconds: how long it would last.
    """

    outcome: Outcome
    offsets: tuple[float, ...]
    seconds: float


def rehearse(
    found: deciding.Outcome,
    results: Mapping[str, Any] | None = None,
    takes: Durations | None = None,
) -> Rehearsal:
    """Go through what was decided as if its actions gave ``results`` and took so long."""
    plan, error = found.plan, found.error
    takes = takes or Durations()
    calls, seconds = list(plan.calls), 0.0
    offsets: list[float] = []
    if plan.program is not None:
        calls, offsets, seconds, error = _run(plan.program, error, results or {}, takes)
    else:
        for call in calls:
            offsets.append(seconds)
            seconds += takes.of(call, (call.ident,))
    steps = tuple((name, passed, str(why)) for name, passed, why in found.steps)
    outcome = Outcome(
        found.rule, found.event, tuple(calls), found.reason, error, found.policy, steps
    )
    return Rehearsal(outcome, tuple(offsets), seconds)


def outcome_of(found: deciding.Outcome, results: Mapping[str, Any] | None = None) -> Outcome:
    """Return what was decided, with the calls that it would lead to if actions gave ``results``."""
    return rehearse(found, results).outcome


def _run(
    program: Program, error: str, results: Mapping[str, Any], takes: Durations
) -> tuple[list[Call], list[float], float, str]:
    """Run a program as if its calls gave these results."""
    calls: list[Call] = []
    offsets: list[float] = []
    seconds = 0.0
    ids = {step.ident: step.id for step in steps_of(program.steps)}
    run = program.run("test")
    try:
        request: Request = next(run)
        while len(calls) < MAX_CALLS:
            reply = Reply({})
            if isinstance(request, Pause):
                seconds += request.seconds
            else:
                names = tuple(_names(request.ident, ids))
                calls.append(request)
                offsets.append(seconds)
                seconds += takes.of(request, names)
                reply = _reply(names, results)
            request = run.send(reply)
    except StopIteration as end:
        error = error or str(end.value or "")
    except RuleError as fault:
        error = str(fault)
    return calls, offsets, seconds, error


def _names(ident: str, ids: Mapping[str, str]) -> Iterator[str]:
    """Yield by what a call is known: its own path, its action's if it is one of a loop, its id."""
    path = _ROUND.sub("", ident)
    step = path if path in ids else _ITEM.sub("", path)
    yield from (name for name in (ident, step, ids.get(step, "")) if name)


def _reply(names: tuple[str, ...], results: Mapping[str, Any]) -> Reply:
    for name in names:
        if name in results:
            given = results[name]
            if not isinstance(given, Mapping):
                return Reply(given)
            error = given.get("error")
            return Reply(dict(given), str(error) if error else None)
    return Reply({})


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
