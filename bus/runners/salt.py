"""Runs execution functions on the master."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bus import loader

__opts__: Mapping[str, Any]
__context__: dict[str, Any]

_KEPT = "salt.functions"


def cmd(fun: str, *args: Any, **kwargs: Any) -> Any:
    """Run an execution function here, as a minion on this host would.

    CLI example: ``reactor run salt.cmd cmd.run 'uptime'``
    """
    return loader.call(_functions(), fun, args, kwargs)


def _functions() -> loader.Functions:
    """Return the execution functions, loaded once a process."""
    kept: dict[str, loader.Functions] = __context__.setdefault(_KEPT, {})
    if not kept:
        kept[""] = loader.execution_modules(__opts__, grains=loader.grains(__opts__))
    return kept[""]
