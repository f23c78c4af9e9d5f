"""The bodies of requests in the forms that Salt's API takes: JSON, YAML, forms, text. Pure."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

import yaml

from reactor.http.errors import HttpError

_YAML = ("application/x-yaml", "application/yaml", "text/yaml", "text/x-yaml")
_JSON = "application/json"
_FORM = "application/x-www-form-urlencoded"
_MOST_FIELDS = 1_000


def read(body: bytes, content_type: str) -> Any:
    """Return what a body says; None if it is empty.

    Raises:
        HttpError: it is not what its type says.
    """
    if not body:
        return None
    kind = content_type.partition(";")[0].strip().lower()
    try:
        if kind == _FORM:
            return form(body)
        if kind in _YAML:
            return yaml.load(body, Loader=yaml.CSafeLoader)
        return json.loads(body)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise HttpError(f"the body is no {_name(kind)}: {str(error)[:200]}") from error


def is_known(content_type: str) -> bool:
    """Say whether a body of this type can be read."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind in (_JSON, _FORM, *_YAML) or kind.endswith("+json")


def _name(kind: str) -> str:
    return "form" if kind == _FORM else "YAML" if kind in _YAML else "JSON"


def form(body: bytes) -> dict[str, Any]:
    """Return the fields of a form; one that comes several times is a list, as in Salt.

    Raises:
        ValueError: there are too many, or it is no text.
    """
    fields: dict[str, Any] = {}
    for name, value in parse_qsl(
        body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS
    ):
        if name in fields:
            before = fields[name]
            fields[name] = [*(before if isinstance(before, list) else [before]), value]
        else:
            fields[name] = value
    return fields
