"""A link server and link clients over real sockets, with a bus that keeps events in memory."""

from __future__ import annotations

import contextlib
import socket as sockets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from bus import rpc, wire
from bus.errors import AlreadyRunningError, BusError, JournalError
from bus.frames import Fire
from bus.jid import is_jid
from bus.keys import Keypair, KeyStore, fingerprint
from bus.link import departures, protocol
from bus.link.client import LinkClient
from bus.link.connection import Connection, new_routing_id, set_curve_client
from bus.link.jobs import JobStore
from bus.link.protocol import Batch, Hello, Item, Ping, State
from bus.link.server import LinkServer
from bus.link.trust import PINNED, Address
from bus.store import MemoryStore

SECONDS = 15.0


class MemoryBus:
    """Stands for the master's bus and the publisher to it: keeps each number of a producer once."""

    def __init__(self, context: zmq.Context) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.error: BusError | None = None
        self.silent = False
        self.pending = 0
        self.repeats = 0
        self._own = 0
        self._last: dict[bytes, int] = {}
        # A socket that the server can poll; nothing comes on it.
        self.socket = context.socket(zmq.PAIR)
        self._dones: list[Callable[[], None]] = []

    def send(self, events, *, on_done, producer=None, number=None) -> None:
        if producer is None:
            self._own += 1
            producer, number = b"own", self._own
        self.pending += 1
        if not self.silent:
            self._keep(list(events), producer, number, on_done)

    def _keep(self, events, producer, number, on_done) -> None:
        error = self.error
        if error is None and number > self._last.get(producer, 0):
            self._last[producer] = number
            self.events += [wire.unpack_event(event) for event in events]
        elif error is None:
            self.repeats += 1
        self._dones.append(lambda: on_done(None if error else 1, error))

    @property
    def inputs(self) -> list[Any]:
        return [self.socket]

    def handle(self) -> None:
        """Nothing comes by itself."""

    def tick(self) -> None:
        dones, self._dones = self._dones, []
        for done in dones:
            self.pending -= 1
            done()

    def close(self) -> None:
        self.socket.close(linger=0)
        self.socket = None
        self.pending = 0
        self._dones = []

    def revive(self, context: zmq.Context) -> MemoryBus:
        """Be the same bus for a new server."""
        self.socket = context.socket(zmq.PAIR)
        self._own += 1000
        return self

    def tags(self) -> list[str]:
        return [tag for tag, _ in list(self.events)]

    def named(self, start: str) -> list[dict[str, Any]]:
        return [data for tag, data in list(self.events) if tag.startswith(start)]


class Master:
    """A link server in a thread."""

    def __init__(self, folder: Path, **more: Any) -> None:
        self.folder = folder
        self.opts = {
            "interface": "127.0.0.1",
            "ret_port": 0,
            "pki_dir": str(folder / "pki"),
            "state_dir": str(folder / "state"),
            "sock_dir": str(folder),
            "file_roots": {"base": (str(folder / "files"),)},
            "nodegroups": {"web": "web*"},
            "auto_accept": False,
            "max_event_size": 1_048_576,
            "keep_jobs_seconds": 86_400,
            **more,
        }
        self.context = zmq.Context()
        self.bus = MemoryBus(self.context)
        self.keys = KeyStore(self.opts["pki_dir"])
        self.address = f"ipc://{folder}/l.ipc"
        self.server: LinkServer
        self._start_somewhere()

    def _start_somewhere(self) -> None:
        """The system picks a port that is free in TCP; in UDP somebody may have its number."""
        for tries_left in range(9, -1, -1):
            try:
                self.start()
                return
            except AlreadyRunningError:
                if self.opts["ret_port"] or not tries_left:
                    raise

    def start(self) -> None:
        self.server = LinkServer(
            self.opts,
            context=self.context,
            publisher=self.bus,
            serve=lambda methods: rpc.open_server(self.address, methods),
        )
        self.opts["ret_port"] = self.server.port
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.server.run, args=(self.stopping,))
        self.thread.start()

    def stop(self) -> None:
        self.stopping.set()
        self.thread.join(SECONDS)
        assert not self.thread.is_alive()

    def restart(self) -> None:
        self.stop()
        self.bus.revive(self.context)
        self.start_again()

    def start_again(self) -> None:
        """Start on the same port, once the system and ZeroMQ's own thread have let go of it."""
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                self.start()
                return
            except AlreadyRunningError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def call(self, method: str, **params: Any) -> Any:
        return rpc.call(self.address, method, params)

    def close(self) -> None:
        self.stop()
        if self.bus.socket is not None:  # of a server that did not start: it would hang the end
            self.bus.close()
        self.context.term()


class Minion:
    """A link client and what it was told."""

    def __init__(self, owner: Master, ident: str, folder: Path | None = None, **more: Any) -> None:
        folder = folder or owner.folder / f"minion-{ident}"
        self.jobs: list[dict[str, Any]] = []
        self.states: list[str] = []
        self.changed = 0
        self.context = zmq.Context()
        self.opts = {
            "id": ident,
            "master": "127.0.0.1",
            "master_port": owner.opts["ret_port"],
            "master_finger": "",
            "pki_dir": str(folder / "pki"),
            "state_dir": str(folder / "state"),
            "spool_max_size": 10_000_000,
            "max_event_size": 1_048_576,
            "acceptance_wait_time": 0.5,
            **more,
        }
        self.keypair = Keypair.load_or_create(self.opts["pki_dir"], "minion")
        self.link = LinkClient(
            self.opts,
            context=self.context,
            keypair=self.keypair,
            on_job=self.jobs.append,
            on_state=self.states.append,
            on_changed=self._changed,
            grains={"os": "Debian", "id": ident},
        )

    def _changed(self) -> None:
        self.changed += 1

    def turn(self, wait: float = 0.02) -> None:
        poller = zmq.Poller()
        handlers = dict(self.link.sockets)
        for socket in handlers:
            poller.register(socket, zmq.POLLIN)
        due = self.link.tick()
        for socket, _ in poller.poll(int(min(due, wait) * 1000)):
            handlers[socket]()

    def close(self) -> None:
        if not self.context.closed:
            self.link.close()
            self.context.term()


