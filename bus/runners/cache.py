"""Says what the master knows of its minions."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Any

from bus import endpoints, rpc

__opts__: Mapping[str, Any]

_SECONDS = 5.0


def grains(tgt: str = "*") -> dict[str, Any]:
    """Return the grains of the minions whose id matches a glob.

    CLI example: ``reactor run cache.grains 'web*'``
    """
    found = rpc.call(endpoints.master_link(__opts__), "minions.grains", {}, _SECONDS)
    return {ident: found[ident] for ident in sorted(found) if fnmatch.fnmatchcase(ident, tgt)}
