"""Native rules: YAML first, then each value with ``{{ }}`` compiled once to a typed closure.

What an event carries is only ever a value: it cannot become a key, an action or YAML.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from jinja2 import Undefined
from jinja2.exceptions import UndefinedError

from bus.errors import TagError
from bus.record import Event
from bus.tags import check_tag
from bus.yamlfile import Lines
from reactor.errors import RuleError, path_text
from reactor.rules.expressions import (
    Closure,
    Compiler,
    Expression,
    ExpressionError,
    Values,
    describe,
)
from reactor.rules.model import Call, Functions, Plan, Source
from reactor.rules.refusals import refusal
from reactor.rules.validation import Path

_TEMPLATE = re.compile(r"\{\{|\{%|\{#")
_SCALARS = frozenset({str, int, float, bool, bytes, type(None)})
_TIME = re.compile(r"([0-9.]+)(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400}

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
class NativeRule:
    """A rule of a native file, compiled. See `reactor.rules.model.Rule` for its attributes."""

    name: str
    description: str
    source: Source
    patterns: tuple[str, ...]
    priority: int
    enabled: bool
    conditions: tuple[_Condition, ...]
    actions: tuple[Action, ...]
    uses: frozenset[str]
    style: Literal["native"] = "native"

    def plan(self, event: Event, functions: Functions) -> Plan:  # noqa: ARG002 - the protocol's
        """Work out what to do about ``event``. Native rules call no functions.

        Raises:
            RuleError: a value cannot be worked out for this event.
        """
        values: dict[str, Any] = {"tag": event.tag, "data": event.data}
        if "payload" in self.uses:
            values["payload"] = event.payload
        if "event" in self.uses:
            values["event"] = EventFacts(event.tag, event.seq, event.id, event.stamp)
        for condition in self.conditions:
            if not condition.holds(values):
                return Plan((), condition.refusal(values))
        return Plan(tuple([action(values) for action in self.actions]))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in a rule file a value stands."""

    file: str
    lines: Lines
    path: Path

    def below(self, *keys: str | int) -> _Place:
        return _Place(self.file, self.lines, (*self.path, *keys))

    @property
    def source(self) -> Source:
        return Source(self.file, self.lines.at(self.path))

    def error(self, problem: str) -> RuleError:
        return RuleError(problem, self.file, self.lines.at(self.path), path_text(self.path))


@dataclass(frozen=True, slots=True)
class _Spot:
    """A place that has been looked up, so that the YAML's nodes need not be kept."""

    source: Source
    path: str

    def error(self, problem: str) -> RuleError:
        return RuleError(problem, self.source.path, self.source.line, self.path)


def _spot(place: _Place) -> _Spot:
    return _Spot(place.source, path_text(place.path))


class _Condition:
    """One expression of ``when``: what is undefined counts as false."""

    __slots__ = ("_expression", "_spot", "_text")

    def __init__(self, expression: Expression, spot: _Spot) -> None:
        self._expression = expression
        self._spot = spot
        self._text = " ".join(expression.text.split())

    @property
    def names(self) -> frozenset[str]:
        return self._expression.names

    def holds(self, values: Values) -> bool:
        try:
            return bool(self._expression.evaluate(values))
        except UndefinedError:
            return False
        except Exception as error:  # an expression ends with whatever error its values give it
            raise self._spot.error(f"{describe(error)}, in {self._text!r}") from error

    def refusal(self, values: Values) -> str:
        """Say why the condition did not hold."""
        return refusal(self._text, self._expression, values)


@dataclass(frozen=True, slots=True)
class _Value:
    """A compiled value: a closure, or a constant where nothing in it is a template."""

    constant: Any = None
    closure: Closure | None = None
    names: frozenset[str] = frozenset()

    def of(self) -> Closure:
        """Return a closure in either case."""
        if self.closure is not None:
            return self.closure
        constant = self.constant
        return lambda _values: constant


