"""The values in a native rule: what holds ``{{ }}`` becomes a closure, compiled once.

What an event carries is only ever a value: it cannot become a key, an action or YAML.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Undefined
from jinja2.exceptions import UndefinedError

from bus import jsontext
from bus.errors import TagError
from bus.tags import check_tag
from bus.yamlfile import Lines
from reactor.errors import RuleError, path_text
from reactor.rules.bounds import check_size, weigh
from reactor.rules.expressions import (
    EXTRA_NAMES,
    NAMES,
    Closure,
    Compiler,
    Expression,
    ExpressionError,
    Values,
    describe,
)
from reactor.rules.model import Source
from reactor.rules.policies import Key
from reactor.rules.redaction import redact_text
from reactor.rules.refusals import refusal, shown, values_seen, verdict
from reactor.rules.validation import Path
from reactor.rules.wording import Later

_TEMPLATE = re.compile(r"\{\{|\{%|\{#")
_BRACES = re.compile(r"\{\{([^{}]*)\}\}")
_LONGEST_KEY, _SHOWN_OF_KEY = 200, 100
_SCALARS = frozenset({str, int, float, bool, bytes, type(None)})


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a rule file a value stands."""

    file: str
    lines: Lines
    path: Path
    names: frozenset[str] = frozenset(NAMES)
    """What expressions see here."""

    def below(self, *keys: str | int) -> Place:
        """Return the place of a part of this value."""
        return Place(self.file, self.lines, (*self.path, *keys), self.names)

    def seeing(self, *names: str) -> Place:
        """Return this place with more names for its expressions."""
        return Place(self.file, self.lines, self.path, self.names | set(names))

    @property
    def source(self) -> Source:
        """File and line."""
        return Source(self.file, self.lines.at(self.path))

    @property
    def ident(self) -> str:
        """The path within the rule, such as ``do[0]``."""
        return path_text(self.path[1:])

    def check(self, expression: Expression) -> Expression:
        """Return ``expression`` if all that it names is known here.

        Raises:
            RuleError: it is not.
        """
        unknown = expression.names - self.names
        if unknown:
            name = min(unknown)
            raise self.error(f"{name!r} is not known here: it is {EXTRA_NAMES[name]}")
        return expression

    def error(self, problem: str) -> RuleError:
        """Return the error that something is wrong here."""
        return RuleError(problem, self.file, self.lines.at(self.path), path_text(self.path))


@dataclass(frozen=True, slots=True)
class Spot:
    """A place that has been looked up, so that the YAML's nodes need not be kept."""

    source: Source
    path: str

    def error(self, problem: str) -> RuleError:
        """Return the error that something is wrong here."""
        return RuleError(problem, self.source.path, self.source.line, self.path)


def spot_of(place: Place) -> Spot:
    """Look a place up."""
    return Spot(place.source, path_text(place.path))


class Condition:
    """One expression of ``when``: what is undefined counts as false."""

    __slots__ = ("_expression", "_spot", "_text")

    def __init__(self, expression: Expression, spot: Spot) -> None:
        self._expression = expression
        self._spot = spot
        self._text = " ".join(expression.text.split())

    @property
    def names(self) -> frozenset[str]:
        """What it uses."""
        return self._expression.names

    def holds(self, values: Values) -> bool:
        """Work it out.

        Raises:
            RuleError: it cannot be worked out.
        """
        try:
            return bool(self._expression.evaluate(values))
        except UndefinedError:
            return False
        except Exception as error:  # an expression ends with whatever error its values give it
            raise self._spot.error(f"{describe(error)}, in {self._text!r}") from error

    def refusal(self, values: Values) -> Later:
        """Say why the condition did not hold."""
        return refusal(self._text, self._expression, values)

    def verdict(self, values: Values) -> tuple[bool, str]:
        """Return whether the condition holds, and in one line what it saw; for people.

        Raises:
            RuleError: it cannot be worked out.
        """
        holds = self.holds(values)
        return holds, verdict(self._text, self._expression, values, holds=holds)

    def account(self, values: Values) -> dict[str, Any]:
        """Say what came of it and what it saw, for people: ``text``, ``state``, ``values``."""
        try:
            state = "true" if self.holds(values) else "false"
        except RuleError as error:
            state = redact_text(f"error: {error}")
        return {
            "text": shown(self._text, self._expression),
            "state": state,
            "values": values_seen(self._expression, values),
        }


@dataclass(frozen=True, slots=True)
class Value:
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

    def __init__(self, expression: Expression, spot: Spot) -> None:
        self._expression = expression
        self._evaluate = expression.evaluate
        self._plain = expression.plain
        self._spot = spot

    def __call__(self, values: Values) -> Any:
        try:
            value = self._evaluate(values)
            if type(value) in _SCALARS or (self._plain and type(value) in (dict, list)):
                return value
            check_size(weigh(value))
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


