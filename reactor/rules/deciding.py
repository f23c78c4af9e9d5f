"""Events in, plans and reasons out: the whole of what makes rules act, without a process.

The engine runs a `Decider` over the bus, and whatever tests or explains rules runs one over events
from anywhere, with any clock::

    decider = Decider(functions={}, memory=Memory(), recall=events_by_number.get)
    decider.use(snapshot, now)
    for event in events:
        for found in decider.decide(event, now):
            ...                      # Outcome: a plan, or the reason why there is none;
                                     # Announcement: an event that the rules themselves fire
    found = decider.advance(now)     # what waited and is due, once there are no more events

`reactor.rules.policies` says what is decided, and how time passes.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bus.record import Event
from reactor.errors import RuleError
from reactor.rules.identity import REPEAT, numbered, rule_key
from reactor.rules.memory import Memory
from reactor.rules.model import Functions, Plan, Rule
from reactor.rules.policies import Announce, Case, Policy, Ripe, Verdict
from reactor.rules.snapshot import Snapshot
from reactor.rules.wording import Words

_NO_PLAN = Plan()

Asked = tuple[str, bool, Words]
"""A policy that was asked, whether it let the event pass, and why."""


@dataclass(slots=True)
class Outcome:
    """What one rule makes of one event. Not frozen only since that costs a tenth of a firing.

    Attributes:
        rule: the rule.
        key: the name under which this reaction of the rule is remembered; see `rule_key`.
        event: the event that it is about.
        plan: what is to be done; without calls if nothing is.
        said: in one short text, why nothing is done; `reason` is the text.
        policy: what stopped it: one of `reactor.rules.policies.ORDER`, ``rule`` for an error, or
            empty.
        error: what is wrong, if the rule could not be worked out for this event.
        window: what its policies found out.
        steps: (policy, whether it passed, why) of each that was asked, in order.
        fault: the error behind `error`, if it was none that rules are expected to have.
        lane: the key of its rule's ``mode``.
        at: if it waited, when that was due, in seconds since 1970.
    """

    rule: Rule
    key: str
    event: Event
    plan: Plan = _NO_PLAN
    said: Words = ""
    policy: str = ""
    error: str = ""
    window: dict[str, Any] | None = None
    steps: tuple[Asked, ...] = ()
    fault: Exception | None = None
    lane: str = ""
    at: float | None = None

    @property
    def acts(self) -> bool:
        """Whether something is to be done."""
        return self.plan.acts

    @property
    def reason(self) -> str:
        """Why nothing is done, in words."""
        return str(self.said)


@dataclass(frozen=True, slots=True)
class Announcement:
    """An event that a rule's own schedule wants fired.

    Attributes:
        rule: the rule.
        key: see `Outcome`.
        tag: its tag.
        data: its data.
    """

    rule: Rule
    key: str
    tag: str
    data: dict[str, Any]


Found = Outcome | Announcement
Recall = Callable[[int], Event | None]
"""Returns an event of before by its number, or None if it is not kept any more."""

_LEAST_TIMERS = 20_000
"""Timers beyond which those are looked for that nobody waits for any more."""

_Timer = tuple[float, int, int, str]
"""When, the number of the rule, that of its policy, and the key."""


class Decider:
    """Runs the rules of a snapshot and the chains of their policies.

    Args:
        functions: what templates of Salt's files may call.
        memory: what policies remember.
        recall: finds events that were waited upon.

    Attributes:
        time: the time up to which everything was decided, in seconds since 1970.
    """

    def __init__(self, functions: Functions, memory: Memory, recall: Recall) -> None:
        self._functions = functions
        self._memory = memory
        self._recall = recall
        self._keys: dict[int, str] = {}
        self._rules: tuple[Rule, ...] = ()
        self._places: dict[int, int] = {}
        self._waiting: list[tuple[int, int, str, Policy]] = []
        self._timers: list[_Timer] = []
        self._most_timers = _LEAST_TIMERS
        self.snapshot = Snapshot()
        self.time = 0.0

    def use(self, snapshot: Snapshot, now: float) -> None:
        """Put other rules in force; what is remembered for policies that did not change stays.

        Args:
            snapshot: the rules.
            now: the time from which new schedules count.
        """
        self.snapshot = snapshot
        self._rules = snapshot.rules
        self._keys = {id(rule): rule_key(rule) for rule in snapshot.rules}
        self._places = {id(rule): place for place, rule in enumerate(snapshot.rules)}
        self._waiting = [
            (place, number, self._keys[id(rule)], policy)
            for place, rule in enumerate(snapshot.rules)
            for number, policy in enumerate(rule.policies)
            if policy.mark
        ]
        self._memory.keep_only({(key, policy.mark) for _, _, key, policy in self._waiting})
        self._set_timers(now)

    def _set_timers(self, now: float) -> None:
        """Have a timer for all that waits, and none for what has ended meanwhile."""
        self._timers = [
            (due, place, number, timer)
            for place, number, key, policy in self._waiting
            for due, timer in policy.timers(self._memory.table(key, policy.mark), now)
        ]
        heapq.heapify(self._timers)
        self._most_timers = max(_LEAST_TIMERS, 2 * len(self._timers))

    def key_of(self, rule: Rule) -> str:
        """Return the key of a rule in force."""
        return self._keys[id(rule)]

    @property
    def next_due(self) -> float | None:
        """When something that waits is due, or None."""
        return self._timers[0][0] if self._timers else None

    # -- events ---------------------------------------------------------------------------

    def decide(self, event: Event, now: float) -> list[Found]:
        """Say what each rule that the event's tag matches makes of it.

        Args:
            event: the event; they come in the order of their numbers.
            now: the clock, which no event's time is beyond.
        """
        return self.decide_for(self.snapshot.match(event.tag), event, now)

    def decide_for(self, rules: Sequence[Rule], event: Event, now: float) -> list[Found]:
        """Do the same for rules that were matched already."""
        if len(rules) == 1 and not rules[0].policies:
            return [self._planned(rules[0], self._keys[id(rules[0])], event)]
        found: list[Found] = []
        keys = numbered([self._keys[id(rule)] for rule in rules])
        moment = 0.0
        for rule, key in zip(rules, keys, strict=True):
            if rule.policies and not moment:
                # Only now: most rules have no policies, and to read a stamp takes its time.
                moment = self._pass_time(event, now)
                found = [*self._due(moment), *found]
            found.append(self._judge(rule, key, event, moment, now))
        return found

    def _pass_time(self, event: Event, now: float) -> float:
        try:
            at = min(datetime.fromisoformat(event.stamp).timestamp(), now)
        except (ValueError, OverflowError):
            at = now
        self.time = max(self.time, at)
        return self.time

    def _judge(self, rule: Rule, key: str, event: Event, moment: float, now: float) -> Outcome:
        if not rule.policies:
            return self._planned(rule, key, event)
        try:
            case = Case(event, moment, rule.values(event), rule.name, clock=now)
        except Exception as error:  # the boundary of a rule, as below
            return _failed(rule, key, event, error, ())
        return self._chain(rule, key, case, 0, [])

    def _chain(self, rule: Rule, key: str, case: Case, first: int, steps: list[Asked]) -> Outcome:
        """Ask the policies from ``first`` on, then plan."""
        case.values["window"] = case.window
        for number, policy in enumerate(rule.policies[first:], first):
            try:
                verdict = policy.judge(case, self._memory.table(self._keys[id(rule)], policy.mark))
            except Exception as error:  # the boundary of a rule: no event may end its reader
                return _failed(rule, key, case.event, error, steps)
            steps.append((policy.name, verdict.passes, verdict.why))
            if verdict.due is not None:
                self._ask_again(rule, number, verdict.due, verdict.key)
            for due, timer in verdict.others:
                self._ask_again(rule, number, due, timer)
            if not verdict.passes and verdict.branch != "else":
                return _stopped(rule, key, case, policy, verdict, steps)
            if verdict.branch:
                return self._planned(rule, key, case.event, case.window, steps)
        return self._planned(rule, key, case.event, case.window, steps)

    def _ask_again(self, rule: Rule, number: int, due: float, timer: str) -> None:
        heapq.heappush(self._timers, (due, self._places[id(rule)], number, timer))
        if len(self._timers) > self._most_timers:
            # Windows that ended early leave theirs behind, for an hour if they were that long.
            self._set_timers(self.time)

    def _planned(
        self,
        rule: Rule,
        key: str,
        event: Event,
        window: dict[str, Any] | None = None,
        steps: Sequence[Asked] = (),
    ) -> Outcome:
        lane = ""
        try:
            plan = rule.plan(event, self._functions, self.window(window))
            if rule.mode is not None:
                lane = rule.mode.by({**rule.values(event), "window": window or {}})
        except Exception as error:  # the boundary of a rule: no event may end its reader
            return _failed(rule, key, event, error, steps)
        policy = "" if plan.calls or plan.program else "when"
        return Outcome(
            rule, key, event, plan, plan.skipped, policy, "", window, tuple(steps), lane=lane
        )

    def plan_again(
        self, rule: Rule, key: str, event: Event, window: dict[str, Any] | None
    ) -> Outcome:
        """Plan a reaction that was begun before a restart; its policies have had their say."""
        return self._planned(rule, key, event, window)

    def window(self, found: dict[str, Any] | None) -> dict[str, Any] | None:
        """Return what expressions see as ``window``: its events instead of their numbers."""
        if not found or "events" not in found:
            return found
        events = {name: _facts(self._recall(seq)) for name, seq in found["events"].items()}
        return {**found, "events": events}

    # -- time -----------------------------------------------------------------------------

    def advance(self, now: float) -> list[Found]:
        """Let the time pass, when there are no more events to read."""
        self.time = max(self.time, now)
        return self._due(self.time)

    def _due(self, now: float) -> list[Found]:
        found: list[Found] = []
        while self._timers and self._timers[0][0] <= now:
            due, place, number, timer = heapq.heappop(self._timers)
            found += self._ripe(self._rules[place], number, timer, due, now)
        return found

    def _ripe(self, rule: Rule, number: int, timer: str, due: float, now: float) -> Iterable[Found]:
        policy, key = rule.policies[number], self._keys[id(rule)]
        ripe = policy.ripe(timer, self._memory.table(key, policy.mark), now)
        if isinstance(ripe, Announce):
            yield Announcement(rule, key, ripe.tag, {"rule": rule.name, **ripe.data})
        elif isinstance(ripe, Ripe):
            yield self._go_on(rule, key, number, timer, ripe, due)

    def _go_on(
        self, rule: Rule, key: str, number: int, timer: str, ripe: Ripe, due: float
    ) -> Outcome:
        event = self._recall(ripe.seq)
        step = (rule.policies[number].name, True, ripe.why)
        if event is None:
            error = RuleError("the event that it waited upon is no longer kept", rule.source.path)
            return _failed(rule, key, Event("", {}, ripe.seq), error, [step])
        try:
            values = rule.values(event)
        except Exception as error:  # the boundary of a rule, as above
            return _failed(rule, key, event, error, [step])
        case = Case(event, due, values, rule.name, ripe.window, clock=self.time)
        # One event can be the last of several windows; each is a reaction of its own.
        named = f"{key}{REPEAT}{timer}" if timer else key
        outcome = self._chain(rule, named, case, number + 1, [step])
        outcome.at = due
        return outcome


def _stopped(
    rule: Rule,
    key: str,
    case: Case,
    policy: Policy,
    verdict: Verdict,
    steps: Sequence[Asked],
) -> Outcome:
    return Outcome(
        rule,
        key,
        case.event,
        said=verdict.why,
        policy=policy.name,
        window=case.window,
        steps=tuple(steps),
    )


def _failed(
    rule: Rule,
    key: str,
    event: Event,
    error: Exception,
    steps: Sequence[Asked],
) -> Outcome:
    expected = isinstance(error, RuleError)
    text = str(error) if expected else f"{rule.source}: {type(error).__name__}: {error}"
    return Outcome(
        rule,
        key,
        event,
        policy="rule",
        error=text,
        steps=tuple(steps),
        fault=None if expected else error,
    )


def _facts(event: Event | None) -> dict[str, Any]:
    if event is None:
        return {}
    return {"tag": event.tag, "data": event.data, "seq": event.seq, "stamp": event.stamp}
