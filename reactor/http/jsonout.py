"""Values as JSON that any reader takes: what JSON lacks becomes text. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

_encode = json.JSONEncoder(
    separators=(", ", ": "), allow_nan=False, default=lambda value: plain(value)
).encode

_DEEPEST = 100


def dumps(value: Any) -> str:
    """Return a value as JSON on one line."""
    try:
        return _encode(value)
    except (ValueError, TypeError, RecursionError):
        return json.dumps(_tame(value, 0))


def plain(value: Any) -> Any:
    """Return what JSON has no form for as something that it has one for."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def _tame(value: Any, depth: int) -> Any:
    """Return a copy in which nothing is left that JSON cannot carry."""
    if depth > _DEEPEST:
        return "nested too deeply"
    if isinstance(value, Mapping):
        return {_key(key): _tame(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_tame(item, depth + 1) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, str | int | float):
        return value
    return plain(value)


def _key(key: Any) -> str:
    return key if isinstance(key, str) else str(plain(key))
