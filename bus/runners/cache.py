"""Says what the master knows of its minions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bus import endpoints, rpc

__opts__: Mapping[str, Any]

_SECONDS = 5.0


def grains(tgt: str | Sequence[str] = "*", tgt_type: str = "glob") -> dict[str, Any]:
    """Return the grains that minions told the master when they connected.

    CLI example: ``reactor run cache.grains 'web*'``

    Args:
        tgt: which minions.
        tgt_type: how ``tgt`` is read, such as ``list`` or ``grain``.
    """
    found = _ask("minions.grains", {})
    wanted = _ask("minions.match", {"tgt": tgt, "tgt_type": tgt_type})
    return {ident: found[ident] for ident in sorted(wanted) if ident in found}


def _ask(method: str, params: Mapping[str, Any]) -> Any:
    return rpc.call(endpoints.master_link(__opts__), method, params, _SECONDS)
