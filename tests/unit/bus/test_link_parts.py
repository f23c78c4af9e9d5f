"""The smaller parts of the link: first contact, ZAP, trust, peers, streams, jobs, files."""

from __future__ import annotations

import os
import socket
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
import zmq
from zmq.utils import z85

from bus import wire
from bus.errors import (
    AlreadyRunningError,
    AnswerTimeoutError,
    ConfigError,
    DataError,
    JournalError,
    KeyStateError,
    NotRunningError,
    TagError,
    WireError,
)
from bus.keys import fingerprint
from bus.link import admission, filesync, firstcontact, peers, streams, zap
from bus.link.absence import Absence
from bus.link.filesync import FileTree
from bus.link.jobs import JobStore, packed_runs
from bus.link.peers import Peer, Peers
from bus.link.protocol import MAX_FILE_BYTES, Ack, Batch, Item, Refused
from bus.link.streams import Streams
from bus.link.trust import PINNED, Address, Trust, parse_masters

KEY, OTHER = (zmq.curve_keypair()[0] for _ in range(2))
JID = "20261122093000123456"
LINE = b"l" * 16

_pack = wire.EventPacker(lambda: 0, 1000).pack


# -- absence ----------------------------------------------------------------------------------


def test_an_absence_is_said_ever_more_rarely() -> None:
    """After 3 seconds, then after 30, 60, 120, 240, and every 300."""
    absence = Absence(1000.0)
    said = [now for now in range(1000, 3000) if absence.is_due(now)]
    assert said == [1003, 1033, 1093, 1213, 1453, 1753, 2053, 2353, 2653, 2953]
    assert absence.end()
    assert not absence.end()
    assert not absence.is_due(9999.0)


def test_a_short_absence_is_not_said() -> None:
    """A master that restarts is no news; one that goes again begins anew."""
    absence = Absence(0.0)
    assert not absence.is_due(2.0)
    assert not absence.end()
    absence.begin(10.0)
    absence.begin(12.0)
    assert absence.is_due(13.0)


# -- first contact ----------------------------------------------------------------------------


def test_the_answer_is_shorter_than_the_question() -> None:
    """Nobody can use a master to flood a third party."""
    asked = firstcontact.question(b"n" * 16)
    answer = firstcontact.answer(asked, KEY)
    assert len(answer) < len(asked) == 96
    assert firstcontact.parse_answer(answer, b"n" * 16) == KEY
    assert firstcontact.parse_answer(answer, b"m" * 16) is None
    assert firstcontact.parse_answer(answer[:-1], b"n" * 16) is None


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"x" * 96,
        firstcontact.question(b"n" * 16)[:-1],
        firstcontact.question(b"n" * 16) + b"x",
    ],
)
def test_all_else_has_no_answer(datagram: bytes) -> None:
    """Wrong length or wrong beginning."""
    assert firstcontact.answer(datagram, KEY) is None


def test_asking_over_udp() -> None:
    """A real question, and rubbish before it."""
    responder = firstcontact.Responder("127.0.0.1", 0, KEY)
    port = responder.socket.getsockname()[1]
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            responder.handle()
            stop.wait(0.01)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rubbish:
            rubbish.sendto(b"x" * 500, ("127.0.0.1", port))
        assert firstcontact.ask("127.0.0.1", port) == KEY
    finally:
        stop.set()
        thread.join()
        responder.close()


def test_a_port_that_is_taken() -> None:
    """The socket is not left open."""
    first = firstcontact.Responder("127.0.0.1", 0, KEY)
    with pytest.raises(OSError):
        firstcontact.Responder("127.0.0.1", first.socket.getsockname()[1], KEY)
    first.close()


def test_nobody_answers() -> None:
    """The error names UDP, the host and what to do."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(AnswerTimeoutError, match="UDP"):
            firstcontact.ask("127.0.0.1", taken.getsockname()[1], 0.05)
    with pytest.raises(NotRunningError, match="cannot be resolved"):
        firstcontact.Question("no such host", 1)


def test_a_wrong_answer_is_passed_over() -> None:
    """A datagram with another nonce is not ours."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        asked = firstcontact.Question("127.0.0.1", server.getsockname()[1])
        assert asked.poll() is None
        asked.send()
        datagram, sender = server.recvfrom(200)
        server.sendto(firstcontact.answer(firstcontact.question(b"x" * 16), OTHER), sender)
        server.sendto(firstcontact.answer(datagram, KEY), sender)
        asked.socket.settimeout(5)
        assert asked.poll() == KEY
        asked.close()


