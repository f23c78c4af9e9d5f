"""Event data as JSON that can be read back to the same data: what JSON lacks gets a form. Pure.

``{"$bytes": "<base64>"}``, ``{"$float": "nan"}``, ``{"$map": [[key, value], ...]}`` for a mapping
whose keys are not all text or that looks like one of these forms, and ``{"$msgpack": "<base64>"}``
for what is nested too deeply.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from bus import wire
from bus.errors import DataError, WireError

_BYTES, _FLOAT, _MAP, _MSGPACK = "$bytes", "$float", "$map", "$msgpack"
_FORMS = frozenset({_BYTES, _FLOAT, _MAP, _MSGPACK})
_ODD_FLOATS = ("nan", "inf", "-inf")


def dumps(value: Any) -> str:
    """Return a value that msgpack can carry as JSON on one line."""
    try:
        return json.dumps(_encode(value), ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        return json.dumps({_MSGPACK: _text(wire.pack(value))})


def loads(text: str) -> Any:
    """Return the value that `dumps` made ``text`` of.

    Raises:
        DataError: it is no JSON, or a form in it is wrong.
    """
    try:
        return decode(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise DataError(f"no valid JSON: {error}") from error


def decode(value: Any) -> Any:
    """Return what a value of JSON means.

    Raises:
        DataError: a form in it is wrong.
    """
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    if len(value) == 1:
        ((key, inner),) = value.items()
        if key in _FORMS:
            return _decode_form(key, inner)
    return {key: decode(item) for key, item in value.items()}


def _encode(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _encode_mapping(value)
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    if isinstance(value, bytes):
        return {_BYTES: _text(value)}
    if isinstance(value, float) and not math.isfinite(value):
        return {_FLOAT: str(value)}
    return value


def _encode_mapping(value: Mapping[Any, Any]) -> dict[str, Any]:
    looks_like_a_form = len(value) == 1 and next(iter(value)) in _FORMS
    if looks_like_a_form or not all(isinstance(key, str) for key in value):
        return {_MAP: [[_encode(key), _encode(item)] for key, item in value.items()]}
    return {key: _encode(item) for key, item in value.items()}


def _decode_form(form: str, inner: Any) -> Any:
    try:
        return _DECODERS[form](inner)
    except (TypeError, ValueError, binascii.Error, WireError) as error:
        raise DataError(f"a {form} that cannot be read: {str(inner)[:60]!r}") from error


def _decode_float(text: Any) -> float:
    if text not in _ODD_FLOATS:
        raise ValueError(text)
    return float(text)


def _decode_map(pairs: Any) -> dict[Any, Any]:
    return {decode(key): decode(item) for key, item in pairs}


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _raw(text: Any) -> bytes:
    return base64.b64decode(text, validate=True)


_DECODERS: dict[str, Callable[[Any], Any]] = {
    _BYTES: _raw,
    _FLOAT: _decode_float,
    _MAP: _decode_map,
    _MSGPACK: lambda text: wire.unpack(_raw(text)),
}
