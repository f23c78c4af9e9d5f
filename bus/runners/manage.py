"""Says which minions are there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bus import endpoints, rpc
from bus.keys import KeyStore

__opts__: Mapping[str, Any]

_SECONDS = 5.0


def status() -> dict[str, list[str]]:
    """Return the accepted minions that are connected (``up``) and those that are not (``down``).

    CLI example: ``reactor run manage.status``
    """
    accepted = set(KeyStore(__opts__["pki_dir"]).list()["minions"])
    connected = set(_connected())
    return {"up": sorted(accepted & connected), "down": sorted(accepted - connected)}


def up() -> list[str]:
    """Return the minions that are connected.

    CLI example: ``reactor run manage.up``
    """
    return status()["up"]


def down() -> list[str]:
    """Return the accepted minions that are not connected.

    CLI example: ``reactor run manage.down``
    """
    return status()["down"]


def _connected() -> list[str]:
    return list(rpc.call(endpoints.master_link(__opts__), "minions.connected", {}, _SECONDS))
