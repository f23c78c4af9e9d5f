"""The Jinja sandbox of all rules: no way out of it, and no way to fill the memory from within.

What is too large, and how that is found out beforehand, says `reactor.rules.bounds`.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jinja2 import nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from reactor.rules.bounds import (
    CONTAINERS,
    MAX_MADE,
    OPERATORS,
    SPECIAL,
    check_filter,
    check_format,
    check_method,
    check_size,
    size_of,
    weigh,
)

MAX_STEPS = 100_000
"""Rounds of loops and calls of macros in one rendering; Jinja's ``MAX_RANGE`` is the precedent."""

CONCAT = "reactor_concat"
BOUNDED = "reactor_bounded"
TICK = "reactor_tick"
_REMOVED_GLOBALS = ("lipsum",)


def concat(values: Iterable[Any]) -> str:
    """Join ``values`` as text, as Jinja's ``~`` does.

    Raises:
        SecurityError: the text is too long.
    """
    texts = [str(bounded(value)) for value in values]
    check_size(sum(map(len, texts)))
    return "".join(texts)


def bounded(value: Any) -> Any:
    """Return a value that is not too large to be written out, compared or hashed.

    Raises:
        SecurityError: it is.
    """
    if type(value) in CONTAINERS:
        weigh(value)
    return value


class _Steps(threading.local):
    """How many rounds the rendering in this thread has made, and how much of everything."""

    count = 0
    made = 0


class _Bounding(NodeTransformer):
    """Puts a count into each loop and macro, and a guard before what looks into all of a value."""

    def _counted(self, node: Any) -> Any:
        self.generic_visit(node)
        tick = nodes.Filter(nodes.Const(None), TICK, [], [], None, None)
        node.body.insert(0, nodes.ExprStmt(tick, lineno=node.lineno))
        return node

    visit_For = visit_Macro = visit_CallBlock = _counted  # noqa: N815 - Jinja's names

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - Jinja's name
        self.generic_visit(node)
        parts = nodes.List(node.nodes, lineno=node.lineno)
        return nodes.Filter(parts, CONCAT, [], [], None, None, lineno=node.lineno)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802 - Jinja's name
        self.generic_visit(node)
        sides = [node.expr, *(operand.expr for operand in node.ops)]
        if not any(map(_is_small, sides)):  # or there is not much to compare
            node.expr = _guarded(node.expr)
            for operand in node.ops:
                operand.expr = _guarded(operand.expr)
        return node

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802 - Jinja's name
        self.generic_visit(node)
        return _guarded(node) if node.ctx == "load" else node


def _guarded(node: nodes.Expr) -> nodes.Expr:
    return nodes.Filter(node, BOUNDED, [], [], None, None, lineno=node.lineno)


def _is_small(node: nodes.Node) -> bool:
    """Say whether a node is written out in the template."""
    if isinstance(node, nodes.List | nodes.Tuple):
        return all(map(_is_small, node.items))
    return isinstance(node, nodes.Const)


def _formatted(format_: Callable[..., str], text: str, *args: Any, **kwargs: Any) -> str:
    check_format(text, [*args, *kwargs.values()], "{")
    return format_(*args, **kwargs)


class Sandbox(ImmutableSandboxedEnvironment):
    """A sandbox for expressions and templates, bounded in what it makes and how long it loops."""

    intercepted_binops = frozenset(OPERATORS)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, finalize=bounded, **kwargs)
        self._steps = _Steps()
        for name in _REMOVED_GLOBALS:
            self.globals.pop(name, None)
        self.add(dict(self.filters), dict(self.tests))  # type: ignore[arg-type] # Jinja's are loose
        self.filters |= {CONCAT: concat, BOUNDED: bounded, TICK: self._tick()}
        self.binop_table.update(
            {operator: self._operate(operator, check) for operator, check in OPERATORS.items()}
        )

    def _operate(
        self, operator: str, check: Callable[[Any, Any], None]
    ) -> Callable[[Any, Any], Any]:
        operate = self.default_binop_table[operator]

        def operated(left: Any, right: Any) -> Any:
            check(left, right)
            made = operate(left, right)
            self.spend(size_of(made))
            return made

        return operated

    def add(
        self, filters: Mapping[str, Callable[..., Any]], tests: Mapping[str, Callable[..., Any]]
    ) -> None:
        """Add filters and tests, each behind a guard, as Jinja's own are."""
        self.filters.update({name: self._guarded(name, one) for name, one in filters.items()})
        self.tests.update({name: self._guarded(name, one) for name, one in tests.items()})

    def _guarded(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        # With or without the environment in front, the value itself is no argument.
        start = 2 if hasattr(original, "jinja_pass_arg") else 1

        @functools.wraps(original)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            rest = (*args[start:], *kwargs.values())
            self.spend(check_filter(name, args[start - 1], rest) if len(args) >= start else 0)
            made = original(*args, **kwargs)
            self.spend(size_of(made))
            return made

        @functools.wraps(original)
        def weighed(value: Any, *args: Any, **kwargs: Any) -> Any:
            size = weigh(value)
            for other in args:
                size += weigh(other)
            if kwargs:
                size += weigh(list(kwargs.values()))
            made = original(value, *args, **kwargs)
            self.spend(size + size_of(made))
            return made

        # Most need no more than a look at how much there is, and are called for each event.
        return guarded if start > 1 or name in SPECIAL else weighed

    def begin(self) -> None:
        """Count from 0 again: a rendering begins in this thread."""
        self._steps.count = self._steps.made = 0

    def spend(self, size: int) -> None:
        """Count letters and items that were made, or gone through.

        Raises:
            SecurityError: there were too many.
        """
        self._steps.made += size
        if self._steps.made > MAX_MADE:
            raise SecurityError(
                f"more than {MAX_MADE} letters and items were made in all: make fewer"
            )

    def _tick(self) -> Callable[..., None]:
        """Return what counts a step of a loop or macro, as a filter: a call costs far more."""
        steps = self._steps

        @pass_context  # or it would be worked out once, when the template is compiled
        def tick(_context: Context, _nothing: None) -> None:
            steps.count += 1
            if steps.count > MAX_STEPS:
                raise SecurityError(f"more than {MAX_STEPS} rounds of loops: make them shorter")

        return tick

    def guard_call(self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Raise `SecurityError` if ``function`` must not be called with these arguments."""
        if not self.is_safe_callable(function):
            raise SecurityError(f"{function!r} must not be called here")
        check_method(function, args, kwargs)

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call ``function`` for a template, if it is safe."""
        self.guard_call(function, args, kwargs)
        made = context.call(function, *args, **kwargs)
        self.spend(size_of(made))
        return made

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Return a guarded ``str.format`` in place of ``value``, or None for anything else."""
        wrapped = super().wrap_str_format(value)
        if wrapped is not None:
            return functools.partial(_formatted, wrapped, value.__self__)
        return None

    def _generate(
        self,
        source: nodes.Template,
        name: str | None,
        filename: str | None,
        defer_init: bool = False,
    ) -> str:
        bounded = _Bounding().visit(source)
        return super()._generate(bounded, name, filename, defer_init)
