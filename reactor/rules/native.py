"""Native rules: YAML first, then each value with ``{{ }}`` compiled once to a typed closure.

What an event carries is only ever a value: it cannot become a key, an action or YAML.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bus.record import Event
from bus.yamlfile import Lines
from reactor.errors import RuleError
from reactor.rules.actions import ActionBuilder
from reactor.rules.chains import ChainBuilder
from reactor.rules.expressions import Closure, Values
from reactor.rules.model import Call, Functions, Plan, Source
from reactor.rules.policies import Policy
from reactor.rules.policies.mode import Mode
from reactor.rules.program import Program, Step, steps_of
from reactor.rules.values import Condition, Place, Spot, ValueCompiler, names_of, spot_of

Action = Callable[[Values], Call]


@dataclass(frozen=True, slots=True)
class EventFacts:
    """What a rule sees as ``event``.

    Attributes:
        tag: the event's tag.
        seq: its number in the journal.
        id: its name, unique among all buses.
        stamp: when it was fired, ISO 8601, UTC.
    """

    tag: str
    seq: int
    id: str
    stamp: str


@dataclass(frozen=True, slots=True)
class Actions:
    """``do`` or ``else``, compiled.

    Attributes:
        steps: the actions.
        calls: what makes their calls, if that is all there is to them.
        for_each: works out what all of them are done for, or None.
        spot: where ``for_each`` stands.
    """

    steps: tuple[Step, ...]
    calls: tuple[Action, ...] | None
    for_each: Closure | None = None
    spot: Spot | None = None

    def plan(self, values: dict[str, Any]) -> Plan:
        """Work out what can be worked out before anything is done.

        Raises:
            RuleError: a value cannot be worked out for this event.
        """
        if self.calls is not None:
            return Plan(tuple([action(values) for action in self.calls]))
        program = Program.of(self.steps, values, self.for_each, self.spot)
        return Plan(tuple(program.known.values()), program=program)


@dataclass(frozen=True, slots=True)
class NativeRule:
    """A rule of a native file, compiled. See `reactor.rules.model.Rule` for its attributes."""

    name: str
    description: str
    source: Source
    patterns: tuple[str, ...]
    priority: int
    enabled: bool
    conditions: tuple[Condition, ...]
    actions: Actions
    otherwise: Actions | None
    variables: tuple[tuple[str, Closure], ...]
    uses: frozenset[str]
    policies: tuple[Policy, ...] = ()
    mode: Mode | None = None
    style: Literal["native"] = "native"

    def values(self, event: Event) -> dict[str, Any]:
        """Return what the rule's expressions see of ``event``."""
        values: dict[str, Any] = {"tag": event.tag, "data": event.data}
        if "payload" in self.uses:
            values["payload"] = event.payload
        if "event" in self.uses:
            values["event"] = EventFacts(event.tag, event.seq, event.id, event.stamp)
        if self.variables:
            values["vars"] = self._variables(values)
        return values

    def _variables(self, values: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        values["vars"] = found
        for name, closure in self.variables:
            try:
                found[name] = closure(values)
            except RuleError:
                # Left undefined: it is an error where it is used, and in `when` it is false.
                continue
        return found

    def accounts(self, event: Event) -> list[dict[str, Any]]:
        """Say of each condition what it makes of ``event``, and with which values."""
        values = {**self.values(event), "window": {}}
        policies = (getattr(policy, "conditions", ()) for policy in self.policies)
        every = dict.fromkeys((*self.conditions, *itertools.chain.from_iterable(policies)))
        return [condition.account(values) for condition in every]

    def plan(
        self,
        event: Event,
        functions: Functions,  # noqa: ARG002 - the protocol's
        window: Mapping[str, Any] | None = None,
    ) -> Plan:
        """Work out what to do about ``event``. Native rules call no functions.

        Raises:
            RuleError: a value cannot be worked out for this event.
        """
        values = self.values(event)
        if "window" in self.uses:
            values["window"] = window or {}
        for condition in self.conditions:
            if not condition.holds(values):
                if self.otherwise is not None:
                    return self.otherwise.plan(values)
                return Plan((), condition.refusal(values))
        return self.actions.plan(values)


class Builder:
    """Makes rules of the checked value of a file; one serves all files."""

    def __init__(self) -> None:
        self._values = ValueCompiler()
        self._actions = ActionBuilder(self._values)
        self._chains = ChainBuilder(self._values)

    def build(
        self, value: Mapping[str, Any], file: str, lines: Lines
    ) -> tuple[list[NativeRule], list[RuleError]]:
        """Return the rules of a file whose value the schema allows, and what is wrong with others.

        Args:
            value: rule names and rules.
            file: the file's path.
            lines: the file's lines.
        """
        rules: list[NativeRule] = []
        errors: list[RuleError] = []
        for name, rule in value.items():
            try:
                rules.append(self._rule(name, rule, Place(file, lines, (name,))))
            except RuleError as error:
                errors.append(error)
        return rules, errors

    def _rule(self, name: str, rule: Mapping[str, Any], place: Place) -> NativeRule:
        variables, names = self._variables(rule.get("vars", {}), place)
        if variables:
            place = place.seeing("vars")
        chain = self._chains.chain(rule, place.seeing("window"))
        actions = self._block(rule, "do", place)
        otherwise = self._block(rule, "else", place) if "else" in rule else None
        blocks = (actions, otherwise) if otherwise else (actions,)
        used = names_of(step.names for block in blocks for step in steps_of(block.steps))
        return NativeRule(
            name=name,
            description=rule.get("description", ""),
            source=place.source,
            patterns=chain.patterns,
            priority=rule.get("priority", 0),
            enabled=rule.get("enabled", True),
            conditions=chain.conditions,
            actions=actions,
            otherwise=otherwise,
            variables=variables,
            uses=names | chain.names | used | self._loop_names(rule, place),
            policies=chain.policies,
            mode=chain.mode,
        )

    def _variables(
        self, given: Mapping[str, Any], place: Place
    ) -> tuple[tuple[tuple[str, Closure], ...], frozenset[str]]:
        found, names = [], []
        for name, value in given.items():
            at = place.seeing("vars").below("vars", name)
            made = self._values.value(value, at)
            found.append((name, made.of()))
            names.append(made.names)
        return tuple(found), names_of(names)

    def _loop_names(self, rule: Mapping[str, Any], place: Place) -> frozenset[str]:
        if "for_each" not in rule:
            return frozenset()
        at = place.seeing("window").below("for_each")
        return self._actions.for_each(rule["for_each"], at).names

    def _block(self, rule: Mapping[str, Any], name: str, place: Place) -> Actions:
        for_each, spot = None, None
        place = place.seeing("window")
        if "for_each" in rule and name == "do":
            at = place.below("for_each")
            for_each, spot = self._actions.for_each(rule["for_each"], at).of(), spot_of(at)
            place = place.seeing("item", "index")
        steps = self._actions.steps(rule[name], place.below(name))
        plain = for_each is None and all(step.is_plain for step in steps)
        calls = tuple(step.make for step in steps) if plain else None
        return Actions(steps, calls, for_each, spot)
