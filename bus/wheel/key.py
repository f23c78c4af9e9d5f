"""Accepts, rejects, deletes and shows the keys of minions."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bus import endpoints, rpc
from bus.errors import BusError
from bus.event import get_event
from bus.keys import FOLDERS, KeyStore, fingerprint, key_from_fingerprint, read_public
from bus.modules._errors import InvocationError
from bus.tags import tagify

__opts__: Mapping[str, Any]
__func_alias__ = {"list_": "list"}

_LOG = logging.getLogger(__name__)
_MILLISECONDS = 1000  # the first that is not taken in this time ends the announcing
_KNOWN = sorted(FOLDERS.values())
_LINK_SECONDS = 10.0
_LOOK_SECONDS = 0.05
_SHOWN = 5

_MATCHES = {
    "accepted": "minions",
    "acc": "minions",
    "pre": "minions_pre",
    "un": "minions_pre",
    "unaccepted": "minions_pre",
    "pending": "minions_pre",
    "rejected": "minions_rejected",
    "rej": "minions_rejected",
    "denied": "minions_denied",
    "den": "minions_denied",
}


def list_(match: str = "all") -> dict[str, list[str]]:
    """Return the ids of the keys in a state: all, accepted, pre (pending), rejected or denied.

    CLI example: ``reactor key list``, or in a reaction ``wheel.key.list``
    """
    if match == "all":
        return list_all()
    folder = match if match in FOLDERS.values() else _MATCHES.get(match)
    if folder is None:
        raise InvocationError(f"unknown state {match!r}: use all, accepted, pre, rejected, denied")
    return {folder: _store().list()[folder]}


def list_all() -> dict[str, list[str]]:
    """Return the ids of all keys by their state.

    CLI example: ``reactor key list``, or in a reaction ``wheel.key.list_all``
    """
    return _store().list()


def accept(
    match: str, include_rejected: bool = False, include_denied: bool = False
) -> dict[str, list[str]]:
    """Accept the pending keys whose id matches a glob, and return which.

    CLI example: ``reactor key accept 'web*'``
    """
    changed = _store().accept(_glob(match), include_rejected, include_denied)
    return _announced("accept", "minions", changed)


def reject(
    match: str, include_accepted: bool = False, include_denied: bool = False
) -> dict[str, list[str]]:
    """Reject the pending keys whose id matches a glob, and return which.

    CLI example: ``reactor key reject 'web*'``
    """
    changed = _store().reject(_glob(match), include_accepted, include_denied)
    return _announced("reject", "minions_rejected", changed)


def delete(match: str) -> dict[str, list[str]]:
    """Delete the keys whose id matches a glob, in whatever state, and return which.

    CLI example: ``reactor key delete 'web*'``
    """
    return _announced("delete", "deleted", _store().delete(_glob(match)))


def add(ident: str, public: str) -> dict[str, list[str]]:
    """Accept the public key, in Z85, of a minion that has not come yet.

    CLI example: ``reactor key gen web1``, which makes the key too
    """
    _store().add(ident, str(public).encode())
    return _announced("accept", "minions", [ident])


def name_match(match: str) -> dict[str, list[str]]:
    """Return the ids of the keys whose id matches a glob, by their state.

    CLI example: in a reaction ``wheel.key.name_match``
    """
    found = {folder: list(keys) for folder, keys in _store().finger(_glob(match)).items()}
    return {folder: idents for folder, idents in found.items() if idents}


def accept_dict(
    match: Mapping[str, Sequence[str]], include_rejected: bool = False, include_denied: bool = False
) -> dict[str, list[str]]:
    """Accept the keys of ids that are listed by their state, and return which.

    CLI example: in a reaction ``wheel.key.accept_dict``, with ``{minions_pre: [web1]}``
    """
    wanted = {
        "minions_pre": True,
        "minions_rejected": include_rejected,
        "minions_denied": include_denied,
    }
    changed = [
        changed
        for ident in _wanted(match, wanted)
        for changed in _store().accept(_literal(ident), include_rejected, include_denied)
    ]
    return _announced("accept", "minions", changed)


def reject_dict(
    match: Mapping[str, Sequence[str]], include_accepted: bool = False, include_denied: bool = False
) -> dict[str, list[str]]:
    """Reject the keys of ids that are listed by their state, and return which.

    CLI example: in a reaction ``wheel.key.reject_dict``, with ``{minions_pre: [web1]}``
    """
    wanted = {
        "minions_pre": True,
        "minions": include_accepted,
        "minions_denied": include_denied,
    }
    changed = [
        changed
        for ident in _wanted(match, wanted)
        for changed in _store().reject(_literal(ident), include_accepted, include_denied)
    ]
    return _announced("reject", "minions_rejected", changed)


def delete_dict(match: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Delete the keys of ids that are listed by their state, and return which.

    CLI example: in a reaction ``wheel.key.delete_dict``, with ``{minions_rejected: [web1]}``
    """
    states = {folder: state for state, folder in FOLDERS.items()}
    changed = [
        ident
        for folder, idents in _listed(match).items()
        for ident in idents
        for ident in _store().delete(_literal(ident), [states[folder]])
    ]
    return _announced("delete", "deleted", changed)


