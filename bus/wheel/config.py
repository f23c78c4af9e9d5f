"""Shows the master's options."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bus.config.opts import thaw

__opts__: Mapping[str, Any]

_SECRET = re.compile(r"pass(word|wd|phrase)?$|secret|token|_key$", re.IGNORECASE)
_HIDDEN = "(hidden)"


def values() -> dict[str, Any]:
    """Return all options of the master and what they are set to; secrets are hidden.

    CLI example: in a reaction ``wheel.config.values``
    """
    found: dict[str, Any] = _without_secrets(thaw(dict(__opts__)))
    return found


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _HIDDEN if item and _SECRET.search(str(key)) else _without_secrets(item)
            for key, item in value.items()
        }
    return [_without_secrets(item) for item in value] if isinstance(value, list) else value