def until(condition: Callable[[], Any], *minions: Minion, seconds: float = SECONDS) -> Any:
    """Let the minions work until the condition holds."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "the condition never came true"
        for minion in minions:
            minion.turn()
        if not minions:
            time.sleep(0.01)
    return found


@pytest.fixture
def master(tmp_path: Path) -> Iterator[Master]:
    made = Master(tmp_path)
    yield made
    made.close()


@pytest.fixture
def join(master: Master) -> Iterator[Callable[..., Minion]]:
    """Make minions that are accepted and connected, unless told otherwise."""
    with contextlib.ExitStack() as stack:

        def make(ident: str, connect: bool = True, **more: Any) -> Minion:
            minion = Minion(master, ident, **more)
            stack.callback(minion.close)
            if connect:
                until(lambda: minion.link.state in ("pending", "connected"), minion)
                master.keys.accept(ident)
                until(lambda: minion.link.state == "connected", minion)
            return minion

        yield make


def send(minion: Minion, tag: str, **data: Any) -> list[tuple[bool, str]]:
    told: list[tuple[bool, str]] = []
    minion.link.send_event(tag, data, lambda good, text: told.append((good, text)))
    return told


def test_a_new_minion_is_pending_until_it_is_accepted(master, join) -> None:
    """First contact pins the master's key; accepting welcomes the minion without a new hello."""
    minion = join("web1", connect=False)
    until(lambda: minion.link.state == "pending", minion)
    assert (Path(minion.opts["pki_dir"]) / PINNED).read_bytes().strip() == (
        master.folder / "pki/master.pub"
    ).read_bytes().strip()
    assert master.keys.list()["minions_pre"] == ["web1"]
    assert master.keys.accept("web*") == ["web1"]
    until(lambda: minion.link.state == "connected", minion)
    until(lambda: len(master.bus.named("salt/auth")) == 2)
    pend, accept = master.bus.named("salt/auth")
    assert (pend["id"], pend["act"], pend["result"]) == ("web1", "pend", True)
    assert accept["act"] == "accept"
    assert accept["pub"].encode() == minion.keypair.public
    assert minion.states == ["pending", "connected"]


def test_retries_of_a_pending_minion_fire_nothing(master, join) -> None:
    """Only a change of the state is an event."""
    heard: list[Any] = []
    greeter = master.server._greeter
    take_hello = greeter.take_hello
    greeter.take_hello = lambda *said: heard.append(said) or take_hello(*said)
    minion = join("web1", connect=False, acceptance_wait_time=0.01)
    until(lambda: len(heard) >= 4, minion)
    master.keys.accept("web1")
    until(lambda: minion.link.state == "connected", minion)
    until(lambda: len(master.bus.named("salt/auth")) >= 2, minion)
    assert [data["act"] for data in master.bus.named("salt/auth")] == ["pend", "accept"]


def test_auto_accept(tmp_path) -> None:
    """With auto_accept a minion is connected at once, and salt/key says so."""
    (tmp_path / "m").mkdir()
    master = Master(tmp_path / "m", auto_accept=True)
    minion = Minion(master, "web1")
    try:
        until(lambda: minion.link.state == "connected", minion)
        until(lambda: "salt/auth" in master.bus.tags())
        assert master.bus.named("salt/key")[0]["act"] == "accept"
    finally:
        minion.close()
        master.close()


def test_an_event_is_stamped_with_its_sender(master, join) -> None:
    """What arrives has Salt's shape, and the id is the master's word."""
    minion = join("web1")
    told = send(minion, "myco/done", id="web2", key="value")
    until(lambda: told, minion)
    assert told == [(True, "")]
    (data,) = master.bus.named("myco/done")
    assert data.pop("_stamp").endswith("+00:00")
    assert data == {
        "id": "web1",
        "cmd": "_minion_event",
        "pretag": None,
        "tag": "myco/done",
        "data": {"id": "web2", "key": "value"},
    }


def test_many_events_keep_their_order_and_the_disk_is_not_touched(master, join) -> None:
    """The happy path: thousands in batches, each acknowledged, no spool."""
    minion = join("web1")
    told: list[bool] = []
    for number in range(5000):
        minion.link.send_event("n", {"n": number}, lambda good, _: told.append(good))
    until(lambda: len(told) == 5000, minion)
    assert all(told)
    assert [data["data"]["n"] for data in master.bus.named("n")] == list(range(5000))
    assert not (Path(minion.opts["state_dir"]) / "spool.db").exists()


def test_a_tag_of_the_master_is_refused(master, join) -> None:
    """A minion cannot fire as the master or another minion; the rest of the batch goes on."""
    minion = join("web1")
    told = [
        send(minion, tag)
        for tag in ("salt/job/1/gone/web2", "salt/minion/web2/start", "salt/minion/web1/start")
    ]
    until(lambda: all(told), minion)
    assert [answers[0][0] for answers in told] == [False, False, True]
    assert "only the master" in told[0][0][1]
    assert "salt/minion/web1/start" in master.bus.tags()
    assert "salt/minion/web2/start" not in master.bus.tags()


def _publish(master: Master, minion: Minion) -> str:
    """Send a job and wait until the minion has it."""
    jid = master.call("jobs.publish", tgt=minion.opts["id"], fun="test.sleep")["jid"]
    until(lambda: [job for job in minion.jobs if job["jid"] == jid], minion)
    return str(jid)


