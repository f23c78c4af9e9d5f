"""The actions of a rule that are more than a row of calls: conditions, loops, retries, failures.

A program is run by whoever starts calls: it yields what to do next (a `Call`, or a `Pause`) and
is sent a `Reply` for each. It has no clock, and what it does follows from the event and the
replies alone: after a crash the same program is run again, is given the replies that are known,
and goes on where it was.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from reactor.errors import RuleError
from reactor.rules.expressions import Closure
from reactor.rules.model import Call
from reactor.rules.values import Condition, Spot

MAX_ITEMS = 1_000
"""Rounds of one ``for_each``: more than that is a list that nobody meant to give."""


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a failed action is tried again, and when.

    Attributes:
        times: further attempts.
        backoff: seconds before the first of them; doubled for each one after it.
        max: the most seconds of one pause.
        jitter: the part of each pause, from 0 to 1, by which reactions differ.
    """

    times: int
    backoff: float
    max: float
    jitter: float

    def pause(self, attempt: int, seed: str) -> float:
        """Return how long to wait after the failed ``attempt`` (from 1).

        ``seed`` takes the place of chance: reactions differ in it, and a test can foretell it.
        """
        seconds = min(self.max, self.backoff * 2.0 ** min(attempt - 1, 60))
        digest = hashlib.blake2s(f"{seed}/{attempt}".encode(errors="replace"), digest_size=4)
        chance = int.from_bytes(digest.digest()) / 0xFFFF_FFFF
        return seconds * (1 + self.jitter * (2 * chance - 1))