class _Leaf:
    """Text with ``{{ }}`` in a rule, at its place."""

    __slots__ = ("_evaluate", "_expression", "_plain", "_spot")

    def __init__(self, expression: Expression, spot: _Spot) -> None:
        self._expression = expression
        self._evaluate = expression.evaluate
        self._plain = expression.plain
        self._spot = spot

    def __call__(self, values: Values) -> Any:
        try:
            value = self._evaluate(values)
            if type(value) in _SCALARS or (self._plain and type(value) in (dict, list)):
                return value
            return _plain_data(value)
        except Exception as error:  # an expression ends with whatever error its values give it
            raise self._error(error, values) from error

    def _error(self, error: Exception, values: Values) -> RuleError:
        undefined = self._expression.first_undefined(values)
        missing = isinstance(error, UndefinedError) and undefined
        problem = f"{undefined} is undefined" if missing else describe(error)
        return self._spot.error(f"{problem}, in {self._expression.text.strip()!r}")


def _plain_data(value: Any) -> Any:
    """Return ``value`` as an event can carry it.

    Raises:
        UndefinedError: something in it is undefined.
        TypeError: something in it is no data, such as a method or a generator.
    """
    if isinstance(value, Undefined):
        value._fail_with_undefined_error()  # noqa: SLF001 - Jinja has no public way to ask
    if isinstance(value, str):
        return str(value)
    if value is None or isinstance(value, bool | int | float | bytes):
        return value
    if isinstance(value, Mapping):
        return {_plain_data(key): _plain_data(item) for key, item in value.items()}
    if isinstance(value, list | tuple | range):
        return [_plain_data(item) for item in value]
    raise TypeError(f"this gives a {type(value).__name__}, which is no data: add '| list'?")