# -- ZAP --------------------------------------------------------------------------------------


def test_a_proven_key_is_let_in_under_its_name() -> None:
    """The user id is the key in Z85."""
    asked = [b"1.0", b"7", b"link", b"127.0.0.1", b"", b"CURVE", z85.decode(KEY)]
    assert zap.answer(asked) == [b"1.0", b"7", b"200", b"OK", KEY, b""]


@pytest.mark.parametrize(
    "rest", [[b"NULL"], [b"PLAIN", b"u", b"p"], [b"CURVE", b"short"], [b"CURVE"]]
)
def test_without_a_key_nobody_is_let_in(rest: list[bytes]) -> None:
    """Whatever else the mechanism proves."""
    reply = zap.answer([b"1.0", b"7", b"link", b"127.0.0.1", b"", *rest])
    assert reply[2] == b"400"
    assert reply[4] == b""


def test_what_is_no_question() -> None:
    """It has no answer, and the handler goes on."""
    assert zap.answer([b"1.0"]) is None
    assert zap.answer([b"2.0", b"7", b"", b"", b"", b"NULL"]) is None
    with zmq.Context() as context:
        handler = zap.ZapHandler(context)
        client = context.socket(zmq.DEALER)
        client.connect(zap.ADDRESS)
        client.send_multipart([b"", b"rubbish"])
        client.send_multipart([b"", b"1.0", b"7", b"", b"", b"", b"CURVE", z85.decode(KEY)])
        handler.handle()
        assert client.recv_multipart()[5] == KEY
        client.close()
        handler.close()


# -- trust ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("salt", [("salt", 4506, "tcp://salt:4506")]),
        (["a:1", "b"], [("a", 1, "tcp://a:1"), ("b", 4506, "tcp://b:4506")]),
        ("::1", [("::1", 4506, "tcp://[::1]:4506")]),
        ("[::1]:5", [("::1", 5, "tcp://[::1]:5")]),
        ("[::1]", [("::1", 4506, "tcp://[::1]:4506")]),
    ],
)
def test_masters(value: Any, found: Any) -> None:
    """Host, host and port, IPv6; one or several."""
    masters = parse_masters(value, 4506)
    assert [(each.host, each.port, each.endpoint) for each in masters] == found


@pytest.mark.parametrize("value", [[], "", "a:", "a:x", ":1", "a:0", "a:70000", "a:²"])
def test_what_is_no_master(value: Any) -> None:
    """It is refused by the option's name."""
    with pytest.raises(ConfigError, match="master"):
        parse_masters(value, 4506)


def test_trust(tmp_path: Path) -> None:
    """A fingerprint beats nothing, agrees with the pinned key, or is an error."""
    assert Trust(tmp_path, "").keys() == []
    assert Trust(tmp_path, fingerprint(KEY)).keys() == [KEY]
    trust = Trust(tmp_path / "pki", "")
    trust.pin(KEY)
    trust.pin(KEY)
    assert trust.keys() == [KEY]
    assert Trust(tmp_path / "pki", fingerprint(KEY)).keys() == [KEY]
    with pytest.raises(KeyStateError, match="pinned"):
        Trust(tmp_path / "pki", fingerprint(OTHER)).keys()
    with pytest.raises(KeyStateError, match="fingerprint"):
        Trust(tmp_path, "nonsense")