def test_another_process_of_a_minion_means_that_its_jobs_are_gone(master, join) -> None:
    """The master says so as soon as it says hello; a new connection of the same one is nothing."""
    minion = join("web1")
    jid = _publish(master, minion)
    minion.link.say_hello()
    until(lambda: minion.states.count("connected") == 2, minion)
    assert master.bus.named(f"salt/job/{jid}/gone") == []
    minion.link._connection.shut()  # without a word, as a kill does it
    successor = join("web1", connect=False)
    until(lambda: master.bus.named(f"salt/job/{jid}/gone/web1"), successor)
    (data,) = master.bus.named(f"salt/job/{jid}/gone/")
    assert (data["jid"], data["id"], data["fun"]) == (jid, "web1", "test.sleep")
    assert "another process of it came back" in data["reason"]


def test_jobs_that_a_connection_may_have_lost_are_sent_again(
    master, join, caplog, monkeypatch
) -> None:
    """Once a hello, with the arguments that they had; not those that have returned."""
    monkeypatch.setattr("bus.link.server.OWING_SECONDS", 0.05)
    caplog.set_level("INFO", "bus.link.delivery")
    minion = join("web1")
    done = _publish(master, minion)
    jid = master.call("jobs.publish", tgt="web1", fun="test.echo", arg=["x"])["jid"]
    until(lambda: len(minion.jobs) == 2, minion)
    minion.link.send_return({"jid": done, "return": 7, "success": True})
    until(lambda: master.bus.named(f"salt/job/{done}/ret/"), minion)
    minion.link.say_hello()
    until(lambda: len(minion.jobs) == 3, minion)
    assert minion.jobs[1] == minion.jobs[2]
    assert (minion.jobs[2]["jid"], minion.jobs[2]["arg"]) == (jid, ["x"])
    monkeypatch.setattr("bus.link.jobs.JobStore.get", _cannot)
    minion.link.say_hello()
    until(lambda: master.call("status")["counters"].get("jobs_not_sent_again"), minion)
    monkeypatch.setattr("bus.link.jobs.JobStore.get", lambda *_: None)  # it was forgotten
    minion.link.say_hello()
    until(lambda: caplog.text.count("jobs are sent to web1 again") == 2, minion)
    assert len(minion.jobs) == 3


def _cannot(*_: Any) -> None:
    raise JournalError("the job record cannot be used")


def test_a_minion_that_stays_away(master, join, monkeypatch) -> None:
    """What it owes is given up after a while, and said once."""
    monkeypatch.setattr("bus.link.owing.AWAY_SECONDS", 0.0)
    monkeypatch.setattr("bus.link.server.OWING_SECONDS", 0.0)
    minion = join("web1")
    jid = _publish(master, minion)
    assert master.call("status")["owing"] == 1
    minion.close()
    until(lambda: master.bus.named(f"salt/job/{jid}/gone/web1"))
    assert master.call("status")["owing"] == 0


def test_old_jobs_are_forgotten_however_many_there_are(tmp_path, monkeypatch) -> None:
    """More come in a minute than are forgotten in one go."""
    monkeypatch.setattr("bus.link.jobs._PRUNE_AT_ONCE", 2)
    monkeypatch.setattr("bus.link.server.PRUNE_AGAIN_SECONDS", 0.01)
    store = JobStore(tmp_path / "state/jobs.db", 100)
    old = [f"202001010000000000{number:02}" for number in range(9)]
    for jid in old:
        store.put({"jid": jid, "fun": "test.ping", "arg": [], "minions": ["a"], "missing": []})
    store.close()
    master = Master(tmp_path)
    try:
        until(lambda: not any(master.call("jobs.get", jid=jid) for jid in old))
    finally:
        master.close()


def test_what_is_owed_outlives_the_server(master, join, monkeypatch) -> None:
    """The next one sends it again to the same process, and knows when that is another one."""
    monkeypatch.setattr("bus.link.server.OWING_SECONDS", 0.05)
    minion = join("web1")
    jid = _publish(master, minion)
    assert "runs" not in master.call("jobs.get", jid=jid)
    master.restart()
    until(lambda: len(minion.jobs) == 2, minion)
    assert minion.jobs[0] == minion.jobs[1]
    minion.link._connection.shut()
    master.restart()
    successor = join("web1", connect=False)
    until(lambda: master.bus.named(f"salt/job/{jid}/gone/web1"), successor)
    monkeypatch.setattr("bus.link.jobs.JobStore.give_up", _cannot)
    lost = _publish(master, successor)
    successor.link._connection.shut()
    last = join("web1", connect=False)
    until(lambda: master.bus.named(f"salt/job/{lost}/gone/web1"), last)
    assert master.call("status")["counters"]["jobs_not_given_up"] == 1


def test_a_return_is_not_replaced_by_a_made_up_one(master, join) -> None:
    """A minion killed between its return and its note says that it did not finish: it did."""
    minion = join("web1")
    done, lost = _publish(master, minion), _publish(master, minion)
    told: list[bool] = []
    minion.link.send_return({"jid": done, "return": 7, "success": True})
    made_up = {"return": "killed", "retcode": 1, "success": False, "unfinished": True}
    for jid in (done, lost):
        minion.link.send_return({"jid": jid, **made_up}, lambda good, _: told.append(good))
    until(lambda: len(told) == 2, minion)
    assert told == [False, True]
    assert master.call("jobs.lookup", jid=done) == {"web1": 7}
    assert master.call("jobs.lookup", jid=lost) == {"web1": "killed"}
    (data,) = master.bus.named(f"salt/job/{lost}/ret/")
    assert data["unfinished"] is True


