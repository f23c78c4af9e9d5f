"""Who is at the other end: connections by routing id, and minions by their proven key. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from bus.keys import ACCEPTED
from bus.link.protocol import ROUTING_ID_BYTES

MAX_WAITING = 10_000
"""Connections whose key is not accepted; whoever reaches the port can open them."""


def is_routing_id(routing: bytes) -> bool:
    """Say whether a minion of ours can have this routing id; ZeroMQ's own begin with a zero."""
    return len(routing) == ROUTING_ID_BYTES and routing[0] != 0


@dataclass(slots=True)
class Peer:
    """One connection.

    Attributes:
        routing: its secret name.
        id: the minion that it says it is.
        key: the key that it has proved, in Z85.
        state: what the key was when the peer was last told.
        grains: what the minion says of itself.
        heard: when it last sent something.
        run: which process of the minion it is.
        knows: the master's next key, if the minion has said that it keeps it.
    """

    routing: bytes
    id: str
    key: bytes
    state: str
    grains: dict[str, Any]
    heard: float
    run: bytes = b""
    knows: bytes = b""


class Peers:
    """All connections that have said hello; each accepted minion has one at most.

    Attributes:
        version: grows whenever a minion may have come or gone.
    """

    def __init__(self) -> None:
        self.version = 0
        self._accepted: dict[bytes, Peer] = {}
        self._waiting: OrderedDict[bytes, Peer] = OrderedDict()
        self._by_id: dict[str, Peer] = {}

    def __len__(self) -> int:
        return len(self._accepted)

    def __iter__(self) -> Iterator[Peer]:
        """Go through a copy, so that peers can be forgotten meanwhile."""
        return iter([*self._accepted.values(), *self._waiting.values()])

    def silent_since(self, moment: float) -> list[Peer]:
        """Return the accepted ones that were not heard since ``moment``.

        Those that wait for acceptance have no reason to say anything.
        """
        return [peer for peer in self._accepted.values() if peer.heard < moment]

    def get(self, routing: bytes) -> Peer | None:
        """Return the peer with this routing id."""
        return self._accepted.get(routing) or self._waiting.get(routing)

    def minion(self, ident: str) -> Peer | None:
        """Return the connection of an accepted minion."""
        return self._by_id.get(ident)

    @property
    def ids(self) -> AbstractSet[str]:
        """The ids of the accepted minions that are connected, as of now: no copy."""
        return self._by_id.keys()

    def connected(self) -> list[str]:
        """Return the ids of the accepted minions that are connected, sorted."""
        return sorted(self._by_id)

    def put(self, peer: Peer) -> None:
        """Note a peer; an accepted minion's older connection is forgotten."""
        self.forget(peer)
        if peer.state != ACCEPTED:
            self._waiting[peer.routing] = peer
            if len(self._waiting) > MAX_WAITING:
                self._waiting.popitem(last=False)
            return
        older = self._by_id.get(peer.id)
        if older is not None:
            self.forget(older)
        self._accepted[peer.routing] = peer
        self._by_id[peer.id] = peer
        self.version += 1

    def forget(self, peer: Peer) -> None:
        """Forget a connection."""
        self._waiting.pop(peer.routing, None)
        known = self._accepted.pop(peer.routing, None)
        if known is not None and self._by_id.get(known.id) is known:
            del self._by_id[known.id]
            self.version += 1