def test_a_key_that_cannot_be_pinned(tmp_path: Path) -> None:
    """The error names the file."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=PINNED):
        Trust(tmp_path / "file", "").pin(KEY)


def test_an_address_is_a_value() -> None:
    """Two with the same parts are the same."""
    assert Address("a", 1) == Address("a", 1)


# -- peers ------------------------------------------------------------------------------------


def peer(number: int, ident: str, state: str = "accepted") -> Peer:
    return Peer(bytes([number]) * 16, ident, KEY, state, {}, 0.0)


def test_an_accepted_minion_has_one_connection() -> None:
    """The newer one counts."""
    known = Peers()
    first, second = peer(1, "web1"), peer(2, "web1")
    known.put(first)
    known.put(second)
    assert known.get(first.routing) is None
    assert known.minion("web1") is second
    assert (len(known), known.connected()) == (1, ["web1"])
    known.forget(first)
    assert known.minion("web1") is second
    known.forget(second)
    assert list(known) == []


def test_those_who_wait_are_bounded(monkeypatch) -> None:
    """The one that waits longest is forgotten, and no accepted one is."""
    monkeypatch.setattr(peers, "MAX_WAITING", 2)
    known = Peers()
    known.put(peer(9, "web1"))
    for number in (1, 2, 3):
        known.put(peer(number, "x", "pending"))
    assert [each.routing[0] for each in known] == [9, 2, 3]
    assert known.minion("x") is None


@pytest.mark.parametrize(
    ("routing", "good"),
    [(b"\x01" * 16, True), (b"\0" * 16, False), (b"x" * 15, False), (b"", False)],
)
def test_routing_ids(routing: bytes, good: bool) -> None:
    """Sixteen bytes that do not begin with a zero."""
    assert peers.is_routing_id(routing) is good


# -- admission --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tag",
    [
        "a",
        "salt/minion/web1/start",
        "salt/job/1/prog/web1/3",
        "salt/beacon/web1/x",
        "salt/cloud/x",
        "salt/authority",
        "salt/custom",
        "reactors/x",
    ],
)
def test_tags_that_a_minion_may_fire(tag: str) -> None:
    """Its own, and everybody's."""
    assert admission.check_sender_tag(tag, "web1") == tag


@pytest.mark.parametrize(
    "tag",
    [
        "salt/auth",
        "salt/key",
        "salt/key/x",
        "salt/run/1/ret",
        "salt/job/1/ret/web1",
        "salt/job/1/new",
        "salt/job/1/2/ret/web1",
        "salt/job/1/2/prog/web1/1",
        "salt/job/1/ret",
        "salt/job",
        "salt/minion/web2/start",
        "salt/minion/web11/start",
        "salt/job/1/prog/web2/1",
        "salt/beacon/x",
        "reactor/rules/reloaded",
        "salt/reactors/manage/add",
        "salt/netapi/hook/x",
        "a\nb",
        "",
    ],
)
def test_tags_that_a_minion_may_not_fire(tag: str) -> None:
    """The master's and other minions'."""
    with pytest.raises(TagError):
        admission.check_sender_tag(tag, "web1")


def test_event_data_that_is_no_dict() -> None:
    """It is the minion's fault, and said so."""
    with pytest.raises(WireError):
        admission.event_wire("web1", "t", wire.pack([1]), _pack)
    with pytest.raises(WireError):
        admission.event_wire("web1", "t", b"\xc1", _pack)


def test_a_return_is_the_masters_word_where_it_knows() -> None:
    """Function and arguments from the job; odd values are made plain."""
    job = {"jid": JID, "fun": "test.ping", "arg": [1]}
    data = admission.shape_return(
        "web1", job, wire.pack({"retcode": "x", "success": 1, "jid": "9"})
    )
    assert data["jid"] == JID
    assert (data["retcode"], data["success"], data["return"]) == (1, False, None)


def test_a_return_that_is_too_large_is_replaced() -> None:
    """Somebody waits for it."""
    data = {"id": "web1", "jid": JID, "return": "x" * 5000, "retcode": 0, "success": True}
    tag, short = wire.unpack_event(admission.return_wire(data, _pack))
    assert tag == f"salt/job/{JID}/ret/web1"
    assert "too large" in short["return"]
    assert short["success"] is False


def test_no_minion_can_count_in_anothers_name() -> None:
    """The producer holds the proven id, closed by what no id contains."""
    assert admission.producer("a", b"b" * 16) != admission.producer("ab", b"b" * 15)
    assert len(admission.producer("x" * 255, LINE)) <= 320


# -- streams ----------------------------------------------------------------------------------


class FakePublisher:
    """Keeps what is sent until the test answers."""

    def __init__(self) -> None:
        self.sent: dict[int, Any] = {}

    def send(self, events, *, on_done, producer=None, number=None) -> None:
        assert number not in self.sent
        self.sent[number] = on_done

    def answer(self, number: int, error: Any = None) -> None:
        self.sent.pop(number)(None if error else 1, error)