def test_a_job_reaches_its_target_only_and_returns(master, join) -> None:
    """Publish, new event, job, return event, look-up."""
    web, db = join("web1"), join("db1")
    answer = master.call(
        "jobs.publish", tgt="N@web", tgt_type="compound", fun="test.ping", arg=[1], user="me"
    )
    assert is_jid(answer["jid"])
    assert (answer["minions"], answer["missing"]) == (["web1"], [])
    until(lambda: web.jobs, web, db)
    job = web.jobs[0]
    assert (job["jid"], job["fun"], job["arg"], job["user"]) == (
        answer["jid"],
        "test.ping",
        [1],
        "me",
    )
    assert "minions" not in job
    told: list[Any] = []
    ret = {
        "jid": job["jid"],
        "fun": "evil.fun",
        "return": {"a": 1},
        "retcode": 0,
        "success": True,
        "id": "db1",
    }
    web.link.send_return(ret, lambda good, text: told.append(good))
    until(lambda: told, web, db)
    assert told == [True]
    assert db.jobs == []
    tags = master.bus.tags()
    new, back = f"salt/job/{job['jid']}/new", f"salt/job/{job['jid']}/ret/web1"
    assert tags.index(new) < tags.index(back)
    (data,) = master.bus.named(back)
    data.pop("_stamp")
    assert data == {
        "id": "web1",
        "jid": job["jid"],
        "fun": "test.ping",
        "fun_args": [1],
        "return": {"a": 1},
        "retcode": 0,
        "success": True,
        "cmd": "_return",
    }
    assert set(master.bus.named(new)[0]) == {
        "jid",
        "tgt",
        "tgt_type",
        "fun",
        "arg",
        "minions",
        "missing",
        "user",
        "_stamp",
    }
    assert master.call("jobs.lookup", jid=job["jid"]) == {"web1": {"a": 1}}
    assert list(master.call("jobs.list")) == [job["jid"]]
    assert master.call("jobs.get", jid=job["jid"])["returns"]["web1"]["success"] is True


def test_a_return_for_a_job_of_another_is_refused(master, join) -> None:
    """A minion can return only what was sent to it."""
    web, db = join("web1"), join("db1")
    jid = master.call("jobs.publish", tgt="web1", fun="test.ping")["jid"]
    told: list[Any] = []
    db.link.send_return({"jid": jid, "return": 1}, lambda good, text: told.append((good, text)))
    until(lambda: told, web, db)
    assert told[0][0] is False
    assert "not sent to 'db1'" in told[0][1]
    assert not master.bus.named(f"salt/job/{jid}/ret")
    assert master.call("status")["counters"]["refused"] == 1


def test_a_return_after_a_restart_of_the_server_is_taken(master, join) -> None:
    """Jobs are remembered on disk."""
    minion = join("web1")
    jid = master.call("jobs.publish", tgt="web1", fun="test.ping")["jid"]
    until(lambda: minion.jobs, minion)
    master.restart()
    until(lambda: minion.link.state != "connected", minion)
    told: list[Any] = []
    minion.link.send_return(
        {"jid": jid, "return": 1, "success": True}, lambda good, _: told.append(good)
    )
    until(lambda: told, minion)
    assert told == [True]
    assert len(master.bus.named(f"salt/job/{jid}/ret/web1")) == 1


def test_a_minion_that_is_not_connected_is_missing(master, join) -> None:
    """Targeted, accepted, not there; and a target without minions is no job."""
    minion = join("web1")
    master.keys.submit(
        "web2", Keypair.load_or_create(master.folder / "x", "minion").public, auto_accept=True
    )
    until(lambda: master.call("minions.match", tgt="*") == ["web1", "web2"], minion)
    answer = master.call("jobs.publish", tgt="*", fun="test.ping")
    assert (answer["minions"], answer["missing"]) == (["web1", "web2"], ["web2"])
    nobody = master.call("jobs.publish", tgt="nobody", fun="test.ping")
    assert (nobody["minions"], nobody["missing"]) == ([], [])
    assert not master.bus.named(f"salt/job/{nobody['jid']}")
    assert master.call("minions.connected") == ["web1"]
    assert master.call("minions.grains")["web1"]["os"] == "Debian"


def test_a_key_makes_a_job_happen_once(master, join) -> None:
    """Who asks again with the same key gets the same job, also after a restart."""
    minion = join("web1")
    first = master.call("jobs.publish", tgt="web1", fun="test.ping", key="r1/do/0")
    until(lambda: minion.jobs, minion)
    master.restart()
    until(lambda: minion.states[-2:] == ["connecting", "connected"], minion)
    assert master.call("jobs.publish", tgt="web1", fun="test.ping", key="r1/do/0") == first
    assert master.call("jobs.publish", tgt="web1", fun="test.ping", key="r1/do/1") != first
    until(lambda: len(minion.jobs) == 2, minion)
    assert [job["jid"] for job in minion.jobs].count(first["jid"]) == 1


def test_a_minion_killed_silently_is_missing(master, join) -> None:
    """A connection that is gone is noticed when the job is sent."""
    minion = join("web1")
    minion.link._connection.close()
    minion.link._connection.send = lambda _frame: False
    minion.link._connection.close = lambda: None
    until(lambda: master.call("jobs.publish", tgt="web1", fun="test.ping")["missing"] == ["web1"])
    assert master.call("minions.connected") == []


def test_goodbye_is_noticed_at_once(master, join) -> None:
    """A minion that ends says so: nobody has to find out."""
    minion = join("web1")
    master.server._attendance.look_for = lambda _idents: None
    minion.link.close()
    minion.link.close = lambda: None
    until(lambda: master.call("minions.connected") == [])
    assert master.call("jobs.publish", tgt="web1", fun="test.ping")["missing"] == ["web1"]


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"tgt": "*"}, "needs 'fun'"),
        ({"fun": "test.ping"}, "needs a target"),
        ({"tgt": "*", "fun": 3}, "3 is no function"),
        ({"tgt": "*", "fun": ["test.ping"], "arg": [1]}, "the arguments '1' are no list"),
        ({"tgt": "*", "tgt_type": "globb", "fun": "test.ping"}, "did you mean 'glob'"),
        ({"tgt": "*", "fun": "test.ping", "key": "x" * 2000}, "at most 1000"),
    ],
)
def test_a_job_that_cannot_be_published(master, params, text) -> None:
    """The error says what is wrong."""
    with pytest.raises(BusError, match=text):
        master.call("jobs.publish", **params)