def finger_master() -> dict[str, dict[str, str]]:
    """Return the fingerprint of the master's own key.

    CLI example: ``reactor key finger``
    """
    public = read_public(Path(__opts__["pki_dir"], "master.pub"))
    return {"local": {"master.pub": fingerprint(public)}} if public else {}


def finger(match: str = "*") -> dict[str, dict[str, str]]:
    """Return the fingerprints of the keys whose id matches a glob, by state and id.

    CLI example: ``reactor key finger 'web*'``
    """
    found = _store().finger(_glob(match))
    return {folder: fingers for folder, fingers in found.items() if fingers}


def key_str(match: str = "*") -> dict[str, dict[str, str]]:
    """Return the public keys whose id matches a glob, by state and id.

    CLI example: in a reaction ``wheel.key.key_str``
    """
    return {
        folder: {ident: key_from_fingerprint(text).decode() for ident, text in fingers.items()}
        for folder, fingers in finger(match).items()
    }


def rotate_master(timeout: float = 10, force: bool = False) -> dict[str, Any]:
    """Exchange the master's own key for a new one, and return what has become of it.

    The minions that are connected are told of the new key, and keep it, before it is used. Those
    that are away learn of it when they come back, by the old key, for as long as the option
    ``master_key_grace_seconds`` says.

    Args:
        timeout: seconds to wait for the minions to say that they keep the new key.
        force: go on although some minions would not know the new key, nor could learn of it.

    Returns:
        ``finger`` and ``before``, the new and the old fingerprint; ``waiting``, the connected
        minions that did not say that they keep the new key; ``away``, those that are not
        connected; ``grace``, the seconds that they have.

    CLI example: ``reactor key rotate-master``
    """
    state = _link("keys.master_prepare")
    deadline = time.monotonic() + float(timeout)
    while state["waiting"] and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
        state = _link("keys.master")
    behind = [*state["waiting"], *state["away"]]
    if behind and not state["grace"] and not force:
        _link("keys.master_cancel")
        raise InvocationError(
            f"{len(behind)} minions would not know the new key, {_some(behind)}, and "
            "master_key_grace_seconds is 0: connect or delete them, or use force (--force)"
        )
    left = {name: state[name] for name in ("waiting", "away", "grace")}
    return {**_link("keys.master_switch"), **left}


def _some(idents: Sequence[str]) -> str:
    shown = ", ".join(idents[:_SHOWN])
    return f"{shown} and others" if len(idents) > _SHOWN else shown


def _link(method: str) -> Any:
    return rpc.call(endpoints.master_link(__opts__), method, {}, _LINK_SECONDS)


def _store() -> KeyStore:
    return KeyStore(__opts__["pki_dir"])


def _listed(match: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    if not isinstance(match, Mapping) or not set(match) <= set(FOLDERS.values()):
        raise InvocationError(
            f"give ids by their state, such as {{minions_pre: [web1]}}: {', '.join(_KNOWN)}"
        )
    return {folder: [str(ident) for ident in idents] for folder, idents in match.items()}


def _wanted(match: Mapping[str, Sequence[str]], states: Mapping[str, bool]) -> list[str]:
    """Return the ids that are listed by a state which is wanted."""
    found = _listed(match).items()
    return [ident for state, idents in found if states.get(state) for ident in idents]


def _literal(ident: str) -> str:
    """Return a glob that means this id only, whatever somebody wrote."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in ident)


def _glob(match: str) -> str:
    if not isinstance(match, str) or not match:
        raise InvocationError("give the id of a minion, or a glob such as 'web*'")
    return match


def _announced(act: str, folder: str, changed: list[str]) -> dict[str, list[str]]:
    """Fire an event for each change. The files say what holds, so nobody need hear it."""
    try:
        _fire(act, changed)
    except BusError as error:
        _LOG.debug("salt/key was not fired: %s", error)
    return {folder: changed} if changed else {}


def _fire(act: str, changed: Iterable[str]) -> None:
    with get_event("master", opts=__opts__, listen=False, raise_errors=True) as event:
        if not event.connect_pull():
            return
        for ident in changed:
            data = {"id": ident, "act": act, "result": True}
            event.fire_event(data, tagify("key"), timeout=_MILLISECONDS)