@dataclass(frozen=True, slots=True)
class Step:
    """One action of a rule.

    Attributes:
        ident: its path in the rule, such as ``do[0]``.
        id: the name that its result has besides its number; empty for none.
        make: works the call out.
        kind: the call's kind.
        conditions: all must hold, or it is left out.
        for_each: works out the list that it is done for; None: it is done once.
        retry: whether it is tried again.
        timeout: seconds that an attempt may take; 0 for no limit of its own.
        rescue: what is done when it failed.
        goes_on: whether the actions after it are done though it failed.
        names: what its values use.
        spot: where it stands.
    """

    ident: str
    id: str
    make: Callable[[Mapping[str, Any]], Call]
    kind: str
    spot: Spot
    conditions: tuple[Condition, ...] = ()
    for_each: Closure | None = None
    retry: Retry | None = None
    timeout: float = 0.0
    rescue: tuple[Step, ...] = ()
    goes_on: bool = False
    names: frozenset[str] = frozenset()

    @property
    def is_plain(self) -> bool:
        """Whether it is a call and nothing more."""
        later = {"results", "item", "index", "failure"}
        special = self.conditions or self.for_each or self.retry or self.timeout
        return not (special or self.rescue or self.goes_on or self.names & later)

    @property
    def is_known(self) -> bool:
        """Whether its one call can be worked out before anything is done."""
        return not (self.for_each or self.conditions or "results" in self.names)


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing is to be done for a time.

    Attributes:
        seconds: how long.
        why: what was wrong.
    """

    seconds: float
    why: str


@dataclass(frozen=True, slots=True)
class Reply:
    """How a call ended.

    Attributes:
        value: its result.
        error: what was wrong, in one line; None if it was done.
    """

    value: Any = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class _Where:
    """Where in a run a sequence stands: what its idents begin with, in place of ``cut`` letters."""

    prefix: str = ""
    cut: int = 0


Request = Call | Pause
Run = Generator[Request, Reply, str]
"""Yields requests and returns the error that made the reaction fail, or an empty text."""


@dataclass(frozen=True)
class Program:
    """The actions of one reaction, with what their values see.

    Attributes:
        steps: the actions.
        values: what expressions see.
        for_each: works out the list for each of which all actions are done; None: once.
        spot: where ``for_each`` stands.
        known: calls that were worked out before anything is done, by their idents.
    """

    steps: tuple[Step, ...]
    values: Mapping[str, Any]
    for_each: Closure | None = None
    spot: Spot | None = None
    known: Mapping[str, Call] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        steps: tuple[Step, ...],
        values: Mapping[str, Any],
        for_each: Closure | None,
        spot: Spot | None,
    ) -> Program:
        """Return a program; what can be worked out before anything is done is.

        Raises:
            RuleError: a value cannot be worked out for this event.
        """
        known = {}
        if for_each is None:
            known = {step.ident: step.make(values) for step in steps if step.is_known}
        return cls(steps, values, for_each, spot, known)

    @property
    def uses_results(self) -> bool:
        """Whether an expression asks what an earlier action gave."""
        return any("results" in step.names for step in steps_of(self.steps))

    def run(self, seed: str) -> Run:
        """Run it; ``seed`` is the reaction's id."""
        if self.for_each is None:
            return self._sequence(self.steps, self._scope({}), _Where(), seed)
        return self._rounds(self.for_each, seed)

    def _scope(self, more: Mapping[str, Any]) -> dict[str, Any]:
        return {**self.values, "results": {}, **more}

    def _rounds(self, for_each: Closure, seed: str) -> Run:
        assert self.spot is not None
        first = ""
        try:
            items = items_of(for_each(self.values), self.spot)
        except RuleError as error:
            return str(error)
        for index, item in enumerate(items):
            scope = self._scope({"item": item, "index": index})
            # Each is a matter of its own: one that fails does not keep the others from it.
            where = _Where(f"for_each[{index}].")
            failed = yield from self._sequence(self.steps, scope, where, seed)
            first = first or failed
        return first

    def _sequence(
        self, steps: tuple[Step, ...], scope: dict[str, Any], where: _Where, seed: str
    ) -> Run:
        for number, step in enumerate(steps):
            error = yield from self._step(step, number, scope, where, seed)
            if error and not step.goes_on:
                return error
        return ""

    def _step(
        self, step: Step, number: int, scope: dict[str, Any], where: _Where, seed: str
    ) -> Run:
        ident = where.prefix + step.ident[where.cut :]
        names: list[str | int] = [step.id] if where.cut else [number, step.id]
        try:
            skipped = not all(condition.holds(scope) for condition in step.conditions)
            listed = None if skipped or step.for_each is None else step.for_each(scope)
            items = [] if listed is None else items_of(listed, step.spot)
        except RuleError as error:
            _note(scope, names, Reply(error=str(error)))
            return str(error)
        if skipped:
            _note(scope, names, Reply({"skipped": True}))
            return ""
        if step.for_each is None:
            reply = yield from self._tried(step, scope, ident, seed)
            _note(scope, names, reply)
            return reply.error or ""
        replies = []
        for index, item in enumerate(items):
            inner = {**scope, "item": item, "index": index}
            reply = yield from self._tried(step, inner, f"{ident}[{index}]", seed)
            replies.append(reply)
            if reply.error and not step.goes_on:
                break
        first = next((reply.error for reply in replies if reply.error), None)
        _note(scope, names, Reply({"items": [_shown(reply) for reply in replies]}, first))
        return first or ""

    def _tried(
        self, step: Step, scope: dict[str, Any], ident: str, seed: str
    ) -> Generator[Request, Reply, Reply]:
        """Do one action, again if it failed, and what belongs to its failure."""
        reply = Reply()
        for attempt in range(1, 2 + (step.retry.times if step.retry else 0)):
            try:
                call = self.known.get(ident) or step.make(scope)
            except RuleError as error:
                reply = Reply(error=str(error))
                break
            call = dataclasses.replace(call, ident=ident, attempt=attempt, timeout=step.timeout)
            reply = yield call
            if reply.error is None:
                return reply
            if step.retry and attempt <= step.retry.times:
                yield Pause(step.retry.pause(attempt, f"{seed}/{ident}"), reply.error)
        if step.rescue:
            failure = {"error": reply.error, "action": step.kind, "id": step.id or ident}
            inner = {**scope, "failure": failure}
            # What is done about a failure changes nothing about it; its own errors are reported.
            yield from self._sequence(step.rescue, inner, _Where(ident, len(step.ident)), seed)
        return reply


def items_of(value: Any, spot: Spot) -> list[Any]:
    """Return what ``for_each`` goes through: a list, or the keys and values of a mapping.

    Raises:
        RuleError: it is neither, or too long.
    """
    if isinstance(value, Mapping):
        value = [{"key": key, "value": item} for key, item in value.items()]
    if not isinstance(value, list):
        raise spot.error(
            f"for_each wants a list or a mapping, and this gave {type(value).__name__}"
        )
    if len(value) > MAX_ITEMS:
        raise spot.error(f"for_each takes at most {MAX_ITEMS} items, and this gave {len(value)}")
    return value


def _note(scope: dict[str, Any], names: Iterable[str | int], reply: Reply) -> None:
    shown = _shown(reply)
    scope["results"].update({name: shown for name in names if name != ""})


def _shown(reply: Reply) -> dict[str, Any]:
    """Return a result as expressions see it."""
    value = reply.value if isinstance(reply.value, dict) else {"value": reply.value}
    return {**value, "ok": reply.error is None, "error": reply.error or ""}


def steps_of(steps: tuple[Step, ...]) -> Iterator[Step]:
    """Yield steps and all that belong to their failures."""
    for step in steps:
        yield step
        yield from steps_of(step.rescue)
