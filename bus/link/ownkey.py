"""The master's own key on the link: telling minions of the next one, and taking it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from bus.complaints import Complaints
from bus.errors import BusError
from bus.keys import Keypair, fingerprint
from bus.keys.master import MasterKeys as KeyFiles
from bus.link import handover, protocol
from bus.link.budget import Budget
from bus.link.peers import Peers
from bus.link.port import Port
from bus.link.protocol import MasterKeys
from bus.rpc import Methods

log = logging.getLogger(__name__)

DEFAULT_GRACE = 2_592_000.0
"""Seconds for which one who was away may still learn of the key that replaced the one he knows."""

Fire = Callable[[str, dict[str, Any]], None]


class OwnKey:
    """What proves who the master is, and its rotation.

    Args:
        files: where the keys are.
        port: opened anew with another key.
        peers: who is connected.
        minions: returns the ids of all accepted ones.
        tell_all: sends a message to every minion that is connected.
        fire: fires an event.
        complaints: counts and says what is wrong.
        budget: how many who ask for a successor are answered.

    Attributes:
        files: as given.
        responder: answers first contacts in UDP; to be closed.
        wants_look: whether `look` is to be called soon: another key was chosen.
    """

    def __init__(
        self,
        files: KeyFiles,
        port: Port,
        peers: Peers,
        *,
        minions: Callable[[], Iterable[str]],
        tell_all: Callable[[protocol.Down], None],
        fire: Fire,
        complaints: Complaints,
        budget: Budget,
    ) -> None:
        self.files = files
        self._port = port
        self._peers = peers
        self._minions = minions
        self._tell_all = tell_all
        self._fire = fire
        self._complaints = complaints
        self._budget = budget
        self.responder = port.open_responder(self.hand_over)
        self.wants_look = False

    @property
    def keypair(self) -> Keypair:
        """The key pair that the port is open with."""
        return self._port.keypair

    @property
    def methods(self) -> Methods:
        """What can be asked."""
        return {
            "keys.master": lambda _: self._status(),
            "keys.master_prepare": lambda _: self._prepare(),
            "keys.master_switch": lambda _: self._switch(),
            "keys.master_cancel": lambda _: self.files.cancel(),
        }

    @property
    def next_is_known(self) -> bool:
        """Whether there is a next key, which minions are told of when they connect."""
        return self.files.next is not None

    def known_by(self) -> MasterKeys:
        """Return what minions are told: by which keys they may know this master."""
        pairs = (self.files.current, self.files.next)
        return MasterKeys([pair.public for pair in pairs if pair is not None])

    def hand_over(self, datagram: bytes) -> bytes | None:
        """Answer one who asks for the successor of a key that was ours."""
        if not self._budget.take():
            return None
        files = self.files
        return handover.answer(datagram, files.current.public, [*files.past, files.current])

    def look(self) -> None:
        """Follow the files, which another process may have changed.

        Raises:
            AlreadyRunningError: the port cannot be opened again.
        """
        self.wants_look = False
        try:
            changed = self.files.refresh()
        except (BusError, OSError) as error:
            self._complaints.add("master_key_not_read", str(error))
            return
        if self.files.current != self.keypair:
            self._use_current()
        elif changed and self.next_is_known:
            self._tell_all(self.known_by())

    def _use_current(self) -> None:
        self._tell_all(self.known_by())
        self.responder.public = self.files.current.public
        self._port.use(self.files.current)
        now = fingerprint(self.keypair.public)
        log.info("the key of this master is %s now", now)
        self._fire("salt/key", {"id": "", "act": "rotate_master", "finger": now, "result": True})

    def _status(self) -> dict[str, Any]:
        """Return the keys, and which minions do not know of the next one."""
        following = self.files.next
        public = following.public if following else b""
        peers = {ident: self._peers.minion(ident) for ident in self._minions()}
        return {
            "finger": fingerprint(self.keypair.public),
            "next": fingerprint(public) if public else "",
            "waiting": [
                i for i, peer in peers.items() if peer is not None and peer.knows != public
            ],
            "away": [ident for ident, peer in peers.items() if peer is None],
            "grace": self.files.grace,
        }

    def _prepare(self) -> dict[str, Any]:
        self.files.prepare()
        self._tell_all(self.known_by())
        return self._status()

    def _switch(self) -> dict[str, Any]:
        """Take the next key; the loop opens the port with it, and ends the process if it cannot."""
        self.files.switch()
        self.wants_look = True
        now = fingerprint(self.files.current.public)
        return {"before": fingerprint(self.keypair.public), "finger": now}
