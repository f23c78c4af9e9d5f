"""Takes each message that comes at the master's port, once it is clear whose it is."""

from __future__ import annotations

import logging
from collections.abc import Callable

import zmq

from bus.complaints import Complaints
from bus.errors import WireError
from bus.keys import ACCEPTED, UNKNOWN
from bus.link import protocol
from bus.link.filerequests import Files
from bus.link.greeting import Greeter
from bus.link.intake import Intake
from bus.link.peers import Peer, Peers, is_routing_id
from bus.link.protocol import Batch, Bye, Hello, Ping, Pong, Request, State
from bus.link.roster import Roster

log = logging.getLogger(__name__)


class Reception:
    """Hands what peers say to who is to answer it; strangers can say hello and no more.

    Args:
        peers: who is connected.
        roster: who is accepted.
        greeter: answers hellos, and requests about keys.
        intake: takes what minions bring.
        files: answers requests for files.
        send: sends a message to a peer.
        complaints: counts and says what is wrong.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        peers: Peers,
        roster: Roster,
        greeter: Greeter,
        intake: Intake,
        files: Files,
        *,
        send: Callable[[bytes, protocol.Down], object],
        complaints: Complaints,
        clock: Callable[[], float],
    ) -> None:
        self._peers = peers
        self._roster = roster
        self._greeter = greeter
        self._intake = intake
        self._files = files
        self._send = send
        self._complaints = complaints
        self._clock = clock

    def take(self, frames: list[zmq.Frame]) -> None:
        """Take a message, whatever it is; what is wrong with it is counted, and ends nothing."""
        routing, key = frames[0].bytes, _proven_key(frames[-1])
        if len(frames) != 2 or not is_routing_id(routing) or key is None:
            self._complaints.add("malformed", "dropped a message that no minion of ours sends")
            return
        try:
            self._take(routing, key, frames[1].bytes)
        except WireError as error:
            self._complaints.add("malformed", f"dropped a malformed message: {error}")
        except Exception as error:  # the boundary of a message: none may end the server
            log.debug("a message could not be handled", exc_info=True)
            self._complaints.add("failed", f"a message could not be handled: {error!r}")

    def _take(self, routing: bytes, key: bytes, raw: bytes) -> None:
        peer = self._peers.get(routing)
        if peer is not None and peer.key != key:
            self._complaints.add("wrong_key", "dropped a message under another's routing id")
            return
        if peer is not None and self._roster.is_accepted(peer):
            peer.heard = self._clock()
            self._take_accepted(peer, protocol.decode_up(raw))
        else:
            self._take_stranger(routing, key, raw, peer)

    def _take_stranger(self, routing: bytes, key: bytes, raw: bytes, peer: Peer | None) -> None:
        """A peer that is not accepted can say hello; to all else it hears its state only."""
        if len(raw) > protocol.MAX_HELLO_BYTES:
            raise WireError("a first message that is too large")
        message = protocol.decode_up(raw)
        if isinstance(message, Hello):
            self._greeter.take_hello(routing, key, message)
        elif not isinstance(message, Bye):
            state = peer.state if peer and peer.state != ACCEPTED else UNKNOWN
            self._send(routing, State(state))

    def _take_accepted(self, peer: Peer, message: protocol.Up) -> None:
        match message:
            case Batch():
                self._intake.take(peer, message)
            case Ping():
                self._send(peer.routing, Pong())
            case Request():
                self._take_request(peer, message)
            case Hello():
                self._greeter.take_hello(peer.routing, peer.key, message)
            case Bye():
                self._peers.forget(peer)

    def _take_request(self, peer: Peer, request: Request) -> None:
        if "knows" in request.params:
            self._greeter.note_known_key(peer, request.number, request.params["knows"])
        elif "rotate" in request.params:
            self._greeter.rotate(peer, request.number, request.params["rotate"])
        else:
            self._send(peer.routing, self._files.answer(peer.id, request))


def _proven_key(frame: zmq.Frame) -> bytes | None:
    """Return the key that the sender of this frame has proved, as the ZAP handler named it."""
    try:
        user = frame.get("User-Id")
    except zmq.ZMQError:
        return None
    return str(user).encode() or None