def test_a_job_that_is_too_large(master, join) -> None:
    """It is refused where it is asked for, and not sent."""
    join("web1")
    with pytest.raises(BusError, match="bytes long"):
        master.call("jobs.publish", tgt="*", fun="test.ping", arg=["x" * 2_000_000])


@pytest.mark.parametrize("method", ["jobs.lookup", "jobs.get"])
def test_a_look_up_needs_a_jid(master, method) -> None:
    """What is no job id is refused; an unknown one gives nothing."""
    with pytest.raises(BusError, match="no job id"):
        master.call(method, jid="12")
    assert master.call(method, jid="2" * 20) == {}


def test_another_key_under_a_known_id_is_denied(master, join, tmp_path) -> None:
    """The minion that was there first goes on; the other hears that it is denied."""
    minion = join("web1")
    other = join("web1", connect=False, folder=tmp_path / "other")
    until(lambda: other.link.state == "denied", minion, other)
    assert minion.link.state == "connected"
    assert master.keys.list()["minions_denied"] == ["web1"]
    assert [data["act"] for data in master.bus.named("salt/auth")][-1] == "denied"
    other.link._outbox.add(Item(protocol.EVENT, "evil", wire.pack({})), None)
    other.turn()
    send(minion, "good")
    until(lambda: "good" in master.bus.tags(), minion, other)
    assert "evil" not in master.bus.tags()


def test_a_revoked_minion_hears_nothing_more(master, join) -> None:
    """A connection outlives its key, but not here."""
    minion = join("web1")
    master.keys.reject("web1", include_accepted=True)
    until(lambda: minion.link.state == "rejected", minion)
    assert master.call("jobs.publish", tgt="*", fun="test.ping")["minions"] == []
    told = send(minion, "after")
    until(lambda: told, minion)
    assert told == [(True, "spooled")]
    assert "after" not in master.bus.tags()
    master.keys.accept("web1", include_rejected=True)
    until(lambda: "after" in master.bus.tags(), minion)


def test_a_deleted_minion_comes_back_as_pending(master, join, caplog) -> None:
    """It hears that it is out, which is not a rejection, says hello, and waits for acceptance."""
    minion = join("web1")
    master.keys.delete("web1")
    until(lambda: minion.link.state == "pending", minion)
    assert minion.states[-2:] == ["connecting", "pending"]
    assert "was deleted on the master: it asks to be accepted anew" in caplog.text
    assert "rejected" not in caplog.text


class Raw:
    """A socket that speaks the protocol without a client's manners."""

    def __init__(
        self, master: Master, keypair: Keypair | None, routing: bytes | None = None
    ) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.set(zmq.LINGER, 0)
        self.socket.set(zmq.RECONNECT_IVL, -1)
        if keypair:
            set_curve_client(self.socket, keypair, master.server._own_key.keypair.public)
        if routing:
            self.socket.set(zmq.ROUTING_ID, routing)
        self.socket.connect(f"tcp://127.0.0.1:{master.server.port}")

    def ask(self, message: Any, seconds: float = SECONDS) -> Any:
        frame = message if isinstance(message, bytes) else protocol.encode(message)
        try:
            self.socket.send(frame, zmq.NOBLOCK)
        except zmq.Again:  # the server has cut the connection already
            return None
        if not self.socket.poll(seconds * 1000):
            return None
        return protocol.decode_down(self.socket.recv())

    def close(self) -> None:
        self.socket.close(linger=0)
        self.context.term()


@pytest.fixture
def raw(master: Master) -> Iterator[Callable[..., Raw]]:
    with contextlib.ExitStack() as stack:

        def make(*args: Any) -> Raw:
            made = Raw(master, *args)
            stack.callback(made.close)
            return made

        yield make


@pytest.fixture
def stranger(tmp_path: Path) -> Keypair:
    return Keypair.load_or_create(tmp_path / "stranger", "minion")


def test_without_curve_nobody_gets_anywhere(master, raw) -> None:
    """A NULL or PLAIN client has no answer, and the server goes on."""
    null = raw(None, new_routing_id())
    assert null.ask(Hello("web1", "1", {}), 0.3) is None
    plain = Raw.__new__(Raw)
    plain.context = zmq.Context()
    plain.socket = plain.context.socket(zmq.DEALER)
    plain.socket.set(zmq.PLAIN_USERNAME, b"u")
    plain.socket.set(zmq.PLAIN_PASSWORD, b"p")
    plain.socket.connect(f"tcp://127.0.0.1:{master.server.port}")
    assert plain.ask(Hello("web1", "1", {}), 0.3) is None
    plain.close()
    assert master.call("ping") is True
    assert master.keys.list()["minions_pre"] == []


def test_before_hello_only_the_state_is_told(raw, stranger) -> None:
    """A stranger's batch, ping or request brings nothing but 'unknown'."""
    peer = raw(stranger, new_routing_id())
    assert peer.ask(Ping()) == State("unknown")
    assert peer.ask(Batch(b"l" * 16, 1, [Item(0, "evil", wire.pack({}))])) == State("unknown")
    assert peer.ask(Hello("new", "1", {})) == State("pending")
    assert peer.ask(Ping()) == State("pending")


def test_a_short_routing_id_is_dropped(master, raw, stranger) -> None:
    """One that can be guessed, or is ZeroMQ's own, is none of a minion of ours."""
    assert raw(stranger, b"short").ask(Hello("web1", "1", {}), 0.3) is None
    assert raw(stranger).ask(Hello("web1", "1", {}), 0.3) is None
    until(lambda: master.call("status")["counters"].get("malformed") == 2)


def test_a_stolen_routing_id_does_not_help(master, join, raw, stranger) -> None:
    """Even who knows the routing id cannot act as the minion: the key is another."""
    minion = join("web1")
    routing = next(iter(master.server._peers)).routing
    thief = raw(stranger, routing)
    thief.socket.send(protocol.encode(Batch(b"l" * 16, 1, [Item(0, "evil", wire.pack({}))])))
    until(lambda: master.call("status")["counters"].get("wrong_key"), minion)
    assert "evil" not in master.bus.tags()


