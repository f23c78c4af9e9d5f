"""Whatever an event can hold as JSON for people, which need not be read back. Pure.

msgpack carries keys that are no text, keys of several types in one mapping, and values that nest
more deeply than JSON can be written. `bus.jsonform` writes what has to be read back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

DEEPEST = 100
"""Levels that are shown of what nests too deeply."""


def shown(
    value: Any,
    *,
    sort_keys: bool = False,
    indent: int | None = None,
    ensure_ascii: bool = True,
    default: Callable[[Any], Any] = str,
    cuts: bool = False,
) -> str:
    """Return a value as JSON.

    Args:
        value: the value.
        sort_keys: whether names are sorted.
        indent: blanks of each level; None for one line.
        ensure_ascii: whether letters beyond ASCII are written as escapes.
        default: makes something of what JSON has no form for.
        cuts: whether what nests too deeply is cut; else it is an error.

    Raises:
        RecursionError: it nests too deeply.
    """
    try:
        return json.dumps(
            value, sort_keys=sort_keys, indent=indent, ensure_ascii=ensure_ascii, default=default
        )
    except TypeError:
        plain = with_text_keys(value, default)
    except RecursionError:
        if not cuts:
            raise
        plain = with_text_keys(value, default, DEEPEST)
    return json.dumps(plain, sort_keys=sort_keys, indent=indent, ensure_ascii=ensure_ascii)


def with_text_keys(value: Any, default: Callable[[Any], Any], levels: int = -1) -> Any:
    """Return a value that JSON has a form for, of at most so many levels if it is not negative."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if not levels:
        return "…"
    if isinstance(value, Mapping):
        return {
            _text(key): with_text_keys(item, default, levels - 1) for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [with_text_keys(item, default, levels - 1) for item in value]
    return with_text_keys(default(value), default, levels - 1)


def _text(key: Any) -> str:
    if isinstance(key, bytes):
        return key.decode(errors="backslashreplace")
    return key if isinstance(key, str) else json.dumps(key, default=str)
