"""Jinja expressions as Python closures: parsed and compiled once, worked out for each event.

Jinja's own compiled expressions cost 12 microseconds a call and 0.7 ms to compile; these about
a tenth of either. The sandbox decides, as always, about each attribute, call and operator.
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2 import ChainableUndefined, StrictUndefined, Undefined, nodes
from jinja2.exceptions import TemplateError, TemplateSyntaxError
from jinja2.runtime import Context

from bus.errors import BusError
from reactor.errors import path_text
from reactor.rules.filters import filters, tests
from reactor.rules.sandbox import Sandbox, concat

NAMES = ("data", "event", "payload", "tag")
"""What an expression sees of an event."""

EXTRA_NAMES: Mapping[str, str] = {
    "vars": "what the rule's 'vars' give, after them",
    "window": "what the rule's policies found out, in its actions",
    "results": "what earlier actions gave, in later ones",
    "item": "the present one of 'for_each', in what is done for it",
    "index": "the number of the present one of 'for_each', in what is done for it",
    "failure": "what went wrong, in the actions of 'on_failure'",
}
"""What it sees besides, and where."""

_ALL_NAMES = frozenset({*NAMES, *EXTRA_NAMES})

_CACHED = 4_096
_TOO_DEEP = "it nests too deeply"
_GLOBALS = ("dict", "range")
_MARKS = re.compile(r"\{\{|\{%|\{#")

# The commonest template by far, which needs no parser: a third of a file's time.
_CHAIN = re.compile(r"\{\{ *([a-z]+(?:\.[A-Za-z_][A-Za-z0-9_]*)*) *\n?\}\}")

Values = Mapping[str, Any]
Closure = Callable[[Values], Any]


class ExpressionError(Exception):
    """An expression that cannot be compiled; the text says why."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression.

    Attributes:
        text: the expression as it was written.
        evaluate: works it out from the values of `NAMES`; raises whatever is wrong with them.
        names: which of `NAMES` and `EXTRA_NAMES` it uses.
        paths: the chains of names in it, such as ``("data", "fun")``.
        plain: whether it is such a chain, a constant or text, so that its value is as sound
            as the event's own.
    """

    text: str
    evaluate: Closure
    names: frozenset[str]
    paths: tuple[tuple[Any, ...], ...]
    plain: bool

    def first_undefined(self, values: Values) -> str:
        """Name the first chain in the expression that leads to nothing, or return ``""``."""
        for path in self.paths:
            found = follow(path, values)
            if type(found) is Broken:
                return path_text(path[:found])
        return ""


class Broken(int):
    """How many names of a chain it takes to come to nothing."""

    __slots__ = ()


def follow(path: Sequence[Any], values: Values) -> Any:
    """Return what a chain of names leads to, or `Broken`."""
    here: Any = values
    for number, key in enumerate(path, 1):
        try:
            here = here[key] if isinstance(here, Mapping | list) else getattr(here, str(key))
        except (LookupError, TypeError, AttributeError):
            return Broken(number)
    return here


class Compiler:
    """Compiles the expressions of rules; one is shared by all rules of a process.

    Args:
        lenient: whether what is missing is simply not true (as in ``when``), or an error.
    """

    def __init__(self, *, lenient: bool = False) -> None:
        undefined = ChainableUndefined if lenient else StrictUndefined
        self._environment = Sandbox(undefined=undefined, cache_size=0, keep_trailing_newline=True)
        self._environment.add(filters(), tests())
        self._environment.globals = {name: self._environment.globals[name] for name in _GLOBALS}
        self._builder = _Builder(self._environment)
        self._cached_expression = lru_cache(maxsize=_CACHED)(self._expression)
        self._cached_template = lru_cache(maxsize=_CACHED)(self._template)

    def expression(self, text: str) -> Expression:
        """Compile an expression that stands by itself, as in ``when``.

        Raises:
            ExpressionError: it is no expression, or uses a name, filter or test that is unknown.
        """
        try:
            return self._cached_expression(text)
        except RecursionError as error:
            raise ExpressionError(_TOO_DEEP) from error

    def template(self, text: str) -> Expression:
        """Compile text with ``{{ }}`` in it.

        Text that is one ``{{ }}`` and nothing else has the expression's own value; any other
        has text.

        Raises:
            ExpressionError: as for `expression`, or there is ``{% %}`` in it.
        """
        try:
            return self._cached_template(text)
        except RecursionError as error:
            raise ExpressionError(_TOO_DEEP) from error

    def _expression(self, text: str) -> Expression:
        if _MARKS.search(text):
            raise ExpressionError("write the expression by itself, without {{ }} or {% %}")
        found = self._parse("{{ " + text + "\n}}", text)
        if len(found) != 1:
            raise ExpressionError(f"{text!r} is not one expression")
        return self._compiled(text, found[0])

    def _template(self, text: str) -> Expression:
        found = self._parse(text, text)
        if len(found) == 1:
            return self._compiled(text, found[0])
        return self._compiled(text, nodes.Concat(found))

    def _compiled(self, text: str, node: nodes.Expr) -> Expression:
        names = _names(node)
        _check_names(names - set(_GLOBALS))
        paths = tuple(path for path in dict.fromkeys(_paths(node)) if path[0] in _ALL_NAMES)
        plain = (
            isinstance(node, nodes.Const | nodes.TemplateData | nodes.Concat)
            or _path(node) is not None
        )
        evaluate = self._builder.build(node)
        if isinstance(node, _MAKING) or any(node.find_all(_MAKING)):
            evaluate = _begun(self._environment, evaluate)
        return Expression(text, evaluate, frozenset(names & _ALL_NAMES), paths, plain)

    def _parse(self, text: str, written: str) -> list[nodes.Expr]:
        chain = _CHAIN.fullmatch(text)
        if chain and chain[1].split(".")[0] in _ALL_NAMES:
            return [_chain_node(chain[1].split("."))]
        if "{%" in text:
            raise ExpressionError("{% %} cannot stand in a value: use {{ }} or 'when'")
        try:
            tree = self._environment.parse(text)
        except TemplateSyntaxError as error:
            raise ExpressionError(f"{error.message}, in {written.strip()!r}") from error
        found: list[nodes.Expr] = []
        for output in tree.body:
            found += output.nodes  # type: ignore[attr-defined] # without {% %} there is no other
        return found or [nodes.Const("")]


def _chain_node(names: Sequence[str]) -> nodes.Expr:
    node: nodes.Expr = nodes.Name(names[0], "load")
    for name in names[1:]:
        node = nodes.Getattr(node, name, "load")
    return node


def _names(node: nodes.Expr) -> set[str]:
    names = {found.name for found in node.find_all(nodes.Name)}
    return names | {node.name} if isinstance(node, nodes.Name) else names


def _check_names(names: set[str]) -> None:
    unknown = sorted(names - _ALL_NAMES)
    if unknown:
        near = difflib.get_close_matches(unknown[0], _ALL_NAMES, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(NAMES)}"
        raise ExpressionError(f"unknown name {unknown[0]!r}: {hint}")


def _path(node: nodes.Node) -> tuple[Any, ...] | None:
    """Return the keys of a chain such as ``data.a['b']``, or None for any other node."""
    if isinstance(node, nodes.Name):
        return (node.name,)
    if isinstance(node, nodes.Getattr):
        key: Any = node.attr
    elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
        key = node.arg.value
    else:
        return None
    head = _path(node.node)
    return None if head is None else (*head, key)


def _paths(node: nodes.Node) -> list[tuple[Any, ...]]:
    path = _path(node)
    if path is not None:
        return [path]
    if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr):
        rest = [child for child in node.iter_child_nodes() if child is not node.node]
        return [found for child in (node.node.node, *rest) for found in _paths(child)]
    return [found for child in node.iter_child_nodes() for found in _paths(child)]


_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "gteq": operator.ge,
    "lt": operator.lt,
    "lteq": operator.le,
    "in": lambda left, right: left in right,
    "notin": lambda left, right: left not in right,
}


_MAKING = (nodes.BinExpr, nodes.Call, nodes.Filter, nodes.Test)
"""What may make something large."""


def _begun(environment: Sandbox, evaluate: Closure) -> Closure:
    def begun(values: Values) -> Any:
        environment.begin()
        return evaluate(values)

    return begun


class _Builder:
    """Turns each kind of syntax node into a closure; ``_build_<kind>`` by the node's class."""

    def __init__(self, environment: Sandbox) -> None:
        self._environment = environment
        # Filters such as map ask their context for other filters; nothing else is in it.
        self._context = Context(environment, {}, None, {})
        self._makers: Mapping[type[nodes.Node], Callable[[Any], Closure]] = {
            nodes.Const: self._const,
            nodes.TemplateData: lambda node: _constant(node.data),
            nodes.Name: self._name,
            nodes.Getattr: self._getattr,
            nodes.Getitem: self._getitem,
            nodes.Slice: self._slice,
            nodes.Call: self._call,
            nodes.Filter: self._filter,
            nodes.Test: self._test,
            nodes.Compare: self._compare,
            nodes.And: self._and,
            nodes.Or: self._or,
            nodes.Not: self._not,
            nodes.Neg: lambda node: self._unary(node, operator.neg),
            nodes.Pos: lambda node: self._unary(node, operator.pos),
            nodes.Concat: self._concat,
            nodes.CondExpr: self._condition,
            nodes.List: lambda node: self._sequence(node.items, list),
            nodes.Tuple: lambda node: self._sequence(node.items, tuple),
            nodes.Dict: self._dict,
        }

    def build(self, node: nodes.Node) -> Closure:
        """Return the closure of ``node``.

        Raises:
            ExpressionError: a kind of syntax, a filter or a test that is not known.
        """
        if isinstance(node, nodes.BinExpr) and type(node) not in self._makers:
            return self._binary(node)
        maker = self._makers.get(type(node))
        if maker is None:
            raise ExpressionError(f"{type(node).__name__} cannot stand in an expression")
        return maker(node)

    def _const(self, node: nodes.Const) -> Closure:
        return _constant(node.value)

    def _name(self, node: nodes.Name) -> Closure:
        name = node.name
        if name in self._environment.globals:
            return _constant(self._environment.globals[name])
        return operator.itemgetter(name)

    def _getattr(self, node: nodes.Getattr) -> Closure:
        return self._item(self.build(node.node), node.attr)

    def _item(self, inner: Closure, key: Any) -> Closure:
        getitem = self._environment.getitem

        def item(values: Values) -> Any:
            owner = inner(values)
            # Data comes first, so that a key named "items" is not hidden by a dict's method.
            if type(owner) is dict and key in owner:
                return owner[key]
            return owner[key] if isinstance(owner, Undefined) else getitem(owner, key)

        return item

    def _getitem(self, node: nodes.Getitem) -> Closure:
        inner = self.build(node.node)
        if isinstance(node.arg, nodes.Const):
            return self._item(inner, node.arg.value)
        key, getitem = self.build(node.arg), self._environment.getitem
        return lambda values: getitem(inner(values), key(values))

    def _slice(self, node: nodes.Slice) -> Closure:
        parts = [
            _constant(None) if part is None else self.build(part)
            for part in (node.start, node.stop, node.step)
        ]
        return lambda values: slice(*(part(values) for part in parts))

    def _arguments(
        self, node: nodes.Call | nodes.Filter | nodes.Test
    ) -> Callable[[Values], tuple[list[Any], dict[str, Any]]]:
        if node.dyn_args is not None or node.dyn_kwargs is not None:
            raise ExpressionError("* and ** cannot stand in a call")
        args = [self.build(arg) for arg in node.args]
        kwargs = [(pair.key, self.build(pair.value)) for pair in node.kwargs]
        return lambda values: (
            [arg(values) for arg in args],
            {key: value(values) for key, value in kwargs},  # type: ignore[misc]
        )

    def _call(self, node: nodes.Call) -> Closure:
        callee = self._method(node.node)
        arguments, guard = self._arguments(node), self._environment.guard_call

        def call(values: Values) -> Any:
            function = callee(values)
            args, kwargs = arguments(values)
            guard(function, tuple(args), kwargs)
            return function(*args, **kwargs)

        return call

    def _method(self, node: nodes.Expr) -> Closure:
        if not isinstance(node, nodes.Getattr):
            return self.build(node)
        # What is called is a method first: data cannot hide it with a key of the same name.
        inner, name, getattr_ = self.build(node.node), node.attr, self._environment.getattr
        return lambda values: getattr_(inner(values), name)

    def _filter(self, node: nodes.Filter) -> Closure:
        if node.node is None:
            raise ExpressionError("a filter needs a value")
        self._check_known("filter", node.name, self._environment.filters)
        inner, name, arguments = self.build(node.node), node.name, self._arguments(node)
        call, context = self._environment.call_filter, self._context

        def apply(values: Values) -> Any:
            args, kwargs = arguments(values)
            return call(name, inner(values), args, kwargs, context=context)

        return apply

    def _test(self, node: nodes.Test) -> Closure:
        self._check_known("test", node.name, self._environment.tests)
        inner, name, arguments = self.build(node.node), node.name, self._arguments(node)
        call, context = self._environment.call_test, self._context

        def apply(values: Values) -> Any:
            args, kwargs = arguments(values)
            return call(name, inner(values), args, kwargs, context=context)

        return apply

    def _check_known(self, what: str, name: str, known: Mapping[str, Any]) -> None:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f": did you mean {near[0]!r}?" if near else ""
            raise ExpressionError(f"unknown {what} {name!r}{hint}")

    def _compare(self, node: nodes.Compare) -> Closure:
        first = self.build(node.expr)
        pairs = [(_COMPARE[operand.op], self.build(operand.expr)) for operand in node.ops]
        if len(pairs) == 1:
            [(compare, second)] = pairs
            return lambda values: compare(first(values), second(values))
        return _chain(first, pairs)

    def _and(self, node: nodes.And) -> Closure:
        left, right = self.build(node.left), self.build(node.right)
        return lambda values: left(values) and right(values)

    def _or(self, node: nodes.Or) -> Closure:
        left, right = self.build(node.left), self.build(node.right)
        return lambda values: left(values) or right(values)

    def _not(self, node: nodes.Not) -> Closure:
        inner = self.build(node.node)
        return lambda values: not inner(values)

    def _unary(self, node: nodes.UnaryExpr, operate: Callable[[Any], Any]) -> Closure:
        inner = self.build(node.node)
        return lambda values: operate(inner(values))

    def _binary(self, node: nodes.BinExpr) -> Closure:
        left, right = self.build(node.left), self.build(node.right)
        operate = self._environment.binop_table[node.operator]
        return lambda values: operate(left(values), right(values))

    def _concat(self, node: nodes.Concat) -> Closure:
        parts = [self.build(part) for part in node.nodes]
        return lambda values: concat(part(values) for part in parts)

    def _condition(self, node: nodes.CondExpr) -> Closure:
        test, then = self.build(node.test), self.build(node.expr1)
        if node.expr2 is None:
            raise ExpressionError("an 'if' in an expression needs its 'else'")
        other = self.build(node.expr2)
        return lambda values: then(values) if test(values) else other(values)

    def _sequence(self, items: Sequence[nodes.Expr], kind: Callable[..., Any]) -> Closure:
        parts = [self.build(item) for item in items]
        return lambda values: kind([part(values) for part in parts])

    def _dict(self, node: nodes.Dict) -> Closure:
        pairs = [(self.build(pair.key), self.build(pair.value)) for pair in node.items]
        return lambda values: {key(values): value(values) for key, value in pairs}


def _constant(value: Any) -> Closure:
    return lambda _values: value


def _chain(first: Closure, pairs: Sequence[tuple[Callable[[Any, Any], Any], Closure]]) -> Closure:
    def chain(values: Values) -> Any:
        left = first(values)
        for compare, second in pairs:
            right = second(values)
            if not compare(left, right):
                return False
            left = right
        return True

    return chain


def describe(error: Exception) -> str:
    """Return what is wrong in one line, whatever kind of error an expression ended with."""
    if isinstance(error, TemplateError):
        return str(error.message or type(error).__name__)
    if isinstance(error, BusError):
        return str(error)
    return f"{type(error).__name__}: {error}"[:300]
