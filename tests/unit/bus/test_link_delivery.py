"""Each job that was sent ends, whatever becomes of the minion and of the master."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bus.complaints import Complaints
from bus.errors import JournalError
from bus.link import protocol
from bus.link.delivery import Delivery
from bus.link.held import GRACE_SECONDS
from bus.link.jobs import JobStore, packed_runs
from bus.link.owing import AWAY_SECONDS
from bus.link.peers import Peer, Peers
from bus.link.protocol import Job

JID, LATER = "20261122093000123456", "20261122093000123457"
RUN, NEXT_RUN = (bytes([number]) * protocol.LINEAGE_BYTES for number in (1, 2))


class Master:
    """What a delivery sends and fires, and a store that may fail."""

    def __init__(self, store: JobStore) -> None:
        self.now = 100.0
        self.store = store
        self.peers = Peers()
        self.complaints = Complaints()
        self.sent: list[tuple[str, str]] = []
        self.fired: list[tuple[str, dict[str, Any]]] = []
        self.delivery = self.successor()

    def successor(self) -> Delivery:
        """Return the delivery of another server over the same files."""
        return Delivery(
            self.store,
            self.peers,
            send=self._send,
            fire=lambda tag, data: self.fired.append((tag, data)),
            complaints=self.complaints,
            clock=lambda: self.now,
        )

    def _send(self, ident: str, frame: bytes) -> bool:
        message = protocol.decode_down(frame)
        assert isinstance(message, Job)
        if self.peers.minion(ident) is None:
            return False
        self.sent.append((ident, message.job["jid"]))
        return True

    def connect(self, ident: str = "web1", run: bytes = RUN) -> Peer:
        peer = Peer(bytes([len(self.peers) + 1]) * 16, ident, b"k", "accepted", {}, 0.0, run)
        self.peers.put(peer)
        return peer

    def publish(self, jid: str = JID, *idents: str) -> None:
        idents = idents or ("web1",)
        job = {
            "jid": jid,
            "fun": "test.ping",
            "arg": [],
            "minions": list(idents),
            "missing": [],
            "runs": packed_runs(map(self.delivery.run_of, idents)),
        }
        self.store.put(job)
        for ident in idents:
            self.delivery.sent(jid, "test.ping", ident)

    @property
    def gone(self) -> list[str]:
        return [tag for tag, _ in self.fired]


@pytest.fixture
def master(tmp_path: Path) -> Iterator[Master]:
    store = JobStore(tmp_path / "jobs.db", 86_400)
    yield Master(store)
    store.close()


def _frame(jid: str) -> bytes:
    return protocol.encode(Job({"jid": jid, "fun": "test.ping", "arg": []}))


def test_a_return_ends_a_job(master: Master) -> None:
    """What is owed is known by job and by minion."""
    master.connect()
    master.publish()
    master.publish(LATER)
    assert (len(master.delivery), master.delivery.owed) == (2, {JID, LATER})
    assert master.delivery.debtors == ["web1"]
    master.delivery.returned(JID, "web1")
    master.delivery.returned(LATER, "web1")
    assert (len(master.delivery), master.delivery.debtors) == (0, [])


def test_the_same_process_is_sent_again_what_it_owes(master: Master) -> None:
    """Once a hello."""
    peer = master.connect()
    master.publish()
    master.publish(LATER)
    master.delivery.returned(JID, "web1")
    master.delivery.greeted(peer)
    master.delivery.look()
    master.delivery.look()
    assert master.sent == [("web1", LATER)]
    assert master.gone == []


def test_another_process_does_not_have_it(master: Master) -> None:
    """The master says that there will be no return, and keeps that."""
    master.connect()
    master.publish()
    master.delivery.greeted(master.connect(run=NEXT_RUN))
    assert master.gone == [f"salt/job/{JID}/gone/web1"]
    assert list(master.store.unreturned(10)) == []
    master.delivery.look()
    assert master.sent == []


def test_a_minion_that_stays_away(master: Master) -> None:
    """It has a while to come back."""
    peer = master.connect()
    master.publish()
    master.peers.forget(peer)
    master.delivery.look()
    master.now += AWAY_SECONDS - 0.1
    master.delivery.look()
    assert master.gone == []
    master.now += 0.1
    master.delivery.look()
    assert master.gone == [f"salt/job/{JID}/gone/web1"]


def test_what_is_owed_is_recalled(master: Master) -> None:
    """By the server after this one, with the process that it went to."""
    master.connect()
    master.connect("web2")
    master.publish(JID, "web1", "web2")
    successor = master.successor()
    successor.recall()
    assert successor.debtors == ["web1", "web2"]
    successor.greeted(master.connect())
    assert master.gone == []
    successor.greeted(master.connect("web2", NEXT_RUN))
    assert master.gone == [f"salt/job/{JID}/gone/web2"]


def test_jobs_are_kept_for_a_minion_on_its_way_back(master: Master) -> None:
    """It is sent them in their order when it comes, and owes them from then on."""
    delivery = master.delivery
    assert delivery.hold("web1", _frame(JID))
    assert delivery.hold("web1", _frame(LATER))
    assert len(delivery) == 0
    master.connect()
    delivery.send_held("web1")
    assert master.sent == [("web1", JID), ("web1", LATER)]
    assert delivery.owed == {JID, LATER}
    delivery.send_held("web1")
    assert len(master.sent) == 2


def test_jobs_that_are_kept_for_nobody(master: Master, caplog: pytest.LogCaptureFixture) -> None:
    """It is said how many were given up for whom, and why."""
    delivery = master.delivery
    for ident in ("web1", "web2"):
        delivery.hold(ident, _frame(JID))
    delivery.keep_only({"web2"})
    delivery.expire()
    master.now += GRACE_SECONDS
    delivery.expire()
    assert not delivery.hold("web2", _frame(LATER))
    assert caplog.messages == [
        "1 jobs for web1 are given up: its key was revoked",
        "1 jobs did not reach web2, which did not come back",
    ]


def test_a_record_that_cannot_be_used_ends_nothing(
    master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is counted, and who waits is told all the same."""

    def fail(*_: Any) -> None:
        raise JournalError("disk full")

    peer = master.connect()
    master.publish()
    monkeypatch.setattr(master.store, "get", fail)
    monkeypatch.setattr(master.store, "give_up", fail)
    master.delivery.greeted(peer)
    master.delivery.look()
    master.delivery.greeted(master.connect(run=NEXT_RUN))
    assert master.gone == [f"salt/job/{JID}/gone/web1"]
    assert master.complaints.counters == {"jobs_not_sent_again": 1, "jobs_not_given_up": 1}
