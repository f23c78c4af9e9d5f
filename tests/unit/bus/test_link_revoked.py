"""A key that is revoked loses everything at once, however its minion behaves."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from bus import wire
from bus.keys import Keypair, KeyStore
from bus.link import protocol
from bus.link.connection import new_routing_id
from bus.link.held import Held
from bus.link.protocol import EVENT, RETURN, Ack, Batch, Hello, Item, Job, Pong, Reply, Request
from tests.unit.bus.test_link_end_to_end import SECONDS, Master, Minion, Raw, until

AT_ONCE = 0.3
"""Seconds after which a key that was revoked must be worth nothing."""

LINE = b"l" * 16


class Stubborn:
    """A minion that goes on as if nothing were, whatever it is told."""

    def __init__(self, master: Master) -> None:
        self.pair = Keypair.load_or_create(master.folder / "stubborn", "minion")
        self.raw = Raw(master, self.pair, new_routing_id())
        self.sent: dict[int, float] = {}
        self.answered: set[int] = set()
        self.jobs: list[dict[str, Any]] = []
        self.pongs = 0
        self.number = 0

    def join(self, master: Master) -> None:
        KeyStore(master.opts["pki_dir"]).add("web1", self.pair.public)
        until(lambda: "web1" in master.keys.list()["minions"])
        self.raw.ask(Hello("web1", "1", {}))
        until(lambda: master.call("minions.connected") == ["web1"])

    def go_on(self, jid: str) -> None:
        """Fire an event, return a job, and ask for files, each under a number of its own."""
        self.number += 1
        self.sent[self.number] = time.monotonic()
        items = [
            Item(EVENT, "n", wire.pack({"n": self.number})),
            Item(RETURN, jid, wire.pack({"return": self.number})),
        ]
        for message in (
            Batch(LINE, self.number, items),
            Request(self.number, {"files": "_modules"}),
        ):
            self.raw.socket.send(protocol.encode(message), zmq.NOBLOCK)
        while self.raw.socket.poll(2):
            self._take(protocol.decode_down(self.raw.socket.recv()))

    def _take(self, message: Any) -> None:
        match message:
            case Ack(_, number, _) | Reply(number, _, _):
                self.answered.add(number)
            case Job(job):
                self.jobs.append(job)
            case Pong():
                self.pongs += 1

    def sent_after(self, moment: float) -> set[int]:
        return {number for number, at in self.sent.items() if at > moment}


@pytest.fixture
def master(tmp_path: Path) -> Iterator[Master]:
    made = Master(tmp_path)
    yield made
    made.close()


@pytest.fixture
def stubborn(master: Master) -> Iterator[Stubborn]:
    made = Stubborn(master)
    try:
        made.join(master)
        yield made
    finally:
        made.raw.close()


def _replace(store: KeyStore) -> None:
    store.submit("web1", b"1" * 40)
    store.accept("web1", include_denied=True)


@pytest.mark.parametrize(
    "revoke",
    [
        lambda store: store.reject("web1", include_accepted=True),
        lambda store: store.delete("web1"),
        _replace,
    ],
    ids=["rejected", "deleted", "replaced"],
)
def test_everything_ends_at_once(
    master: Master, stubborn: Stubborn, revoke: Callable[[KeyStore], Any]
) -> None:
    """Events, returns, files, jobs: nothing is taken or given, on the connection that is there."""
    jid = master.call("jobs.publish", tgt="web1", fun="test.ping")["jid"]
    until(lambda: stubborn.go_on(jid) or (stubborn.answered and stubborn.jobs))
    revoke(KeyStore(master.opts["pki_dir"]))
    limit = time.monotonic() + AT_ONCE
    until(lambda: stubborn.go_on(jid) or time.monotonic() > limit)
    assert master.call("minions.connected") == []
    late = master.call("jobs.publish", tgt="web1", fun="test.late")
    pongs = stubborn.pongs
    until(lambda: stubborn.go_on(jid) or len(stubborn.sent_after(limit)) > 20)
    # A key that nobody knows is heard after what was sent before it, so all of that was taken.
    until(lambda: master.call("status")["unanswered"] == 0)
    after = stubborn.sent_after(limit)
    assert after
    assert not after & stubborn.answered
    assert not after & {data["data"]["n"] for data in master.bus.named("n")}
    assert not after & {data["return"] for data in master.bus.named(f"salt/job/{jid}/ret")}
    assert late["jid"] not in [job["jid"] for job in stubborn.jobs]
    assert stubborn.pongs == pongs


def test_a_busy_link_sees_it_too(master: Master, stubborn: Stubborn) -> None:
    """What came while the link did something else is judged by the keys of now, not of then."""
    jid = master.call("jobs.publish", tgt="web1", fun="test.ping")["jid"]
    until(lambda: stubborn.go_on(jid) or stubborn.answered)
    asleep, awake = threading.Event(), threading.Event()

    def sleep() -> float:
        asleep.set()
        assert awake.wait(SECONDS)
        master.server._publisher.tick = tick
        return tick()

    tick, master.server._publisher.tick = master.server._publisher.tick, sleep
    try:
        assert asleep.wait(SECONDS)
        KeyStore(master.opts["pki_dir"]).delete("web1")
        time.sleep(AT_ONCE)
        stubborn.go_on(jid)
    finally:
        awake.set()
    last = stubborn.number
    until(lambda: master.call("minions.connected") == [])
    until(lambda: master.call("status")["unanswered"] == 0)
    assert last not in {data["data"]["n"] for data in master.bus.named("n")}


def _joined(master: Master, folder: str, closing: contextlib.ExitStack) -> Minion:
    """Return a minion web1 that is accepted and connected, with a key of its own."""
    minion = Minion(master, "web1", folder=master.folder / folder)
    closing.callback(minion.close)
    until(lambda: minion.link.state == "pending", minion)
    master.keys.accept("web1")
    until(lambda: minion.link.state == "connected", minion)
    return minion


def test_jobs_that_wait_for_a_minion_are_given_up(
    master: Master, caplog: pytest.LogCaptureFixture
) -> None:
    """Who is accepted later under the same id does not get them."""
    with contextlib.ExitStack() as closing:
        _joined(master, "first", closing)
    master.restart()
    held = master.call("jobs.publish", tgt="web1", fun="test.secret", key="k")
    assert held["missing"] == []
    master.keys.delete("web1")
    until(lambda: "1 jobs for web1 are given up: its key was revoked" in caplog.text)
    with contextlib.ExitStack() as closing:
        second = _joined(master, "second", closing)
        jid = master.call("jobs.publish", tgt="web1", fun="test.ping")["jid"]
        until(lambda: second.jobs, second)
        assert [job["jid"] for job in second.jobs] == [jid]


def test_held_frames_of_others_stay() -> None:
    """And those that are given up make room."""
    held = Held(0.0)
    for ident in ("web1", "web1", "db1"):
        held.hold(ident, ident.encode(), 1.0)
    assert held.keep_only({"db1": b""}) == {"web1": 2}
    assert held.take("web1") == []
    assert held.take("db1") == [b"db1"]
    assert held.keep_only({}) == {}
