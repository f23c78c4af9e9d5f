"""What a condition said, with the values that it saw: short, and without secrets."""

from __future__ import annotations

import json
from typing import Any

from reactor.errors import path_text
from reactor.rules.expressions import Broken, Expression, Values, follow
from reactor.rules.redaction import HIDDEN, hide_literals, is_secret, redact
from reactor.rules.wording import Later

_WIDEST = 80
_LARGE = 1 << 64
_MOST = 4
"""Values that one refusal names: an expression with more is read by its author anyway."""


def verdict(text: str, expression: Expression, values: Values, *, holds: bool) -> str:
    """Say what a condition saw, such as ``when: data.a == 1 is false (data.a is 2)``.

    Args:
        text: the condition on one line.
        expression: the same, compiled.
        values: what it saw.
        holds: what came of it.
    """
    return _worded(text, expression, holds, *_look(expression, values))


def refusal(text: str, expression: Expression, values: Values) -> Later:
    """Say the same of a condition that did not hold; put into words when somebody reads it."""
    return Later(_worded, text, expression, False, *_look(expression, values))


def _worded(
    text: str, expression: Expression, holds: bool, found: tuple[Any, ...], broken: int
) -> str:
    seen = _sayings(expression, found, broken, holds=holds)
    more = [f"and {len(seen) - _MOST} more"] if len(seen) > _MOST else []
    reason = f" ({', '.join(seen[:_MOST] + more)})" if seen else ""
    said_so = "true" if holds else "false"
    return f"when: {shown(text, expression)} is {said_so}{reason}"


def shown(text: str, expression: Expression) -> str:
    """Return a condition as it may be shown: one about a secret without what it compares with."""
    secret = any(is_secret(str(part)) for path in expression.paths for part in path)
    return hide_literals(text) if secret else text


def values_seen(expression: Expression, values: Values, *, holds: bool = False) -> list[str]:
    """Say what an expression sees, such as ``data.a is 2``, without secrets.

    Args:
        expression: compiled.
        values: what it sees.
        holds: it is true: then what is undefined has done no harm.
    """
    return _sayings(expression, *_look(expression, values), holds=holds)


class _Said(str):
    """What is said of a value that was too large to be noted."""

    __slots__ = ()


def _look(expression: Expression, values: Values) -> tuple[tuple[Any, ...], int]:
    """Note what each path of an expression leads to, and which is the first that is broken."""
    found: list[Any] = []
    broken = -1
    for place, path in enumerate(expression.paths):
        value = follow(path, values)
        if type(value) is Broken:
            broken = place if broken < 0 else broken
        elif not _is_shown(path):
            value = None
        found.append(value if _is_small(value) else _Said(said(value)))
    return tuple(found), broken


_SMALL = frozenset({bool, float, type(None), Broken})


def _is_small(value: Any) -> bool:
    kind = type(value)
    if kind is str:
        return len(value) <= _WIDEST
    return kind in _SMALL or (kind is int and -_LARGE < value < _LARGE)


def _is_shown(path: tuple[Any, ...]) -> bool:
    return len(path) > 1 or path[0] == "tag"


def _sayings(
    expression: Expression, found: tuple[Any, ...], broken: int, *, holds: bool
) -> list[str]:
    seen = []
    if broken >= 0 and not holds:
        seen.append(f"{path_text(expression.paths[broken][: found[broken]])} is undefined")
    for path, value in zip(expression.paths, found, strict=True):
        if type(value) is not Broken and _is_shown(path):
            hidden = any(is_secret(str(part)) for part in path)
            text = value if type(value) is _Said else said(value)
            seen.append(f"{path_text(path)} is {HIDDEN if hidden else text}")
    return seen


def said(value: Any) -> str:
    """Return a value as people read it, on one line, cut to a few words."""
    if isinstance(value, str) and len(value) <= _WIDEST:
        shown = redact(value)
        return repr(shown) if shown.isprintable() else json.dumps(shown)
    try:
        text = json.dumps(redact(value), ensure_ascii=False, default=str)
    except (TypeError, ValueError):
        text = type(value).__name__
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"
