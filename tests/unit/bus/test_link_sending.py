"""To whom the master's end of the link sends, over a port that is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import zmq

from bus.complaints import Complaints
from bus.keys import KeyStore
from bus.link import protocol, sending
from bus.link.peers import Peer, Peers
from bus.link.protocol import Changed, Pong
from bus.link.roster import Roster
from bus.link.sending import Sender

KEY, OTHER = (zmq.curve_keypair()[0] for _ in range(2))


class Port:
    """What was sent to whom; ``errno`` for whom nothing can be sent."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: list[tuple[bytes, Any]] = []
        self.errno: dict[bytes, int] = {}
        monkeypatch.setattr(sending, "send_pair", self._send)

    def _send(self, _socket: Any, routing: bytes, frame: bytes) -> None:
        if routing in self.errno:
            raise zmq.ZMQError(self.errno[routing])
        self.sent.append((routing, protocol.decode_down(frame)))


class World:
    def __init__(self, folder: Path, port: Port) -> None:
        self.keys = KeyStore(folder)
        self.peers = Peers()
        self.complaints = Complaints()
        self.port = port
        router: Any = None
        self.sender = Sender(router, self.peers, Roster(self.keys), self.complaints)

    def connect(self, ident: str, key: bytes = KEY, state: str = "accepted") -> Peer:
        self.keys.submit(ident, key, auto_accept=state == "accepted")
        peer = Peer(ident.encode() * 4, ident, key, state, {}, 0.0)
        self.peers.put(peer)
        return peer


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, Port(monkeypatch))


def test_minions_are_those_that_are_connected_and_accepted(world: World) -> None:
    """Whoever is not is sent nothing, though there is a connection."""
    web1 = world.connect("web1")
    world.connect("web2", state="pending")
    frame = protocol.encode(Pong())
    sent = [world.sender.to_minion(ident, frame) for ident in ("web1", "web2", "web3")]
    assert sent == [True, False, False]
    assert world.port.sent == [(web1.routing, Pong())]


@pytest.mark.parametrize("other", [OTHER, None], ids=["another", "none"])
def test_a_key_that_was_taken_back_a_moment_ago(world: World, other: bytes | None) -> None:
    """What the key files say holds, before the peer was looked at."""
    world.connect("web1")
    world.keys.delete("web1")
    if other:
        world.keys.submit("web1", other, auto_accept=True)
    assert not world.sender.to_minion("web1", protocol.encode(Pong()))
    assert world.port.sent == []


def test_to_all(world: World) -> None:
    """One that is gone does not keep it from the others."""
    peers = [world.connect(ident) for ident in ("web1", "web2", "web3")]
    world.port.errno[peers[0].routing] = zmq.EHOSTUNREACH
    world.sender.to_all(Changed())
    assert world.port.sent == [(peer.routing, Changed()) for peer in peers[1:]]


@pytest.mark.parametrize(("errno", "counted"), [(zmq.EHOSTUNREACH, 0), (zmq.EAGAIN, 1)])
def test_a_peer_that_cannot_be_sent_to_is_forgotten(world: World, errno: int, counted: int) -> None:
    """One that is gone without a word, one that does not read with one."""
    peer = world.connect("web1")
    world.port.errno[peer.routing] = errno
    assert not world.sender.send(peer.routing, Pong())
    assert world.peers.minion("web1") is None
    assert world.complaints.counters["slow_peers"] == counted
