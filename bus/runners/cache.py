"""What the master knows of its minions, and what runner functions keep for later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bus import endpoints, rpc
from bus.banks import Banks

__func_alias__ = {"list_": "list"}

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


def clear_grains(tgt: str | Sequence[str] = "*", tgt_type: str = "glob") -> list[str]:
    """Forget the grains of minions until they connect again; return which were known.

    CLI example: ``reactor run cache.clear_grains 'web*'``

    Args:
        tgt: which minions.
        tgt_type: how ``tgt`` is read, such as ``list`` or ``grain``.
    """
    ids = sorted(_ask("minions.match", {"tgt": tgt, "tgt_type": tgt_type}))
    return list(_ask("minions.forget_grains", {"ids": ids}))


def store(bank: str, key: str, data: Any) -> bool:
    """Keep a value under a bank and a key, across restarts.

    CLI example: ``reactor run cache.store deploys/web last 20261122``

    Args:
        bank: a name, or several with ``/`` between them.
        key: a name.
        data: what an event could carry too.

    Raises:
        DataError: a name cannot be used, or the value cannot be packed.
        BusError: the disk does not take it.
    """
    _banks().store(bank, key, data)
    return True


def fetch(bank: str, key: str) -> Any:
    """Return what `store` kept; an empty dict if there is nothing, as Salt does.

    CLI example: ``reactor run cache.fetch deploys/web last``

    Args:
        bank: a name, or several with ``/`` between them.
        key: a name.

    Raises:
        DataError: a name cannot be used, or what is there cannot be read.
    """
    found = _banks().fetch(bank, key)
    return {} if found is None else found


def list_(bank: str) -> list[str]:
    """Return the keys in a bank, and the banks in it, sorted.

    CLI example: ``reactor run cache.list deploys``

    Args:
        bank: a name, or several with ``/`` between them.

    Raises:
        DataError: the name cannot be used.
    """
    return _banks().list(bank)


def flush(bank: str, key: str | None = None) -> bool:
    """Remove a key, or without one a whole bank; return whether there was one.

    CLI example: ``reactor run cache.flush deploys/web last``

    Args:
        bank: a name, or several with ``/`` between them.
        key: a name; without it the bank goes with all that is in it.

    Raises:
        DataError: a name cannot be used.
        BusError: it cannot be removed.
    """
    return _banks().flush(bank, key)


def _banks() -> Banks:
    return Banks(Path(__opts__["state_dir"]) / "banks")


def _ask(method: str, params: Mapping[str, Any]) -> Any:
    return rpc.call(endpoints.master_link(__opts__), method, params, _SECONDS)
