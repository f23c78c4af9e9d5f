"""Says which minions are connected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bus import endpoints, rpc

__opts__: Mapping[str, Any]

_SECONDS = 5.0


def connected() -> list[str]:
    """Return the ids of the connected minions.

    CLI example: in a reaction ``wheel.minions.connected``
    """
    return sorted(rpc.call(endpoints.master_link(__opts__), "minions.connected", {}, _SECONDS))