class Builder:
    """Makes rules of the checked value of a file; one serves all files.

    Its two compilers remember expressions, so the same one in a thousand files costs once.
    """

    def __init__(self) -> None:
        self._values = Compiler()
        self._conditions = Compiler(lenient=True)
        self._actions: Mapping[str, Callable[[Any, _Place], tuple[Action, frozenset[str]]]] = {
            "local": self._local,
            "runner": lambda action, place: self._function("runner", action, place),
            "wheel": lambda action, place: self._function("wheel", action, place),
            "event": self._event,
        }

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
                rules.append(self._rule(name, rule, _Place(file, lines, (name,))))
            except RuleError as error:
                errors.append(error)
        return rules, errors

    def _rule(self, name: str, rule: Mapping[str, Any], place: _Place) -> NativeRule:
        conditions = self._when(rule.get("when", []), place.below("when"))
        actions = [
            self._action(action, place.below("do", number))
            for number, action in enumerate(rule["do"])
        ]
        return NativeRule(
            name=name,
            description=rule.get("description", ""),
            source=place.source,
            patterns=tuple(_listed(rule["on"])),
            priority=rule.get("priority", 0),
            enabled=rule.get("enabled", True),
            conditions=conditions,
            actions=tuple(action for action, _ in actions),
            uses=_all(c.names for c in conditions) | _all(names for _, names in actions),
        )

    def _when(self, value: str | list[str], place: _Place) -> tuple[_Condition, ...]:
        if isinstance(value, str):
            return (self._condition(value, place),)
        return tuple(self._condition(text, place.below(i)) for i, text in enumerate(value))

    def _condition(self, text: str, place: _Place) -> _Condition:
        try:
            return _Condition(self._conditions.expression(text), _spot(place))
        except ExpressionError as error:
            raise place.error(str(error)) from error

    def _action(self, action: Mapping[str, Any], place: _Place) -> tuple[Action, frozenset[str]]:
        kind = next(kind for kind in self._actions if kind in action)
        return self._actions[kind](action, place)

    def _local(self, action: Mapping[str, Any], place: _Place) -> tuple[Action, frozenset[str]]:
        target = self._value(action["tgt"], place.below("tgt"))
        args, kwargs = self._arguments(action, place)
        function, target_type = action["local"], action.get("tgt_type", "glob")
        options = {"timeout": _seconds(action["timeout"])} if "timeout" in action else {}
        who = _checked(target, _is_target, "text or a list of texts", place.below("tgt"))
        get_args, get_kwargs, ident, source = args.of(), kwargs.of(), _ident(place), place.source

        def call(values: Values) -> Call:
            return Call(
                "local",
                function,
                tuple(get_args(values)),
                get_kwargs(values),
                who(values),
                target_type,
                options=options,
                ident=ident,
                source=source,
            )

        return call, target.names | args.names | kwargs.names

    def _function(
        self, kind: str, action: Mapping[str, Any], place: _Place
    ) -> tuple[Action, frozenset[str]]:
        args, kwargs = self._arguments(action, place)
        function, get_args, get_kwargs = action[kind], args.of(), kwargs.of()
        ident, source = _ident(place), place.source

        def call(values: Values) -> Call:
            arguments = tuple(get_args(values))
            return Call(kind, function, arguments, get_kwargs(values), ident=ident, source=source)

        return call, args.names | kwargs.names

    def _event(self, action: Mapping[str, Any], place: _Place) -> tuple[Action, frozenset[str]]:
        tag = self._value(action["event"], place.below("event"))
        data = self._mapping(action.get("data", {}), place.below("data"))
        get_tag, get_data, ident, source = tag.of(), data.of(), _ident(place), place.source
        spot = _spot(place.below("event"))

        def call(values: Values) -> Call:
            return Call(
                "event",
                _tag(get_tag(values), spot),
                data=get_data(values),
                ident=ident,
                source=source,
            )

        return call, tag.names | data.names

    def _arguments(self, action: Mapping[str, Any], place: _Place) -> tuple[_Value, _Value]:
        where = place.below("args")
        args = self._value(action.get("args", []), where)
        if args.closure is not None:
            checked = _checked(args, _is_list, "a list", where)
            args = _Value(closure=checked, names=args.names)
        return args, self._mapping(action.get("kwargs", {}), place.below("kwargs"))

    def _mapping(self, value: Any, place: _Place) -> _Value:
        mapping = self._value(value, place)
        if mapping.closure is None or isinstance(value, dict):
            return mapping
        checked = _checked(mapping, _is_mapping, "a mapping with texts as keys", place)
        return _Value(closure=checked, names=mapping.names)

    def _value(self, value: Any, place: _Place) -> _Value:
        if isinstance(value, str):
            return self._text(value, place)
        if isinstance(value, dict):
            return self._dict(value, place)
        if isinstance(value, list):
            return self._list(value, place)
        return _Value(value)

    def _text(self, text: str, place: _Place) -> _Value:
        if not _TEMPLATE.search(text):
            return _Value(text)
        try:
            expression = self._values.template(text)
        except ExpressionError as error:
            raise place.error(str(error)) from error
        return _Value(closure=_Leaf(expression, _spot(place)), names=expression.names)

    def _dict(self, value: Mapping[str, Any], place: _Place) -> _Value:
        for key in value:
            if _TEMPLATE.search(key):
                raise place.below(key).error("a key cannot be a template: only values can")
        items = [(key, self._value(item, place.below(key))) for key, item in value.items()]
        if all(item.closure is None for _, item in items):
            return _Value(value)
        pairs = [(key, item.of()) for key, item in items]
        return _Value(
            closure=lambda values: {key: make(values) for key, make in pairs},
            names=_all(item.names for _, item in items),
        )

    def _list(self, value: list[Any], place: _Place) -> _Value:
        items = [self._value(item, place.below(number)) for number, item in enumerate(value)]
        if all(item.closure is None for item in items):
            return _Value(value)
        makers = [item.of() for item in items]
        return _Value(
            closure=lambda values: [make(values) for make in makers],
            names=_all(item.names for item in items),
        )


def _checked(value: _Value, fits: Callable[[Any], bool], wanted: str, place: _Place) -> Closure:
    """Return a closure that refuses what an expression gave if the call cannot take it."""
    make, spot = value.of(), _spot(place)
    if value.closure is None:
        return make

    def checked(values: Values) -> Any:
        made = make(values)
        if not fits(made):
            raise spot.error(f"{wanted} is wanted here, and this gave {type(made).__name__}")
        return made

    return checked


def _is_target(value: Any) -> bool:
    texts = value if isinstance(value, list) else [value]
    return bool(texts) and all(isinstance(text, str) and text for text in texts)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def _tag(value: Any, spot: _Spot) -> str:
    try:
        return check_tag(value)
    except TagError as error:
        raise spot.error(str(error)) from error


def _ident(place: _Place) -> str:
    return path_text(place.path[1:])


def _seconds(value: float | str) -> float:
    if not isinstance(value, str):
        return value
    number, unit = _TIME.fullmatch(value).groups()  # type: ignore[union-attr] # the schema's
    return float(number) * _UNITS[unit]


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _all(names: Iterable[frozenset[str]]) -> frozenset[str]:
    return frozenset().union(*names)
