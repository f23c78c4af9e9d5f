"""The Jinja sandbox of all rules: no way out of it, and no way to fill the memory from within.

Jinja's own sandbox guards attributes but lets ``'a' * 10**9`` through, so what can make a large
value out of a small one is checked before it is done.
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sized
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

MAX_SIZE = 1_048_576
"""Letters or items that one value may have, and letters that a file may render to: an event
itself holds no more (``max_event_size``)."""

MAX_BITS = 65_536
"""How large a whole number may grow."""

MAX_STEPS = 100_000
"""Rounds of loops and calls of macros in one rendering; Jinja's ``MAX_RANGE`` is the precedent."""

CONCAT = "reactor_concat"
_WIDE_FORMAT = re.compile(r"\d{6}|\*|:[^{}]*\{")
_REMOVED_GLOBALS = ("lipsum",)


def check_size(size: int) -> None:
    """Raise `SecurityError` if a value of ``size`` letters or items is too large."""
    if size > MAX_SIZE:
        raise SecurityError(f"a value of {size} letters or items: at most {MAX_SIZE} are allowed")


def _check_bits(bits: int) -> None:
    if bits > MAX_BITS:
        raise SecurityError(f"a number of about {bits} bits: at most {MAX_BITS} are allowed")


def _check_numbers(values: Iterable[Any]) -> None:
    for value in values:
        if isinstance(value, int):
            check_size(value)


def _check_format(text: Any) -> None:
    if isinstance(text, str) and _WIDE_FORMAT.search(text):
        raise SecurityError("a text format with a width of six digits or one that is worked out")


def _size(value: Any) -> int:
    return len(value) if isinstance(value, str | bytes | list | tuple) else 0


def _length(value: Any) -> int:
    return len(value) if isinstance(value, Sized) else 0


def _check_add(left: Any, right: Any) -> None:
    check_size(_size(left) + _size(right))


def _check_multiply(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + right.bit_length())
    elif isinstance(right, int):
        check_size(_size(left) * right)
    elif isinstance(left, int):
        check_size(_size(right) * left)


def _check_power(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() * right)


def _check_modulo(left: Any, _right: Any) -> None:
    _check_format(left)


_CHECKS: Mapping[str, Callable[[Any, Any], None]] = {
    "+": _check_add,
    "*": _check_multiply,
    "**": _check_power,
    "%": _check_modulo,
}


def _check_replace(text: Any, old: Any, new: Any) -> None:
    if all(isinstance(item, str) for item in (text, old, new)):
        check_size(len(text) + text.count(old) * len(new))


def _check_join(separator: Any, items: Any) -> None:
    if isinstance(items, list | tuple | dict):
        check_size(_size(separator) * len(items) + sum(_size(item) for item in items))


def _check_method(method: Any, args: tuple[Any, ...]) -> None:
    owner = getattr(method, "__self__", None)
    if isinstance(owner, list | dict | set):
        check_size(len(owner) + max(map(_length, args), default=0))
    if not isinstance(owner, str | bytes | int):
        return
    _check_numbers(args)
    name = getattr(method, "__name__", "")
    if name == "replace" and len(args) > 1:
        _check_replace(owner, args[0], args[1])
    elif name == "join" and args:
        _check_join(owner, args[0])


def concat(values: Iterable[Any]) -> str:
    """Join ``values`` as text, as Jinja's ``~`` does.

    Raises:
        SecurityError: the text is too long.
    """
    texts = [str(value) for value in values]
    check_size(sum(map(len, texts)))
    return "".join(texts)


def _guarded_filter(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        # With or without the environment in front, the value itself is no number to be checked.
        start = 2 if hasattr(original, "jinja_pass_arg") else 1
        rest = (*args[start:], *kwargs.values())
        _check_filter(name, args[start - 1 :], rest)
        return original(*args, **kwargs)

    return guarded


def _check_filter(name: str, args: tuple[Any, ...], rest: tuple[Any, ...]) -> None:
    if name == "format":
        _check_format(args[0] if args else "")
    elif name == "replace" and len(rest) > 1:
        _check_replace(args[0], rest[0], rest[1])
    elif name == "join" and rest:
        _check_join(rest[0], args[0])
    else:
        _check_numbers(rest)


_GUARDED_FILTERS = ("batch", "center", "format", "indent", "join", "replace", "slice")


class _Steps(threading.local):
    """How many rounds the rendering in this thread has made."""

    count = 0


class _Bounding(NodeTransformer):
    """Puts a count into each loop and macro, and a guard before each ``~``."""

    def _counted(self, node: Any) -> Any:
        self.generic_visit(node)
        tick = nodes.Call(nodes.EnvironmentAttribute("tick"), [], [], None, None)
        node.body.insert(0, nodes.ExprStmt(tick, lineno=node.lineno))
        return node

    visit_For = visit_Macro = visit_CallBlock = _counted  # noqa: N815 - Jinja's names

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - Jinja's name
        self.generic_visit(node)
        parts = nodes.List(node.nodes, lineno=node.lineno)
        return nodes.Filter(parts, CONCAT, [], [], None, None, lineno=node.lineno)


class Sandbox(ImmutableSandboxedEnvironment):
    """A sandbox for expressions and templates, bounded in what it makes and how long it loops."""

    intercepted_binops = frozenset(_CHECKS)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._steps = _Steps()
        for name in _REMOVED_GLOBALS:
            self.globals.pop(name, None)
        for name in _GUARDED_FILTERS:
            self.filters[name] = _guarded_filter(name, self.filters[name])
        self.filters[CONCAT] = concat
        self.binop_table.update(
            {operator: self._checked(operator, check) for operator, check in _CHECKS.items()}
        )

    def _checked(
        self, operator: str, check: Callable[[Any, Any], None]
    ) -> Callable[[Any, Any], Any]:
        operate = self.default_binop_table[operator]

        def checked(left: Any, right: Any) -> Any:
            check(left, right)
            return operate(left, right)

        return checked

    def begin(self) -> None:
        """Count steps from 0 again: a rendering begins in this thread."""
        self._steps.count = 0

    def tick(self) -> None:
        """Count one step of a loop or macro.

        Raises:
            SecurityError: there were too many.
        """
        self._steps.count += 1
        if self._steps.count > MAX_STEPS:
            raise SecurityError(f"more than {MAX_STEPS} rounds of loops: make them shorter")

    def guard_call(self, function: Any, args: tuple[Any, ...]) -> None:
        """Raise `SecurityError` if ``function`` must not be called with ``args``."""
        if not self.is_safe_callable(function):
            raise SecurityError(f"{function!r} must not be called here")
        _check_method(function, args)

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call ``function`` for a template, if it is safe."""
        self.guard_call(function, args)
        return context.call(function, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Return a guarded ``str.format`` in place of ``value``, or None for anything else."""
        wrapped = super().wrap_str_format(value)
        if wrapped is not None:
            _check_format(value.__self__)
        return wrapped

    def _generate(
        self,
        source: nodes.Template,
        name: str | None,
        filename: str | None,
        defer_init: bool = False,
    ) -> str:
        bounded = _Bounding().visit(source)
        return super()._generate(bounded, name, filename, defer_init)
