"""A firing: one rule's reaction to one event, from its plan to its end. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bus.record import CAUSE, Event
from reactor.rules.deciding import Outcome
from reactor.rules.identity import REPEAT, name_in_key, reaction_id, rule_key
from reactor.rules.model import Call, Rule
from reactor.rules.policies import Policy
from reactor.rules.program import Reply, Run
from reactor.rules.wording import Words

__all__ = [
    "REPEAT",
    "Firing",
    "ProgramFiring",
    "Reaction",
    "firing_of",
    "hops_of",
    "name_in_key",
    "reaction_id",
    "rule_key",
]


@dataclass(slots=True)
class Reaction:
    """Who acts, and because of what: handed to every action, and never changed.

    Not frozen only since that costs half a microsecond for each reaction.

    Attributes:
        id: the same again when it has to run again after a crash.
        rule: the rule's name.
        source: the rule's file and line.
        tag: the event's tag.
        seq: the event's number.
        event_id: the event's id.
        hops: how many reactions stand in the chain up to this one, it included.
    """

    id: str
    rule: str
    source: str
    tag: str
    seq: int
    event_id: str
    hops: int

    @classmethod
    def of(cls, rule: Rule, key: str, event: Event) -> Reaction:
        """Return the reaction of ``rule``, remembered as ``key``, to ``event``."""
        ident = event.id
        return cls(
            id=reaction_id(ident, key),
            rule=rule.name,
            source=str(rule.source),
            tag=event.tag,
            seq=event.seq,
            event_id=ident,
            hops=hops_of(event) + 1,
        )

    def cause(self) -> dict[str, Any]:
        """Return what is put into an event that this reaction fires."""
        return {
            "rule": self.rule,
            "event": self.event_id,
            "tag": self.tag,
            "seq": self.seq,
            "hops": self.hops,
        }


def hops_of(event: Event) -> int:
    """Return how many reactions led to this event."""
    cause = event.data.get(CAUSE)
    hops = cause.get("hops") if isinstance(cause, dict) else 0
    return hops if isinstance(hops, int) and hops > 0 else 0


_FUNCTIONS = ("runner", "wheel")
"""What the threads of a pool run."""


@dataclass(slots=True)
class Firing:
    """The calls of one reaction and how far they are.

    A native rule's calls run one after the other and stop at the first that fails. Those of a
    Salt file are begun in order, and none waits for another, but for functions of the master:
    each of them waits for the one before it, or in the pool's threads their order would mean
    nothing.

    ``rule`` and ``steps``, what its policies said, are for its trace alone.
    ``waits_by`` are the policies of the rule of one that waits for its turn by the rule's mode.
    """

    reaction: Reaction
    key: tuple[int, str]
    calls: Sequence[Call]
    in_sequence: bool
    begun_at: float
    done: set[int] = field(default_factory=set)
    results: dict[int, Any] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)
    reported: bool = False
    cancelled: str = ""
    is_busy: bool = False
    has_moved: bool = False
    window: Mapping[str, Any] | None = None
    replaces: tuple[tuple[int, str], ...] = ()
    waits_by: Sequence[Policy] = ()
    seconds: float = 0.0
    is_large: bool = False
    is_retry: bool = False
    event: Event | None = None
    rule: Rule | None = None
    steps: Sequence[tuple[str, bool, Words]] = ()
    _started: set[int] = field(default_factory=set)

    def startable(self) -> Sequence[int]:
        """Return the numbers of the calls that may begin now, and count them as begun."""
        if self.cancelled or len(self._started) == len(self.calls):
            return ()
        found: list[int] = []
        has_function_open = False
        for number, call in enumerate(self.calls):
            if number in self.done:
                continue
            if self.in_sequence and (self.errors or len(self.done) < number):
                break
            is_function = call.kind in _FUNCTIONS and not self.in_sequence
            if number not in self._started and not (is_function and has_function_open):
                self._started.add(number)
                found.append(number)
            has_function_open = has_function_open or is_function
        return found

    def finish(self, number: int, result: Any, error: str | None) -> None:
        """Note how a call ended."""
        self.done.add(number)
        if isinstance(result, dict) and "returns" in result:
            self.is_large = True  # what minions returned is not kept for as long as a trace is
        if error is None:
            self.results[number] = result
        else:
            self.errors[number] = error

    def take_up(
        self,
        done: frozenset[int],
        replies: Mapping[str, tuple[Any, str | None]],  # noqa: ARG002 - a program's
    ) -> None:
        """Begin where it was when the engine ended."""
        self.done |= {number for number in done if number < len(self.calls)}

    @property
    def ended(self) -> bool:
        """Whether nothing more will run."""
        if self.in_sequence and self.errors:
            return self._started <= self.done
        return len(self.done) == len(self.calls)

    @property
    def failed(self) -> bool:
        """Whether it counts as failed."""
        return bool(self.errors)

    @property
    def error(self) -> str:
        """The first error, or an empty text."""
        return self.errors[min(self.errors)] if self.errors else ""

    def report(self, seconds: float) -> dict[str, Any]:
        """Return the data of the event that says how it ended."""
        reaction = self.reaction
        data: dict[str, Any] = {
            "id": reaction.id,
            "rule": reaction.rule,
            "source": reaction.source,
            "event": {"tag": reaction.tag, "seq": reaction.seq, "id": reaction.event_id},
            "calls": [self._describe(number) for number in range(len(self.calls))],
            "seconds": round(seconds, 6),
        }
        if self.failed or self.cancelled:
            data["error"] = self.cancelled or self.error
        return data

    def _describe(self, number: int) -> dict[str, Any]:
        call = self.calls[number]
        about: dict[str, Any] = {"kind": call.kind, "function": call.function, "id": call.ident}
        if call.kind == "local":
            about["target"] = call.target
        if call.attempt > 1:
            about["attempt"] = call.attempt
        if number in self.errors:
            about["error"] = self.errors[number]
        elif number in self.results:
            result = self.results[number]
            is_short = call.kind in _SHORT and "wait" not in call.options
            about["result"] = result if is_short else _reported(result)
        return about


_SHORT = frozenset({"event", "local", "log"})
"""Kinds of call whose results are a number or two."""

_LONGEST_SHOWN = 1_000
"""Letters of one text in a report: the whole of it is for the actions that come after."""


def _reported(result: Any) -> Any:
    """Return a result as a report has it: what a function returned stands in its own event."""
    if not isinstance(result, dict):
        return result
    return {
        name: value[:_LONGEST_SHOWN] + "..." if _is_long(value) else value
        for name, value in result.items()
        if name not in ("return", "returns", "json")
    }


def _is_long(value: Any) -> bool:
    return isinstance(value, str) and len(value) > _LONGEST_SHOWN


@dataclass(slots=True)
class ProgramFiring(Firing):
    """A firing whose actions are a program: what is done next may hang on how others ended.

    Attributes:
        run: the program, running.
        past: how calls ended before a restart: they are not done again.
        replies: how calls ended, by ident, to be written down.
        pause: for how long, in seconds, the program wants to wait; None if it does not.
        keeps_results: whether an expression may ask for results, so that they are kept.
    """

    run: Run = field(kw_only=True)
    past: dict[str, Reply] = field(default_factory=dict)
    replies: dict[str, tuple[Any, str | None]] = field(default_factory=dict)
    pause: float | None = None
    keeps_results: bool = False
    _sequence: list[Call] = field(default_factory=list)
    _begun: bool = False
    _next: int | None = None
    _over: bool = False
    _outcome: str = ""

    def startable(self) -> Sequence[int]:
        """Return the number of the call that the program wants, if it wants one now."""
        if not self._begun and not self.cancelled:
            self._begun = True
            self.calls = self._sequence
            self._go_on(None)
        if self._next is None or self.cancelled:
            return ()
        number, self._next = self._next, None
        self._started.add(number)
        return (number,)

    def finish(self, number: int, result: Any, error: str | None) -> None:
        """Hand the program its reply."""
        # As in the base, without super(): a dataclass with slots is another class than this one.
        Firing.finish(self, number, result, error)
        kept = result if self.keeps_results else None
        self.replies[self.calls[number].ident] = (kept, error)
        self._go_on(Reply(result, error))

    def take_up(
        self,
        done: frozenset[int],  # noqa: ARG002 - what has no program goes by numbers
        replies: Mapping[str, tuple[Any, str | None]],
    ) -> None:
        """Begin where it was when the engine ended: what was replied is not asked again."""
        self.replies = dict(replies)
        self.past = {ident: Reply(*reply) for ident, reply in replies.items()}

    def go_on(self) -> None:
        """End a pause."""
        self.pause = None
        self._go_on(Reply())

    def _go_on(self, reply: Reply | None) -> None:
        if self.cancelled:
            return
        try:
            request = next(self.run) if reply is None else self.run.send(reply)
            while isinstance(request, Call):
                known = self.past.pop(request.ident, None)
                if known is None:
                    self._sequence.append(request)
                    self._next = len(self._sequence) - 1
                    return
                request = self.run.send(known)
            self.pause = request.seconds
        except StopIteration as end:
            self._over, self._outcome = True, end.value

    @property
    def ended(self) -> bool:
        """Whether nothing more will run."""
        return self._over

    @property
    def failed(self) -> bool:
        """Whether it counts as failed: not for what ``on_failure: continue`` allows."""
        return bool(self._outcome)

    @property
    def error(self) -> str:
        """The error that ended it."""
        return self._outcome


def firing_of(outcome: Outcome, begun_at: float) -> Firing:
    """Return a firing; one whose plan failed has an error and no calls, and ends at once."""
    rule, event, plan = outcome.rule, outcome.event, outcome.plan
    reaction = Reaction.of(rule, outcome.key, event)
    key = (event.seq, outcome.key)
    if plan.program is not None:
        return ProgramFiring(
            reaction=reaction,
            key=key,
            calls=(),
            in_sequence=True,
            begun_at=begun_at,
            window=outcome.window,
            run=plan.program.run(reaction.id),
            keeps_results=plan.program.uses_results,
        )
    return Firing(
        reaction=reaction,
        key=key,
        calls=plan.calls,
        in_sequence=rule.style == "native",
        begun_at=begun_at,
        errors={0: outcome.error} if outcome.error else {},
        window=outcome.window,
    )
