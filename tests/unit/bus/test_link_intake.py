"""What minions bring is refused or goes on, each item for itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bus import wire
from bus.complaints import Complaints
from bus.link import admission
from bus.link.intake import Intake
from bus.link.jobs import JobStore
from bus.link.mayfire import MayFire
from bus.link.peers import Peer
from bus.link.protocol import EVENT, LINEAGE_BYTES, RETURN, Ack, Batch, Item
from bus.link.streams import Streams

JID = "20261122093000123456"
LINE = b"l" * LINEAGE_BYTES
PEER = Peer(b"r" * 16, "web1", b"k", "accepted", {}, 0.0)


class Master:
    """A bus that keeps what it is sent, and the answers to the minion."""

    def __init__(self, store: JobStore) -> None:
        self.store = store
        self.kept: list[tuple[str, dict[str, Any]]] = []
        self.answers: list[Any] = []
        self.not_owed: list[tuple[str, str]] = []
        self.complaints = Complaints()
        publisher: Any = self
        delivery: Any = self
        self.intake = Intake(
            Streams(publisher, lambda _routing, answer: self.answers.append(answer)),
            store,
            delivery,
            MayFire(("a/*", "salt/*")),
            pack=wire.EventPacker(lambda: 0, 1000).pack,
            complaints=self.complaints,
        )

    def send(self, events: Any, *, on_done: Any, producer: bytes, number: int) -> None:
        assert producer == admission.producer("web1", LINE)
        self.kept += [wire.unpack_event(event) for event in events]
        on_done(number, None)

    def returned(self, jid: str, ident: str) -> None:
        self.not_owed.append((jid, ident))

    def take(self, number: int, *items: Item) -> dict[int, str]:
        self.intake.take(PEER, Batch(LINE, number, list(items)))
        answer = self.answers[-1]
        assert (answer.lineage, answer.number) == (LINE, number)
        assert isinstance(answer, Ack)
        return dict(answer.refused)


@pytest.fixture
def master(tmp_path: Path) -> Iterator[Master]:
    store = JobStore(tmp_path / "jobs.db", 86_400)
    store.put({"jid": JID, "fun": "test.ping", "arg": [], "minions": ["web1"], "missing": []})
    yield Master(store)
    store.close()


def _event(tag: str) -> Item:
    return Item(EVENT, tag, wire.pack({"n": 1}))


def _return(jid: str, **more: Any) -> Item:
    return Item(RETURN, jid, wire.pack({"return": True, "success": True, **more}))


def test_what_may_not_be_fired_is_refused_by_its_place(master: Master) -> None:
    """By the option, by whose tag it is, by what it is; the rest goes on."""
    refused = master.take(
        1, _event("b/1"), _event("a/1"), _event("salt/auth"), Item(EVENT, "a/2", b"\x01")
    )
    assert sorted(refused) == [0, 2, 3]
    assert "minion_may_fire" in refused[0]
    assert "only the master" in refused[2]
    assert [tag for tag, _ in master.kept] == ["a/1"]
    assert master.complaints.counters["refused"] == 3


def test_a_batch_that_comes_again_is_taken_once(master: Master) -> None:
    """And answered each time."""
    assert master.take(1, _event("a/1")) == {}
    assert master.take(1, _event("a/1")) == {}
    assert len(master.kept) == 1
    assert len(master.answers) == 2


def test_a_return_is_kept_and_not_owed_any_more(master: Master) -> None:
    """It is in the record when it is on the bus."""
    assert master.take(1, _return(JID)) == {}
    master.store.flush()
    assert master.store.returns(JID)["web1"]["return"] is True
    assert master.not_owed == [(JID, "web1")]
    ((tag, data),) = master.kept
    assert tag == f"salt/job/{JID}/ret/web1"
    assert data["fun"] == "test.ping"


def test_returns_that_are_not_taken(master: Master) -> None:
    """Of a job that was not sent there, and a made-up one beside a real one."""
    other = JID[:-1] + "7"
    assert "not sent to 'web1'" in master.take(1, _return(other))[0]
    assert master.not_owed == []
    assert master.take(2, _return(JID)) == {}
    refused = master.take(3, _return(JID, unfinished=True))
    assert "has a return of 'web1' already" in refused[0]
    assert len(master.kept) == 1
