"""Whose a message is decides what becomes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import zmq

from bus.complaints import Complaints
from bus.keys import KeyStore
from bus.link import protocol
from bus.link.peers import Peer, Peers
from bus.link.protocol import Batch, Bye, Hello, Item, Ping, Pong, Reply, Request, State
from bus.link.reception import Reception
from bus.link.roster import Roster

KEY, OTHER = (zmq.curve_keypair()[0] for _ in range(2))
ROUTING = b"\x01" * 16
BATCH = Batch(b"l" * protocol.LINEAGE_BYTES, 1, [Item(protocol.EVENT, "a", b"\x80")])


class Frame:
    """A frame as ZeroMQ hands it over, from one who has proved a key, or none."""

    def __init__(self, content: bytes, key: bytes | None = KEY) -> None:
        self.bytes = content
        self._key = key

    def get(self, name: str) -> str:
        assert name == "User-Id"
        if self._key is None:
            raise zmq.ZMQError(zmq.EINVAL)
        return self._key.decode()


class Desk:
    """A reception, and all behind it, which note what they are handed."""

    def __init__(self, folder: Path) -> None:
        self.keys = KeyStore(folder)
        self.peers = Peers()
        self.complaints = Complaints()
        self.sent: list[Any] = []
        self.handed: list[tuple[str, Any]] = []
        self.error: Exception | None = None
        behind: Any = self
        self.reception = Reception(
            self.peers,
            Roster(self.keys),
            behind,
            behind,
            behind,
            send=lambda _routing, message: self.sent.append(message),
            complaints=self.complaints,
            clock=lambda: 42.0,
        )

    def take_hello(self, _routing: bytes, key: bytes, hello: Hello) -> None:
        self.handed.append(("hello", key))

    def take(self, peer: Peer, batch: Batch) -> None:
        if self.error:
            raise self.error
        self.handed.append(("batch", batch))

    def note_known_key(self, _peer: Peer, number: int, value: Any) -> None:
        self.handed.append(("knows", value))

    def rotate(self, _peer: Peer, number: int, value: Any) -> None:
        self.handed.append(("rotate", value))

    def answer(self, ident: str, request: Request) -> Reply:
        return Reply(request.number, ident, "")

    def connect(self, state: str = "accepted") -> Peer:
        self.keys.submit("web1", KEY, auto_accept=state == "accepted")
        peer = Peer(ROUTING, "web1", KEY, state, {}, 0.0)
        self.peers.put(peer)
        return peer

    def hear(self, message: Any, key: bytes | None = KEY, routing: bytes = ROUTING) -> None:
        raw = message if isinstance(message, bytes) else protocol.encode(message)
        frames: Any = [Frame(routing, key), Frame(raw, key)]
        self.reception.take(frames)

    def count(self, name: str) -> int:
        return self.complaints.counters[name]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


HELLO = Hello("web1", "1", {})


def test_what_an_accepted_minion_says(desk: Desk) -> None:
    """Each kind goes to who is to answer it, and the minion was heard."""
    peer = desk.connect()
    for message in (
        BATCH,
        Ping(),
        HELLO,
        Request(1, {"knows": b"k"}),
        Request(2, {"rotate": b"r"}),
        Request(3, {"file": "x"}),
    ):
        desk.hear(message)
    assert desk.handed == [("batch", BATCH), ("hello", KEY), ("knows", b"k"), ("rotate", b"r")]
    assert desk.sent == [Pong(), Reply(3, "web1", "")]
    assert peer.heard == 42.0
    desk.hear(Bye())
    assert desk.peers.connected() == []
    assert not desk.complaints.counters


@pytest.mark.parametrize(
    ("state", "told"), [(None, "unknown"), ("pending", "pending"), ("rejected", "rejected")]
)
def test_a_stranger_can_say_hello_and_no_more(desk: Desk, state: str | None, told: str) -> None:
    """To all else it hears what its key is worth; a goodbye needs no answer."""
    if state:
        desk.connect(state)
    for message in (BATCH, Ping(), Request(1, {"file": "x"}), Bye()):
        desk.hear(message)
    assert desk.sent == [State(told)] * 3
    assert desk.handed == []
    desk.hear(HELLO)
    assert desk.handed == [("hello", KEY)]


def test_a_key_that_was_taken_back_makes_a_stranger(desk: Desk) -> None:
    """Before anybody has looked at the connection, which was an accepted one."""
    desk.connect()
    desk.keys.delete("web1")
    desk.hear(BATCH)
    assert desk.handed == []
    assert desk.sent == [State("unknown")]


def test_another_key_under_the_same_routing_id(desk: Desk) -> None:
    """Whoever has guessed it gets nothing, not even a hello."""
    desk.connect()
    desk.hear(BATCH, OTHER)
    desk.hear(HELLO, OTHER)
    assert (desk.handed, desk.sent, desk.count("wrong_key")) == ([], [], 2)


@pytest.mark.parametrize(
    ("key", "routing"),
    [(None, ROUTING), (KEY, b"short"), (KEY, b"\0" * 16)],
    ids=["no key", "short", "a ZeroMQ one"],
)
def test_what_no_minion_of_ours_sends(desk: Desk, key: bytes | None, routing: bytes) -> None:
    """Without a proven key, or under a routing id that can be guessed."""
    desk.hear(HELLO, key, routing)
    assert (desk.handed, desk.sent, desk.count("malformed")) == ([], [], 1)


def test_a_message_of_more_than_one_frame(desk: Desk) -> None:
    """It is none."""
    frames: Any = [Frame(ROUTING), Frame(b"a"), Frame(b"b")]
    desk.reception.take(frames)
    desk.reception.take(frames[:1])
    assert desk.count("malformed") == 2


@pytest.mark.parametrize("raw", [b"", b"\xc1\xff", b"\x01" * (protocol.MAX_HELLO_BYTES + 1)])
def test_bytes_that_are_no_message(desk: Desk, raw: bytes) -> None:
    """They are counted, from a minion as from a stranger."""
    desk.hear(raw)
    desk.connect()
    desk.hear(raw)
    assert (desk.handed, desk.sent, desk.count("malformed")) == ([], [], 2)


def test_an_error_behind_ends_nothing(desk: Desk) -> None:
    """The next message is taken."""
    desk.connect()
    desk.error = RuntimeError("not foreseen")
    desk.hear(BATCH)
    desk.error = None
    desk.hear(BATCH)
    assert (desk.handed, desk.count("failed")) == ([("batch", BATCH)], 1)