def test_random_bytes_end_nothing(master, raw, stranger) -> None:
    """Over TCP, over UDP, and inside the encryption."""
    with sockets.create_connection(("127.0.0.1", master.server.port)) as tcp:
        tcp.sendall(b"\xff" * 5000)
    with sockets.socket(sockets.AF_INET, sockets.SOCK_DGRAM) as udp:
        udp.sendto(b"\0" * 96, ("127.0.0.1", master.server.port))
    peer = raw(stranger, new_routing_id())
    assert peer.ask(b"\xc1\xff\xff", 0.2) is None
    peer.socket.send_multipart([b"a", b"b"])
    assert peer.ask(b"\x01" * (protocol.MAX_HELLO_BYTES + 1), 0.2) is None
    assert peer.ask(Hello("new", "1", {})) == State("pending")
    assert master.call("status")["counters"]["malformed"] >= 3


def test_rubbish_from_an_accepted_minion_ends_nothing(master, join) -> None:
    """Valid frames with odd contents are refused or dropped, and counted."""
    minion = join("web1")
    jid = master.call("jobs.publish", tgt="web1", fun="test.ping")["jid"]
    send = minion.link._connection.send
    odd: list[Any] = [None, 1, [], {1: 2}, {"retcode": [], "return": b"x"}, "x", [[[]]]]
    for number, value in enumerate(odd, 1):
        items = [
            [0, "odd", wire.pack(value)],
            [1, jid, wire.pack(value)],
            [1, "", b""],
            [0, "", b""],
        ]
        send(wire.pack([2, b"l" * 16, number, items]))
        send(wire.pack([3, number, {"file": value, "files": value}]))
        send(wire.pack([3, number, {"file": value}]))
        send(wire.pack([1, "web1", "1", value]))
        send(wire.pack(value))
    until(lambda: len(master.bus.named("odd")) == 2, minion)
    assert send_and_wait(minion, master, "fine")
    counters = master.call("status")["counters"]
    assert counters["malformed"] >= 7
    assert counters["refused"] >= 20
    assert "failed" not in counters


def send_and_wait(minion: Minion, master: Master, tag: str) -> bool:
    told = send(minion, tag)
    until(lambda: told, minion)
    return tag in master.bus.tags()


def test_a_restarted_server_gets_each_event_once(master, join, monkeypatch) -> None:
    """Sent again under the same numbers; the bus keeps each once, and in order."""
    minion = join("web1")
    told: list[Any] = []
    master.bus.silent = True
    for number in range(300):
        minion.link.send_event("n", {"n": number}, lambda *answer: told.append(answer))
    until(lambda: master.bus.pending, minion)
    monkeypatch.setattr("bus.link.server.DRAIN_SECONDS", 0.0)
    master.stop()
    master.bus.silent = False
    master.bus.revive(master.context)
    master.start_again()
    for number in range(300, 400):
        minion.link.send_event("n", {"n": number}, lambda *answer: told.append(answer))
    until(lambda: len(told) == 400 and len(master.bus.named("n")) >= 400, minion)
    until(lambda: minion.link._outbox.idle, minion)
    assert [data["data"]["n"] for data in master.bus.named("n")] == list(range(400))


def test_lost_acknowledgements_make_no_double(master, join) -> None:
    """What is in the journal, but unanswered, is sent again and counted once."""
    minion = join("web1")
    master.server._answer_batch = lambda *_: None
    master.server._streams._answer = lambda *_: None
    told: list[Any] = []
    for number in range(10):
        minion.link.send_event("n", {"n": number}, lambda *answer: told.append(answer))
    until(lambda: len(master.bus.named("n")) >= 1, minion)
    master.restart()
    until(lambda: len(told) == 10 and minion.link._outbox.idle, minion)
    assert [data["data"]["n"] for data in master.bus.named("n")] == list(range(10))
    assert master.bus.repeats > 0


def test_the_spool_survives_a_restart_of_the_minion(master, join) -> None:
    """Events fired while the master is away come in order, before newer ones, once."""
    minion = join("web1")
    master.stop()
    until(lambda: minion.link.state == "connecting", minion)
    told: list[Any] = []
    for number in range(20):
        minion.link.send_event("n", {"n": number}, lambda *answer: told.append(answer))
    until(lambda: len(told) == 20, minion)
    assert set(told) == {(True, "spooled")}
    minion.close()
    minion.close = lambda: None
    minion.link.close = lambda: None
    again = join("web1", connect=False)
    again.link.send_event("n", {"n": 20})
    master.bus.revive(master.context)
    master.start_again()
    until(lambda: len(master.bus.named("n")) == 21, again)
    assert [data["data"]["n"] for data in master.bus.named("n")] == list(range(21))
    until(lambda: again.link._outbox._spool.size == 0, again)
    minion.context.term()


def test_the_master_is_told_what_the_spool_dropped(master, join) -> None:
    """Once, after the events that were kept, by an event of the minion's own."""
    minion = join("web1", spool_max_size=5000, spool_policy="drop_oldest")
    master.stop()
    until(lambda: minion.link.state == "connecting", minion)
    told: list[Any] = []
    for number in range(12):
        minion.link.send_event("n", {"n": number, "x": "." * 900}, lambda *said: told.append(said))
        minion.link._outbox.spool_all()
    assert told == [(True, "spooled")] * 12
    dropped = minion.link.spool["dropped"]
    assert minion.link.spool["events"] == 12 - dropped > 0
    master.bus.revive(master.context)
    master.start_again()
    tag = "salt/minion/web1/spool/dropped"
    (event,) = until(lambda: master.bus.named(tag), minion)
    assert event["data"] == {"dropped": dropped, "spool_policy": "drop_oldest"}
    assert [data["data"]["n"] for data in master.bus.named("n")] == list(range(dropped, 12))
    until(lambda: minion.link._outbox.unreported == 0, minion)
    minion.link.say_hello()
    until(lambda: minion.link.state == "connected", minion)
    until(lambda: minion.link._outbox.idle, minion)
    assert len(master.bus.named(tag)) == 1
    assert minion.link.spool["dropped"] == dropped


