"""The way to a master, with a connection that only notes what it is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from bus.keys import Keypair, fingerprint
from bus.link.failback import Failback
from bus.link.firstcontact import Responder
from bus.link.seeking import ASTRAY, ERROR_DELAY, HANDOVER_SECONDS, OPENED, SEEKING, Seeker
from bus.link.trust import PINNED, Address, Trust
from bus.link.turns import Turns
from bus.link.vigil import FAILOVER_SECONDS
from tests.support import wait_for

OWN = Keypair(*zmq.curve_keypair())
KEY, OTHER = (zmq.curve_keypair()[0] for _ in range(2))
HERE, THERE = Address("127.0.0.1", 9), Address("127.0.0.2", 9)


class NotedConnection:
    """Opens when it is told to."""

    def __init__(self) -> None:
        self.keypair = OWN
        self.lacks = "nothing"
        self.opened: list[tuple[Address, bytes]] = []
        self.is_open = False

    def open(self, address: Address, key: bytes) -> None:
        self.opened.append((address, key))
        self.is_open = True

    def shut(self) -> None:
        self.is_open = False

    def use(self, keypair: Keypair) -> None:
        self.keypair = keypair


class Way:
    """A seeker and what it says."""

    def __init__(self, folder: Path, *masters: Address, finger: str = "") -> None:
        self.trust = Trust(folder, finger)
        self.connection: Any = NotedConnection()
        self.said: list[str] = []
        self.seeker = Seeker(
            Turns(masters, 0.0, lambda seconds: seconds),
            self.trust,
            Failback(masters[0], 0.0),
            self.connection,
            warn=self.said.append,
            spread=lambda seconds: seconds,
            now=0.0,
        )


@pytest.fixture
def responder() -> Iterator[Responder]:
    made = Responder("127.0.0.1", 0, KEY)
    yield made
    made.close()


def test_a_key_that_is_known_is_tried(tmp_path: Path) -> None:
    """Nothing is asked, and nothing is opened twice before its time."""
    way = Way(tmp_path, HERE, finger=fingerprint(KEY))
    assert way.seeker.tick(0.0) == OPENED
    assert way.connection.opened == [(HERE, KEY)]
    way.seeker.leave(5.0)
    assert (way.connection.is_open, way.seeker.due) == (False, 5.0)
    assert way.seeker.tick(4.9) == SEEKING
    assert way.seeker.tick(5.0) == OPENED


def test_a_first_contact(tmp_path: Path, responder: Responder) -> None:
    """The key is asked for, tried, and pinned when it was proved."""
    port = responder.socket.getsockname()[1]
    way = Way(tmp_path, Address("127.0.0.1", port))
    assert way.seeker.tick(0.0) == SEEKING
    assert way.seeker.is_asking
    assert "by UDP" in way.seeker.whereabouts[1]

    def opened() -> bool:
        responder.handle()
        return way.seeker.tick(0.0) == OPENED

    wait_for(opened)
    assert not way.seeker.is_asking
    assert way.seeker.has_alternative  # to ask again
    assert not way.seeker.keep_next_keys([OTHER])
    assert not (tmp_path / PINNED).exists()
    way.seeker.proved()
    assert (tmp_path / PINNED).read_bytes().strip() == KEY
    assert not way.seeker.has_alternative
    assert way.seeker.keep_next_keys([OTHER])
    assert way.trust.keys() == [KEY, OTHER]


def test_one_of_several_that_does_not_answer(tmp_path: Path) -> None:
    """The next one is asked."""
    way = Way(tmp_path, HERE, THERE)
    way.seeker.tick(0.0)
    way.seeker.tick(FAILOVER_SECONDS)
    assert way.seeker.master == HERE
    way.seeker.tick(FAILOVER_SECONDS + 0.1)
    assert (way.seeker.master, way.seeker.is_asking) == (THERE, False)
    way.seeker.tick(FAILOVER_SECONDS + 0.1)
    assert way.seeker.is_asking
    way.seeker.close()
    assert not way.seeker.is_asking


def test_a_name_that_nobody_knows(tmp_path: Path) -> None:
    """The next master's turn, after a while."""
    way = Way(tmp_path, Address("no-such-host.invalid", 9), HERE)
    assert way.seeker.tick(1.0) == SEEKING
    assert (way.seeker.master, way.seeker.due) == (HERE, 1.0 + FAILOVER_SECONDS)
    name, reason = way.seeker.whereabouts
    assert name == "no-such-host.invalid:9"
    assert "cannot be resolved" in reason
    assert way.said == []


def test_a_pinned_key_that_cannot_be_right(tmp_path: Path) -> None:
    """Nothing is opened until somebody has done something about it."""
    Trust(tmp_path, "").pin(OTHER)
    way = Way(tmp_path, HERE, finger=fingerprint(KEY))
    assert way.seeker.tick(0.0) == ASTRAY
    assert "remove the file" in way.said[0]
    assert way.seeker.tick(ERROR_DELAY - 0.1) == SEEKING
    (tmp_path / PINNED).unlink()
    assert way.seeker.tick(ERROR_DELAY) == OPENED


def test_a_master_that_proves_no_key(tmp_path: Path) -> None:
    """It is asked for a successor, then left alone for longer and longer."""
    way = Way(tmp_path, HERE, finger=fingerprint(KEY))
    way.seeker.tick(0.0)
    way.seeker.refused(0.0)
    assert (way.connection.is_open, way.seeker.is_asking) == (False, True)
    now = HANDOVER_SECONDS + 0.1
    way.seeker.tick(now)
    assert not way.seeker.is_asking
    assert "does not prove the key that is expected" in way.said[0]
    pauses = []
    for _ in range(3):
        now = max(now, way.seeker.due)
        assert way.seeker.tick(now) == OPENED
        way.seeker.refused(now)
        assert not way.connection.is_open
        pauses.append(way.seeker.due - now)
    assert pauses == pytest.approx([1.0, 1.5, 2.0])


def test_a_successor_that_is_proved(tmp_path: Path) -> None:
    """All that are known are tried; the one that is proved is the first from then on."""
    Trust(tmp_path, "").pin(KEY)
    Trust(tmp_path, "").hand_over(KEY, [OTHER])
    way = Way(tmp_path, HERE)
    way.seeker.tick(0.0)
    way.seeker.refused(0.0)
    assert way.seeker.tick(way.seeker.due) == OPENED
    assert [key for _, key in way.connection.opened] == [KEY, OTHER]
    way.seeker.proved()
    assert way.trust.keys() == [OTHER]
    assert way.said == []


def test_another_key_pair_of_the_minion(tmp_path: Path) -> None:
    """The next connection is made with it, to the same master."""
    way = Way(tmp_path, HERE, THERE, finger=fingerprint(KEY))
    way.seeker.tick(0.0)
    new = Keypair(*zmq.curve_keypair())
    way.seeker.use(new, 3.0)
    assert (way.connection.is_open, way.connection.keypair) == (False, new)
    assert way.seeker.tick(3.0) == OPENED
    assert way.connection.opened[-1] == (HERE, KEY)


def test_files_that_cannot_be_written_end_nothing(tmp_path: Path) -> None:
    """It is said, and the connection stays."""
    (tmp_path / "file").write_text("")
    way = Way(tmp_path, HERE, finger=fingerprint(KEY))
    way.seeker.tick(0.0)
    way.trust._chain_path = tmp_path / "file/x"
    assert not way.seeker.keep_next_keys([OTHER])
    assert way.connection.is_open
    assert len(way.said) == 1