@pytest.fixture
def stream() -> Any:
    class Fixture:
        publisher = FakePublisher()
        answers: list[Any] = []

        def __init__(self) -> None:
            self.publisher = FakePublisher()
            self.answers = []
            self.streams = Streams(self.publisher, lambda *answer: self.answers.append(answer))

        def bring(
            self, number: int, routing: bytes = b"r", wires: Any = (b"w",), refused: Any = None
        ) -> bool:
            batch = Batch(LINE, number, [Item(0, "t", b""), Item(0, "t", b"")])
            if self.streams.is_repeat(b"p", batch, routing):
                return False
            self.streams.forward(b"p", batch, routing, wires, refused or {})
            return True

    return Fixture()


def test_a_batch_is_acknowledged_when_it_is_in_the_journal(stream) -> None:
    """Not before; and with what was refused of it."""
    assert stream.bring(1, refused={1: "no"})
    assert stream.answers == []
    stream.publisher.answer(1)
    assert stream.answers == [(b"r", Ack(LINE, 1, {1: "no"}))]


def test_a_repeated_batch_is_not_sent_twice(stream) -> None:
    """While the first is on its way, both connections are answered; afterwards at once."""
    stream.bring(1)
    assert not stream.bring(1, b"s")
    stream.publisher.answer(1)
    assert {routing for routing, _ in stream.answers} == {b"r", b"s"}
    assert not stream.bring(1, b"t")
    assert stream.answers[-1] == (b"t", Ack(LINE, 1))


def test_a_batch_without_a_good_event_is_answered_at_once(stream) -> None:
    """There is nothing to journal."""
    stream.bring(1, wires=(), refused={0: "a", 1: "b"})
    assert stream.answers == [(b"r", Ack(LINE, 1, {0: "a", 1: "b"}))]


def test_a_passing_error_asks_for_another_number(stream) -> None:
    """Also when the same number comes again: a later one may be in the journal."""
    stream.bring(1)
    stream.bring(2)
    stream.publisher.answer(1, JournalError("disk full"))
    stream.publisher.answer(2)
    assert stream.answers[0] == (b"r", Refused(LINE, 1, "disk full"))
    assert not stream.bring(1)
    assert isinstance(stream.answers[-1][1], Refused)


def test_a_lasting_error_refuses_all(stream) -> None:
    """It would be the same the next time."""
    stream.bring(1)
    stream.publisher.answer(1, DataError("bad"))
    assert stream.answers == [(b"r", Ack(LINE, 1, {0: "bad", 1: "bad"}))]


def test_a_number_out_of_order_has_no_answer(stream) -> None:
    """No minion of ours goes backward."""
    stream.bring(5)
    assert not stream.bring(3)
    assert stream.answers == []


def test_a_gap_waits_for_the_answers_before_it(stream) -> None:
    """The bus takes a producer's numbers without gaps while it has an open one."""
    stream.bring(1)
    stream.bring(2, wires=(), refused={0: "a", 1: "b"})
    stream.bring(3)
    stream.bring(4)
    assert not stream.bring(3, b"s")
    assert (sorted(stream.publisher.sent), stream.streams.held) == ([1], 2)
    stream.publisher.answer(1)
    assert (sorted(stream.publisher.sent), stream.streams.held) == ([3, 4], 0)
    stream.publisher.answer(3)
    stream.publisher.answer(4)
    assert [answer.number for _, answer in stream.answers] == [2, 1, 3, 3, 4]


def test_silent_streams_are_forgotten(monkeypatch) -> None:
    """But none with a batch on its way."""
    monkeypatch.setattr(streams, "MAX_STREAMS", 20)
    publisher = FakePublisher()
    kept = Streams(publisher, lambda *_: None)
    kept.forward(b"busy", Batch(LINE, 1, [Item(0, "t", b"")]), b"r", [b"w"], {})
    for number in range(30):
        kept.forward(b"%d" % number, Batch(LINE, 1, [Item(0, "t", b"")]), b"r", [], {0: "x"})
    assert b"busy" in kept._streams
    assert len(kept._streams) <= 22


# -- jobs -------------------------------------------------------------------------------------


def job(jid: str = JID, *minions: str, missing: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "jid": jid,
        "fun": "test.ping",
        "arg": [],
        "minions": list(minions),
        "missing": list(missing),
    }


