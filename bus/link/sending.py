"""What the master's end of the link sends, and to whom it may."""

from __future__ import annotations

import zmq

from bus.complaints import Complaints
from bus.link import protocol
from bus.link.peers import Peers
from bus.link.roster import Roster
from bus.sockets import Socket, send_pair


class Sender:
    """Sends to peers without waiting for one.

    Args:
        router: the port.
        peers: who is connected.
        roster: who is accepted.
        complaints: counts and says what is wrong.
    """

    def __init__(
        self, router: Socket, peers: Peers, roster: Roster, complaints: Complaints
    ) -> None:
        self._router = router
        self._peers = peers
        self._roster = roster
        self._complaints = complaints

    def send(self, routing: bytes, message: protocol.Down) -> bool:
        """Send a message, whoever it is that has this routing id; False if it cannot be."""
        return self.send_frame(routing, protocol.encode(message))

    def send_frame(self, routing: bytes, frame: bytes) -> bool:
        """Send; a peer that is gone or reads nothing is forgotten, and says hello again."""
        try:
            send_pair(self._router, routing, frame)
        except zmq.ZMQError as error:
            peer = self._peers.get(routing)
            if peer is not None:
                self._peers.forget(peer)
            if error.errno != zmq.EHOSTUNREACH:
                self._complaints.add("slow_peers", f"gave up a minion that reads nothing: {error}")
            return False
        return True

    def to_minion(self, ident: str, frame: bytes) -> bool:
        """Send to an accepted minion; False if it is not connected."""
        peer = self._peers.minion(ident)
        return (
            peer is not None
            and self._roster.is_accepted(peer)
            and self.send_frame(peer.routing, frame)
        )

    def to_all(self, message: protocol.Down) -> None:
        """Send to every accepted minion that is connected."""
        frame = protocol.encode(message)
        for ident in self._peers.connected():
            self.to_minion(ident, frame)
