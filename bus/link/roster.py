"""The accepted minions, with what they said of themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bus.keys import ACCEPTED, KeyStore
from bus.link.peers import Peer
from bus.targets import Grains


class Roster:
    """Who is accepted, and the grains that each told when it connected.

    Args:
        keys: who is accepted.
    """

    def __init__(self, keys: KeyStore) -> None:
        self._keys = keys
        self._grains: dict[str, Grains] = {}
        self._minions: dict[str, Grains] | None = None

    def is_accepted(self, peer: Peer) -> bool:
        """Say whether a peer may be spoken to as the minion that it says it is."""
        return peer.state == ACCEPTED and self._keys.accepted().get(peer.id) == peer.key

    def note(self, ident: str, grains: Grains) -> None:
        """Remember the grains of a minion that has connected."""
        self._grains[ident] = grains
        self._minions = None

    def changed(self) -> None:
        """Look at the keys again: others are accepted now."""
        self._minions = None

    def forget(self, idents: Iterable[str]) -> list[str]:
        """Forget the grains of minions until they connect again; return whose were known."""
        known = [ident for ident in idents if self._grains.pop(ident, None)]
        self._minions = None
        return known

    def all(self) -> Mapping[str, Grains]:
        """Return all accepted ids, sorted, with their grains as far as they are known."""
        if self._minions is None:
            accepted = self._keys.accepted()
            known = {ident: grains for ident, grains in self._grains.items() if ident in accepted}
            self._grains = known
            self._minions = {ident: known.get(ident, {}) for ident in sorted(accepted)}
        return self._minions