def test_jobs_are_remembered_across_restarts(tmp_path: Path) -> None:
    """With who got it, what came back, and the caller's key."""
    store = JobStore(tmp_path / "state/jobs.db", 100)
    assert store.newest() == ""
    store.put(job(JID, "web1", "web2", missing=("web2",)), "key")
    store.returned(
        {"jid": JID, "id": "web1", "return": 1, "retcode": 0, "success": True, "fun": "x"}
    )
    store.close()
    assert (tmp_path / "state/jobs.db").stat().st_mode & 0o777 == 0o600
    store = JobStore(tmp_path / "state/jobs.db", 100)
    assert store.newest() == JID
    assert store.sent_to(JID, "web1")["fun"] == "test.ping"
    assert store.sent_to(JID, "web2") is None
    assert store.sent_to("2" * 20, "web1") is None
    assert store.by_key("key")["jid"] == JID
    assert store.by_key("other") is None
    assert store.returns(JID) == {"web1": {"return": 1, "retcode": 0, "success": True}}
    store.close()


def test_few_jobs_stay_in_memory(tmp_path: Path, monkeypatch) -> None:
    """The others are read again."""
    monkeypatch.setattr("bus.link.jobs.MAX_IN_MEMORY", 5)
    store = JobStore(tmp_path / "jobs.db", 100)
    jids = [f"202611220930001234{number:02}" for number in range(10)]
    for jid in jids:
        store.put(job(jid, "a"))
    assert len(store._recent) == 2
    assert store.get(jids[0])["jid"] == jids[0]
    assert [each["jid"] for each in store.newest_first(2)] == [jids[9], jids[8]]
    store.close()


def test_old_jobs_are_forgotten(tmp_path: Path) -> None:
    """With their returns."""
    store = JobStore(tmp_path / "jobs.db", 100)
    store.put(job("20200101000000000000", "a"))
    store.put(job(JID, "a"))
    store.returned(
        {"jid": "20200101000000000000", "id": "a", "return": 1, "retcode": 0, "success": True}
    )
    store.flush()
    store.prune(1_795_339_800 + 50)
    assert store.get("20200101000000000000") is None
    assert store.returns("20200101000000000000") == {}
    assert store.get(JID) is not None
    store.prune(0)
    store.close()


def test_who_owes_a_return_is_remembered_across_restarts(tmp_path: Path) -> None:
    """Who was sent the job, has not returned it, and was not given up."""
    store = JobStore(tmp_path / "jobs.db", 100)
    ids = [str(int(JID) + more) for more in range(3)]
    for jid in ids:
        store.put({**job(jid, "a", "x", "b", "c"), "runs": packed_runs([LINE, b"", LINE, LINE])})
    store.put(job(str(int(JID) + 3), "a"))  # of an earlier version
    ret = {"jid": ids[1], "id": "a", "return": 1, "retcode": 0, "success": True}
    store.returned(ret)
    store.give_up(ids[1], "c")
    store.give_up(ids[1], "c")
    for ident in "abc":
        store.give_up(ids[2], ident)
    store.close()
    store = JobStore(tmp_path / "jobs.db", 100)
    found = [(known["jid"], owing) for known, owing in store.unreturned(10)]
    assert found == [(ids[0], {"a", "b", "c"}), (ids[1], {"b"})]
    assert list(store.unreturned(2)) == []
    store.prune(4e9)
    assert list(store.unreturned(10)) == []
    store.close()


def test_an_old_job_that_is_owed_is_not_forgotten(tmp_path: Path, monkeypatch) -> None:
    """And is in nobody's way, however few are looked at in one go."""
    monkeypatch.setattr("bus.link.jobs._PRUNE_AT_ONCE", 1)
    store = JobStore(tmp_path / "jobs.db", 100)
    owed, old = "20200101000000000000", "20200101000000000001"
    store.put(job(owed, "a"))
    store.put(job(old, "a"))
    assert store.prune(1_795_339_850, {owed})
    assert not store.prune(1_795_339_850, {owed})
    assert store.sent_to(owed, "a")
    assert store.get(old) is None
    store.prune(1_795_339_850)
    assert store.get(owed) is None
    store.close()


def test_a_job_record_that_cannot_be_used(tmp_path: Path) -> None:
    """The error names the file, and closing is possible."""
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match=r"jobs\.db"):
        JobStore(tmp_path / "file/jobs.db", 100)
    store = JobStore(tmp_path / "jobs.db", 100)
    with sqlite3.connect(tmp_path / "jobs.db") as other:
        other.execute("DROP TABLE returns")
    other.close()
    store.returned({"jid": JID, "id": "a", "return": 1, "retcode": 0, "success": True})
    with pytest.raises(JournalError):
        store.flush()
    store.returned({"jid": JID, "id": "a", "return": 1, "retcode": 0, "success": True})
    store.close()