def test_events_that_the_bus_cannot_keep_now_are_sent_again(master, join) -> None:
    """A full disk on the master loses nothing."""
    minion = join("web1")
    master.bus.error = JournalError("disk full")
    told = send(minion, "n", n=1)
    until(lambda: told, minion)
    assert told == [(True, "spooled")]
    master.bus.error = None
    until(lambda: master.bus.named("n"), minion)
    until(lambda: minion.link._outbox._spool.size == 0, minion)
    assert len(master.bus.named("n")) == 1


def test_files_are_listed_fetched_and_announced(master, join) -> None:
    """Only what stands below the roots' _modules, and only *.py."""
    folder = master.folder / "files/_modules"
    folder.mkdir(parents=True)
    (folder / "mine.py").write_text("x = 1\n")
    minion = join("web1")
    replies: list[Any] = []

    def ask(**params: Any) -> Any:
        replies.clear()
        minion.link.request(params, lambda value, text: replies.append((value, text)))
        return until(lambda: list(replies), minion)[0]

    listed, _ = ask(files="_modules")
    assert list(listed) == ["mine.py"]
    assert ask(file="_modules/mine.py") == (b"x = 1\n", "")
    for bad in ("_modules/../../pki/master.pem", "../pki/master.pem", "_modules/none.py"):
        value, text = ask(file=bad)
        assert value is None
        assert "is offered" in text
    assert "unknown request" in ask(other=1)[1]
    assert "no folder" in ask(files="pki")[1]
    (folder / "other.py").write_text("y = 2\n")
    until(lambda: minion.changed, minion)


def test_a_request_without_a_link_fails_at_once(master, join) -> None:
    """And one that is on its way when the link goes down fails too."""
    minion = join("web1", connect=False)
    replies: list[Any] = []
    minion.link.request({"file": "x"}, lambda value, text: replies.append(text))
    assert replies == ["the master is not connected"]


def test_the_fingerprint_needs_no_first_contact(master, join) -> None:
    """With master_finger the key is known; nothing is asked by UDP."""
    finger = fingerprint(master.server._own_key.keypair.public)
    minion = join("web1", connect=False, master_finger=finger)
    until(lambda: minion.link.state == "pending", minion)
    assert not (Path(minion.opts["pki_dir"]) / PINNED).exists()


@pytest.mark.parametrize("names", ["127.0.0.1", ["127.0.0.1", "localhost"]])
def test_a_wrong_fingerprint_connects_never(
    master, join, stranger, monkeypatch, caplog, names
) -> None:
    """A master that does not prove the key hears nothing of the minion, and little of its tries."""
    monkeypatch.setattr("bus.link.seeking.HANDOVER_SECONDS", 0.1)
    tries: list[Address] = []
    connect = Connection.open
    monkeypatch.setattr(
        Connection, "open", lambda self, to, key: tries.append(to) or connect(self, to, key)
    )
    minion = join("web1", connect=False, master_finger=fingerprint(stranger.public), master=names)
    until(lambda: "does not prove the key" in caplog.text, minion)
    deadline = time.monotonic() + 1
    until(lambda: time.monotonic() > deadline, minion)
    assert minion.link.state == "connecting"
    assert master.keys.list()["minions_pre"] == []
    assert 1 <= len(tries) < 6


def test_a_pinned_key_that_is_not_the_fingerprint_is_an_error(
    master, join, stranger, caplog
) -> None:
    """It is said in the log, with the file, and nothing is sent."""
    folder = master.folder / "minion-web1/pki"
    folder.mkdir(parents=True)
    (folder / PINNED).write_bytes(stranger.public)
    finger = fingerprint(master.server._own_key.keypair.public)
    minion = join("web1", connect=False, master_finger=finger)
    until(lambda: minion.link.state == "error", minion)
    assert "remove the file" in caplog.text
    assert not minion.link._connection.is_open


def absences(caplog) -> list[str]:
    return [text for text in caplog.messages if text.startswith("cannot reach the master at ")]


@pytest.mark.parametrize(
    ("pinned", "reason"),
    [(False, "no answer to the question for its key, by UDP"), (True, "no TCP connection")],
)
def test_a_master_that_is_not_there_is_said(
    master, join, stranger, caplog, monkeypatch, pinned, reason
) -> None:
    """Once, with the address and the reason; and once more when it is there after all."""
    caplog.set_level("INFO", "bus.link.client")
    monkeypatch.setattr("bus.link.absence.FIRST_SECONDS", 0.3)
    finger = fingerprint(master.server._own_key.keypair.public) if pinned else ""
    master.stop()
    minion = join("web1", connect=False, master_finger=finger)
    until(lambda: absences(caplog), minion)
    deadline = time.monotonic() + 0.5
    until(lambda: time.monotonic() > deadline, minion)
    (text,) = absences(caplog)
    assert text.startswith(f"cannot reach the master at {minion.link.master.name} ({reason}")
    assert text.endswith("), trying again")
    assert "is reached" not in caplog.text
    master.bus.revive(master.context)
    master.start_again()
    until(lambda: minion.link.state == "pending", minion)
    assert f"the master at {minion.link.master.name} is reached" in caplog.messages


def test_a_connection_without_a_handshake_is_said(master, join, caplog, monkeypatch) -> None:
    """What listens there is no master."""
    monkeypatch.setattr("bus.link.absence.FIRST_SECONDS", 0.3)
    finger = fingerprint(master.server._own_key.keypair.public)
    with sockets.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        minion = join("web1", connect=False, master_finger=finger, master_port=port)
        until(lambda: absences(caplog), minion)
    assert "no handshake: is it a master that listens there?" in absences(caplog)[0]