class ValueCompiler:
    """Compiles the values and conditions of rules; one serves all files.

    Its two compilers remember expressions, so the same one in a thousand files costs once.
    """

    def __init__(self) -> None:
        self._values = Compiler()
        self._conditions = Compiler(lenient=True)

    def when(self, value: str | Sequence[str], place: Place) -> tuple[Condition, ...]:
        """Compile a condition, or a list of them."""
        if isinstance(value, str):
            return (self._condition(value, place),)
        return tuple(self._condition(text, place.below(i)) for i, text in enumerate(value))

    def _condition(self, text: str, place: Place) -> Condition:
        return Condition(self._lenient(text, place), spot_of(place))

    def _lenient(self, text: str, place: Place) -> Expression:
        try:
            return place.check(self._conditions.expression(text))
        except ExpressionError as error:
            raise place.error(str(error)) from error

    def key(self, value: Any, place: Place) -> tuple[Key, frozenset[str]]:
        """Compile ``by``: an expression, or a list of them; what is undefined is an empty text."""
        texts = value if isinstance(value, list) else [value]
        places = [place.below(i) for i in range(len(texts))] if texts is value else [place]
        parts = [self._lenient(_bare(text), at) for text, at in zip(texts, places, strict=True)]
        names = names_of(part.names for part in parts)
        if len(parts) == 1:
            evaluate = parts[0].evaluate
            return lambda values: key_text(_tried(evaluate, values)), names
        closures = [part.evaluate for part in parts]
        return lambda values: ", ".join(key_text(_tried(c, values)) for c in closures), names

    def expression(self, text: str, place: Place) -> Value:
        """Compile an expression that stands by itself, or one within ``{{ }}``."""
        return self.text("{{ " + _bare(text) + " }}", place)

    def mapping(self, value: Any, place: Place) -> Value:
        """Compile a mapping, or text that gives one."""
        mapping = self.value(value, place)
        if mapping.closure is None or isinstance(value, dict):
            return mapping
        closure = checked(mapping, is_mapping, "a mapping with texts as keys", place)
        return Value(closure=closure, names=mapping.names)

    def arguments(self, value: Any, place: Place) -> Value:
        """Compile a list, or text that gives one."""
        args = self.value(value, place)
        if args.closure is None or isinstance(value, list):
            return args
        return Value(closure=checked(args, is_list, "a list", place), names=args.names)

    def value(self, value: Any, place: Place) -> Value:
        """Compile any value."""
        if isinstance(value, str):
            return self.text(value, place)
        if isinstance(value, dict):
            return self._dict(value, place)
        if isinstance(value, list):
            return self._list(value, place)
        return Value(value)

    def text(self, text: str, place: Place) -> Value:
        """Compile text."""
        if not _TEMPLATE.search(text):
            return Value(text)
        try:
            expression = place.check(self._values.template(text))
        except ExpressionError as error:
            raise place.error(str(error)) from error
        return Value(closure=_Leaf(expression, spot_of(place)), names=expression.names)

    def _dict(self, value: Mapping[str, Any], place: Place) -> Value:
        for key in value:
            if _TEMPLATE.search(key):
                raise place.below(key).error("a key cannot be a template: only values can")
        items = [(key, self.value(item, place.below(key))) for key, item in value.items()]
        if all(item.closure is None for _, item in items):
            return Value(value)
        pairs = [(key, item.of()) for key, item in items]
        return Value(
            closure=lambda values: {key: make(values) for key, make in pairs},
            names=names_of(item.names for _, item in items),
        )

    def _list(self, value: list[Any], place: Place) -> Value:
        items = [self.value(item, place.below(number)) for number, item in enumerate(value)]
        if all(item.closure is None for item in items):
            return Value(value)
        makers = [item.of() for item in items]
        return Value(
            closure=lambda values: [make(values) for make in makers],
            names=names_of(item.names for item in items),
        )


def checked(value: Value, fits: Callable[[Any], bool], wanted: str, place: Place) -> Closure:
    """Return a closure that refuses what an expression gave if the call cannot take it."""
    make, spot = value.of(), spot_of(place)
    if value.closure is None:
        return make

    def fitting(values: Values) -> Any:
        made = make(values)
        if not fits(made):
            raise spot.error(f"{wanted} is wanted here, and this gave {type(made).__name__}")
        return made

    return fitting


def is_target(value: Any) -> bool:
    """Say whether a job can have this target."""
    texts = value if isinstance(value, list) else [value]
    return bool(texts) and all(isinstance(text, str) and text for text in texts)


def is_list(value: Any) -> bool:
    """Say whether it is a list."""
    return isinstance(value, list)


def is_mapping(value: Any) -> bool:
    """Say whether it is a mapping as JSON has it."""
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def is_text(value: Any) -> bool:
    """Say whether it is a text that is not empty."""
    return isinstance(value, str) and bool(value)


def checked_tag(value: Any, spot: Spot) -> str:
    """Return the tag that an expression gave.

    Raises:
        RuleError: no event can have it.
    """
    try:
        return check_tag(value)
    except TagError as error:
        raise spot.error(str(error)) from error


def names_of(names: Iterable[frozenset[str]]) -> frozenset[str]:
    """Return all of these names."""
    return frozenset().union(*names)


def key_text(value: Any) -> str:
    """Return a key as text that is the same for equal values, and not long."""
    if value is None or isinstance(value, Undefined):
        return ""
    if isinstance(value, str):
        text = str(value)
    else:
        text = jsontext.shown(value, sort_keys=True, ensure_ascii=False)
    if len(text) <= _LONGEST_KEY:
        return text
    digest = hashlib.blake2s(text.encode(errors="replace"), digest_size=12).hexdigest()
    return f"{text[:_SHOWN_OF_KEY]}...{digest}"


def _tried(evaluate: Closure, values: Values) -> Any:
    try:
        return evaluate(values)
    except UndefinedError:
        return None


def _bare(text: str) -> str:
    """Return the expression within ``{{ }}``, for those who write them where none are needed."""
    inner = _BRACES.fullmatch(text.strip())
    return inner[1] if inner else text
