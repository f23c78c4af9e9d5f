"""What a condition said, with the values that it saw: short, and without secrets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from reactor.errors import path_text
from reactor.rules.expressions import Expression, Values
from reactor.rules.redaction import HIDDEN, hide_literals, is_secret, redact

_WIDEST = 80
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
    seen = values_seen(expression, values, holds=holds)
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
    undefined = "" if holds else expression.first_undefined(values)
    seen = [f"{undefined} is undefined"] if undefined else []
    for path in expression.paths:
        if len(path) > 1 or path[0] == "tag":
            found = _found(path, values)
            if found is not None:
                hidden = any(is_secret(str(part)) for part in path)
                seen.append(f"{path_text(path)} is {HIDDEN if hidden else said(found[0])}")
    return seen


def _found(path: tuple[Any, ...], values: Values) -> tuple[Any] | None:
    here: Any = values
    for key in path:
        try:
            here = here[key] if isinstance(here, Mapping | list) else getattr(here, str(key))
        except (LookupError, TypeError, AttributeError):
            return None
    return (here,)


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