def test_a_name_that_nobody_knows_is_said(join, caplog, monkeypatch) -> None:
    """With the name, and as often as the other reasons."""
    monkeypatch.setattr("bus.link.absence.FIRST_SECONDS", 0.1)
    minion = join("web1", connect=False, master="no-such-host.invalid")
    until(lambda: absences(caplog), minion)
    assert "'no-such-host.invalid' cannot be resolved" in absences(caplog)[0]
    assert len(caplog.messages) == 1


def test_the_next_master_is_tried(master, join, monkeypatch) -> None:
    """The first of the list is not there."""
    monkeypatch.setattr("bus.link.vigil.FAILOVER_SECONDS", 0.3)
    with sockets.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        absent = f"127.0.0.1:{taken.getsockname()[1]}"
        minion = join("web1", connect=False, master=[absent, "127.0.0.1"])
        until(lambda: minion.link.state == "pending", minion)
        assert minion.link.master.port == master.server.port


def test_a_silent_master_is_left(master, join, monkeypatch, caplog) -> None:
    """One that answers no ping is connected to anew."""
    minion = join("web1")
    monkeypatch.setattr("bus.link.vigil.SILENCE_SECONDS", 0.2)
    monkeypatch.setattr("bus.link.vigil.PING_SECONDS", 5.0)
    until(lambda: "connecting" in minion.states, minion)
    until(lambda: minion.link.state == "connected", minion)
    assert "has fallen silent: connecting again" in caplog.text
    assert master.call("minions.connected") == ["web1"]


def test_pings_are_answered(master, join, monkeypatch) -> None:
    """An idle link stays up on pings alone."""
    monkeypatch.setattr("bus.link.vigil.PING_SECONDS", 0.05)
    minion = join("web1")
    monkeypatch.setattr("bus.link.vigil.SILENCE_SECONDS", 0.5)
    deadline = time.monotonic() + 1.2
    until(lambda: time.monotonic() > deadline, minion)
    assert minion.states[-1] == "connected"
    assert minion.link.state == "connected"


def test_a_second_server_on_the_port_is_refused(master, tmp_path) -> None:
    """It says which options name the port, and leaves the first alone."""
    opts = {**master.opts, "state_dir": str(tmp_path / "s")}
    with (
        zmq.Context() as context,
        contextlib.closing(MemoryBus(context)) as bus,
        pytest.raises(BusError, match="ret_port"),
    ):
        LinkServer(opts, context=context, publisher=bus)
    assert master.call("ping") is True


def test_too_large_events_and_returns(master, join) -> None:
    """An event is refused to its caller; a return is replaced, since somebody waits for it."""
    minion = join("web1")
    with pytest.raises(BusError, match="max_event_size"):
        minion.link.send_event("big", {"x": "y" * 1_100_000})
    jid = master.call("jobs.publish", tgt="web1", fun="test.ping")["jid"]
    minion.link.send_return({"jid": jid, "return": "y" * 1_100_000})
    (data,) = until(lambda: master.bus.named(f"salt/job/{jid}/ret"), minion)
    assert "cannot be sent" in data["return"]
    assert data["success"] is False


def test_new_grains_are_told(master, join) -> None:
    """say_hello brings the grains of now, and the link stays usable."""
    minion = join("web1")
    minion.link._hellos._grains = lambda: {"os": "Arch"}
    minion.link.say_hello()
    until(lambda: master.call("minions.grains") == {"web1": {"os": "Arch"}}, minion)
    assert master.call("minions.forget_grains", ids=["web1", "other"]) == ["web1"]
    assert master.call("minions.grains") == {}
    assert master.call("minions.match", tgt="os:Arch", tgt_type="grain") == []
    told = send(minion, "n")
    until(lambda: told, minion)
    assert told == [(True, "")]


def test_grains_that_cannot_be_sent_are_left_out(master, join, caplog) -> None:
    """The minion connects all the same."""
    minion = join("web1", connect=False)
    minion.link._hellos._grains = {"x": object()}
    until(lambda: minion.link.state == "pending", minion)
    assert "grains cannot be sent" in caplog.text


def test_the_memory_store_agrees_with_the_numbers() -> None:
    """The real store takes a stream's numbers as the link sends them."""
    store = MemoryStore()
    event = wire.pack_event("t", {})
    assert store.append([Fire(b"m:a", 1, 1, [event])])[0].fresh
    assert not store.append([Fire(b"m:a", 1, 1, [event])])[0].fresh
    assert store.append([Fire(b"m:a", 3, 3, [event])])[0].fresh


def test_a_minion_that_does_nothing_any_more_is_gone(master, join, monkeypatch) -> None:
    """Its connection is whole, as that of a stopped process is; when it goes on, it is back."""
    waits = join("web2", connect=False)
    until(lambda: waits.link.state == "pending", waits)
    minion = join("web1")
    monkeypatch.setattr(departures, "SILENT_SECONDS", 1.0)
    until(lambda: master.call("minions.connected") == [])
    told = send(minion, "here/again")
    until(lambda: told, minion)
    assert told == [(True, "")]
    assert master.bus.tags().count("here/again") == 1
    # One that waits for acceptance has nothing to say, and is told nevertheless.
    monkeypatch.setattr(departures, "SILENT_SECONDS", 60.0)
    master.keys.accept("web2")
    until(lambda: waits.link.state == "connected", waits)


def test_what_minions_may_fire(tmp_path) -> None:
    """By the option; the sender hears why, and what comes after is taken."""
    (tmp_path / "m").mkdir()
    master = Master(tmp_path / "m", auto_accept=True, minion_may_fire=("host/{id}/*",))
    minion = Minion(master, "web1")
    try:
        until(lambda: minion.link.state == "connected", minion)
        refused, taken = send(minion, "host/web2/up"), send(minion, "host/web1/up")
        until(lambda: refused and taken, minion)
        assert refused[0][0] is False
        assert "minion_may_fire" in refused[0][1]
        assert taken == [(True, "")]
        assert "host/web2/up" not in master.bus.tags()
    finally:
        minion.close()
        master.close()