# -- files ------------------------------------------------------------------------------------


@pytest.fixture
def roots(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("one", "two"):
        (tmp_path / name / "_modules").mkdir(parents=True)
    return tmp_path / "one", tmp_path / "two"


def tree(roots: tuple[Path, Path]) -> FileTree:
    return FileTree([str(root) for root in (*roots, "/does/not/exist")])


def test_the_first_root_gives_a_file(roots) -> None:
    """Python files only, below folders too."""
    (roots[0] / "_modules/a.py").write_text("one")
    (roots[1] / "_modules/a.py").write_text("two")
    (roots[1] / "_modules/sub").mkdir()
    (roots[1] / "_modules/sub/b.py").write_text("b")
    (roots[1] / "_modules/c.txt").write_text("c")
    (roots[1] / "_modules/__pycache__").mkdir()
    (roots[1] / "_modules/__pycache__/d.py").write_text("d")
    files = tree(roots)
    first = files.hashes("_modules")
    assert sorted(first) == ["a.py", "sub/b.py"]
    assert files.read("_modules/a.py") == b"one"
    assert files.read("_modules/sub/b.py") == b"b"
    (roots[0] / "_modules/a.py").write_text("other")
    assert files.hashes("_modules")["a.py"] != first["a.py"]
    assert files.hashes("_grains") == {}


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a.py",
        "_modules",
        "_modules/c.txt",
        "_modules/../secret.py",
        "/etc/x.py",
        "_modules//../../x.py",
        "_modules/a\0.py",
        3,
        None,
        "_modules/link.py",
        "_modules/big.py",
        "_modules/loop.py",
    ],
)
def test_nothing_else_is_offered(roots, name: Any) -> None:
    """Neither by a path nor by a link."""
    (roots[0] / "secret.py").write_text("secret")
    (roots[0] / "_modules/link.py").symlink_to(roots[0] / "secret.py")
    (roots[0] / "_modules/loop.py").symlink_to(roots[0] / "_modules/loop.py")
    (roots[0] / "_modules/big.py").write_bytes(b"x" * (MAX_FILE_BYTES + 1))
    files = tree(roots)
    with pytest.raises(DataError):
        files.read(name)
    assert files.hashes("_modules") == {}
    with pytest.raises(DataError, match="no folder"):
        files.hashes(f"../{name}")


def test_a_file_that_cannot_be_read(roots, monkeypatch) -> None:
    """One that grows or goes away meanwhile is an error, not a surprise."""
    path = roots[0] / "_modules/a.py"
    path.write_bytes(b"x" * (MAX_FILE_BYTES + 1))
    monkeypatch.setattr(filesync, "_is_offered", lambda *_: True)
    with pytest.raises(DataError, match="larger"):
        tree(roots).read("_modules/a.py")
    with pytest.raises(DataError, match="cannot be read"):
        tree(roots).read("_modules/gone.py")
    assert filesync._mark(roots[0] / "gone") == (0, 0, 0)


def test_changes_are_seen(roots) -> None:
    """The first look is none."""
    files = tree(roots)
    assert files.has_changed() is False
    (roots[0] / "_modules/a.py").write_text("1")
    assert files.has_changed() is True
    assert files.has_changed() is False
    os.utime(roots[0] / "_modules/a.py", ns=(1, 1))
    assert files.has_changed() is True


def test_the_number_of_files_is_bounded(roots, monkeypatch) -> None:
    """And so is what is remembered of them."""
    monkeypatch.setattr(filesync, "MAX_FILES", 2)
    for name in "abc":
        (roots[0] / f"_modules/{name}.py").write_text(name)
    files = tree(roots)
    assert list(files.hashes("_modules")) == ["a.py", "b.py"]
    for number in range(6):
        files._hashes[Path(str(number))] = ((0, 0, 0), "")
    (roots[0] / "_modules/a.py").write_text("new")
    files.hashes("_modules")
    assert len(files._hashes) <= 3


def test_a_second_zap_handler_leaves_nothing_that_the_context_would_wait_for():
    """It is refused, and the end of the context does not hang."""
    context = zmq.Context()
    first = zap.ZapHandler(context)
    with pytest.raises(AlreadyRunningError, match="link server already"):
        zap.ZapHandler(context)
    first.close()
    context.term()
