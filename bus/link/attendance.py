"""Who is there: finds out who is gone, and says who came and went."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from bus.link import protocol
from bus.link.departures import Departures, Silence
from bus.link.dues import Dues
from bus.link.peers import Peers
from bus.link.presence import Presence
from bus.link.protocol import Pong

log = logging.getLogger(__name__)

PROBE_SECONDS = 1.0


class Attendance:
    """Keeps the list of peers true.

    Args:
        peers: who is connected, as far as is known.
        departures: tells that somebody may be gone; to be closed by whoever made it.
        send_frame: sends to a peer, and forgets one that is gone.
        presence: makes the events of who came and went, if they are wanted.
        fire: fires an event on the master's bus.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        peers: Peers,
        departures: Departures,
        *,
        send_frame: Callable[[bytes, bytes], object],
        presence: Presence | None,
        fire: Callable[[str, dict[str, Any]], None],
        clock: Callable[[], float],
    ) -> None:
        self._peers = peers
        self._departures = departures
        self._send_frame = send_frame
        self._presence = presence
        self._told_version = -1
        self._fire = fire
        self._clock = clock
        self._dues = Dues(clock)
        self._silence = Silence(clock())

    def look_for_all(self) -> None:
        """Find out who is gone, if anybody may be, but not more often than once a second."""
        if self._dues.take("probe", PROBE_SECONDS):
            self.look_for(self._peers.ids)

    def look_for(self, idents: Iterable[str]) -> None:
        """Find out which of these minions are gone, if anybody may be."""
        if self._departures.suspected():
            self._probe(sorted(idents))

    def _probe(self, idents: list[str]) -> None:
        """ZeroMQ says that a connection is gone when something is sent over it."""
        frame = protocol.encode(Pong())
        limit = self._clock() - PROBE_SECONDS
        for ident in idents:
            peer = self._peers.minion(ident)
            if peer is not None and peer.heard < limit:
                self._send_frame(peer.routing, frame)

    def forget_silent(self) -> None:
        """Forget minions that have not even pinged; one that speaks again is asked who it is."""
        limit = self._silence.limit(self._clock())
        for peer in self._peers.silent_since(limit):
            log.info("minion %s has fallen silent", peer.id)
            self._peers.forget(peer)

    def tell(self) -> None:
        """Fire who came and went, and now and then who is there."""
        if self._presence is None:
            return
        now = self._clock()
        if self._presence.is_due(now) or self._peers.version != self._told_version:
            self._told_version = self._peers.version
            for tag, data in self._presence.events(self._peers.ids, now):
                self._fire(tag, data)
