"""Who may speak: what a peer's key is worth, now and when somebody decides otherwise."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from bus.complaints import Complaints
from bus.errors import BusError, DataError, KeyStateError
from bus.keys import (
    ACCEPTED,
    DENIED,
    PENDING,
    REJECTED,
    UNKNOWN,
    KeyStore,
    check_public,
    fingerprint,
)
from bus.link import admission, autosign, protocol
from bus.link.autosignfiles import Policy
from bus.link.budget import Budget
from bus.link.peers import Peer, Peers
from bus.link.protocol import Hello, Reply, State

log = logging.getLogger(__name__)

AUTH_EVENTS_PER_SECOND = 50
"""Anybody who reaches the port can make us fire ``salt/auth``, and the journal is on a disk."""

_MAX_TOLD = 20_000
_ACTS = {ACCEPTED: "accept", PENDING: "pend", REJECTED: "reject", DENIED: "denied"}


class Greeter:
    """Tells peers what their keys are worth.

    Args:
        keys: the states of keys.
        policy: whom to accept or reject unseen.
        peers: who is connected.
        send: sends a message to a peer.
        fire: fires an event of the server's own.
        welcome: gives an accepted peer what waits for it.
        changed: told that other minions are accepted than before.
        complaints: counts and says what is wrong.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        keys: KeyStore,
        policy: Policy,
        peers: Peers,
        *,
        send: Callable[[bytes, protocol.Down], object],
        fire: Callable[[str, dict[str, Any]], None],
        welcome: Callable[[Peer], None],
        changed: Callable[[], None],
        complaints: Complaints,
        clock: Callable[[], float],
    ) -> None:
        self._keys = keys
        self._policy = policy
        self._peers = peers
        self._send = send
        self._fire = fire
        self._welcome = welcome
        self._changed = changed
        self._complaints = complaints
        self._clock = clock
        self._budget = Budget(AUTH_EVENTS_PER_SECOND, clock)
        self._told: OrderedDict[tuple[str, bytes], str] = OrderedDict()
        self._rotated: dict[str, bytes] = {}
        self._version = keys.version

    def take_hello(self, routing: bytes, key: bytes, hello: Hello) -> None:
        """Answer one who says who he is, under the key that he has proved."""
        if self._is_replaced(hello.id, key):
            # A minion that did not hear the answer: it has the new key too, and tries it next.
            self._send(routing, State(DENIED))
            return
        try:
            state = self._submit(hello.id, key)
        except BusError as error:
            self._complaints.add("keys_not_kept", str(error))
            return
        peer = Peer(routing, hello.id, key, state, hello.grains, self._clock(), hello.run)
        older = self._peers.get(routing)
        if older is not None:
            self._peers.forget(older)
        self._peers.put(peer)
        self._tell_state(peer)
        self._announce(peer)

    def look(self) -> bool:
        """Follow the key files, and return whether other keys are accepted than before."""
        try:
            self._keys.refresh()
        except BusError as error:
            self._complaints.add("keys_not_read", str(error))
            return False
        if self._keys.version == self._version:
            return False
        self._version = self._keys.version
        self._changed()
        for peer in self._peers:
            self._look_at(peer)
        return True

    def rotate(self, peer: Peer, number: int, new: Any) -> None:
        """Take another key for a minion, at the word of the one that proved the accepted key."""
        try:
            self._check_next_key(peer.id, new)
            if new != peer.key:
                self._keys.replace(peer.id, peer.key, new)
        except BusError as error:
            log.warning("the key of %s was not replaced: %s", peer.id, error)
            answer = Reply(number, None, str(error)[: admission.MAX_ERROR])
            self._send(peer.routing, answer)
            return
        self._send(peer.routing, Reply(number, True, ""))
        if new == peer.key:
            return
        # The connection ends with the key that it was made with.
        self._peers.forget(peer)
        self._rotated[peer.id] = peer.key
        log.info("the key of %s was replaced by %s", peer.id, fingerprint(new))
        self._fire("salt/key", {"id": peer.id, "act": "rotate", "result": True})

    def note_known_key(self, peer: Peer, number: int, public: Any) -> None:
        """A minion says which key of the master's it keeps for when it is the one in use."""
        try:
            # Never bytes(...) of what came: of a number that is as many bytes.
            peer.knows = check_public(public if isinstance(public, bytes) else b"")
        except BusError as error:
            answer = Reply(number, None, str(error)[: admission.MAX_ERROR])
            self._send(peer.routing, answer)
            return
        self._send(peer.routing, Reply(number, True, ""))

    def _is_replaced(self, ident: str, key: bytes) -> bool:
        """Say whether this minion has put another key, which holds, in the place of this one."""
        return self._rotated.get(ident) == key and self._keys.accepted().get(ident) not in (
            None,
            key,
        )

    def _submit(self, ident: str, key: bytes) -> str:
        before = self._keys.state(ident, key)
        # What somebody has decided holds, whatever the lists say.
        verdict = self._policy.decide(ident, key) if before in (UNKNOWN, PENDING) else autosign.ASK
        accepts, rejects = verdict == autosign.ACCEPT, verdict == autosign.REJECT
        state = self._keys.submit(ident, key, accepts, rejects)
        if state != before:
            self._changed()
            if (state == ACCEPTED and accepts) or (state == REJECTED and rejects):
                self._fire("salt/key", {"id": ident, "act": verdict, "result": True})
        if state == UNKNOWN:
            text = f"too many keys are {'rejected' if rejects else 'pending'}: none is added"
            self._complaints.add("too_many_pending", text)
            return PENDING
        return state

    def _tell_state(self, peer: Peer) -> None:
        if peer.state == ACCEPTED:
            self._welcome(peer)
        else:
            self._send(peer.routing, State(peer.state))

    def _announce(self, peer: Peer) -> None:
        """Fire ``salt/auth`` if the state of this id and key is another than at the last time."""
        name = (peer.id, peer.key)
        if self._told.get(name) == peer.state:
            return
        self._told[name] = peer.state
        if len(self._told) > _MAX_TOLD:
            self._told.popitem(last=False)
        if peer.state != ACCEPTED and not self._budget.take():
            self._complaints.add("auth_events_left_out", "too many salt/auth events: left out")
            return
        good = peer.state in (ACCEPTED, PENDING)
        data = {"id": peer.id, "act": _ACTS[peer.state], "pub": peer.key.decode(), "result": good}
        self._fire("salt/auth", data)

    def _look_at(self, peer: Peer) -> None:
        """Tell a peer whose key has another state now."""
        state = self._keys.state(peer.id, peer.key)
        if state == peer.state:
            return
        self._peers.forget(peer)
        if state == UNKNOWN:  # deleted: a minion that is still there says hello, and is pending
            self._told.pop((peer.id, peer.key), None)
            if peer.state == ACCEPTED:
                self._send(peer.routing, State(protocol.DELETED))
            return
        peer.state = state
        self._peers.put(peer)
        self._tell_state(peer)
        self._announce(peer)

    def _check_next_key(self, ident: str, new: Any) -> None:
        if not isinstance(new, bytes):
            raise DataError("a public key is bytes")
        if self._policy.decide(ident, check_public(new)) == autosign.REJECT:
            raise KeyStateError("the new key is one that the autoreject_file rejects")
