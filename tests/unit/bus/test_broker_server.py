"""The event sockets as whoever connects sees them, friend or foe."""

import random
import time
from pathlib import Path

import pytest
import zmq

from bus import endpoints, frames, wire
from bus.broker import server as server_module
from bus.broker.limits import Limits
from bus.broker.server import MAX_FIRE_BYTES, MAX_MESSAGES_PER_TURN, EventSockets
from bus.errors import (
    AlreadyRunningError,
    BusError,
    DataError,
    JournalError,
    RemoteError,
    TooLargeError,
)
from bus.listener import open_listener
from bus.publisher import Publisher
from bus.sockets import await_input, connect
from bus.store import MemoryStore
from tests.support import SECONDS, running_bus, wait_for

EVENT = wire.pack_event("t", {"x": 1})


def _receive(socket, count):
    found = []
    while socket.poll(50 if len(found) >= count else SECONDS * 1000):
        found.append(socket.recv_multipart())
    assert len(found) >= count
    return found


class _Local:
    """Event sockets in this process, turned by hand."""

    def __init__(self, place, **arguments):
        self.pull, self.pub = f"ipc://{place}/pull.ipc", f"ipc://{place}/pub.ipc"
        self.store = arguments.pop("store", None) or MemoryStore()
        self.sockets = EventSockets(
            pull=self.pull, pub=self.pub, fires=f"{self.pub}.fires", store=self.store, **arguments
        )
        self.client = connect(zmq.DEALER, self.pull)
        self.sub = connect(zmq.SUB, self.pub)

    def turn(self, wait=50):
        for socket in self.sockets.sockets:
            if await_input(socket, wait):
                self.sockets.handle(socket)

    def fire(self, number, events=(EVENT,), producer=b"p", base=None):
        parts = frames.fire(producer, number, base or number, wire.pack(list(events)))
        self.send(*parts)

    def send(self, *parts):
        pull = self.sockets.sockets[0]
        self.client.send_multipart(parts)
        assert pull.poll(SECONDS * 1000)
        self.sockets.handle(pull)

    def answers(self, count=0):
        """Return the answers: those that are due, and what comes unexpected after them."""
        return _receive(self.client, count)

    def subscribe(self, prefix=b""):
        before = self.sockets.counters.copy()
        self.sub.subscribe(prefix)
        self.sub.subscribe(frames.SYNC + b"me")
        wait_for(lambda: self.turn() or self.sub.poll(10))
        self.sub.recv_multipart()
        assert self.sockets.counters == before

    def published(self, count=0):
        return _receive(self.sub, count)

    def close(self):
        for socket in (self.client, self.sub):
            socket.close(linger=0)
        self.sockets.close()


@pytest.fixture
def local(place):
    """Makes event sockets in this process."""
    made = []

    def make(**arguments):
        made.append(_Local(place, **arguments))
        return made[-1]

    yield make
    for one in made:
        one.close()


def _kinds(answers):
    return [parts[0][:1] for parts in answers]


def test_a_raw_reader_sees_salts_wire_form(bus_process):
    r"""``tag\n\n`` and msgpack, and our sequence number in a frame behind it."""
    sub = connect(zmq.SUB, endpoints.master_pub(bus_process.opts))
    sub.subscribe(b"a/")
    publisher = Publisher(endpoints.master_pull(bus_process.opts))

    def hears():
        publisher.fire([wire.pack_event("b/x", {}), wire.pack_event("a/b", {"x": 1})], 10)
        return sub.poll(50)

    wait_for(hears)
    raw, seq = sub.recv_multipart()
    head, _, body = raw.partition(b"\n\n")
    assert head == b"a/b"
    assert wire.unpack(body)["x"] == 1
    assert frames.unpack_place(seq)[0] % 2 == 0
    publisher.close()
    sub.close()


def test_a_second_server_on_the_same_directory_is_refused(bus_process):
    """Its own words name the process that is there, and the first goes on undisturbed."""
    opts = bus_process.opts
    with pytest.raises(AlreadyRunningError, match=f"process {bus_process.pid}.*another sock_dir"):
        EventSockets(
            pull=endpoints.master_pull(opts),
            pub=endpoints.master_pub(opts),
            fires=endpoints.master_fires(opts),
            store=MemoryStore(),
        )
    assert bus_process.call("ping") is True


def test_a_clean_end_leaves_no_socket_behind(master_opts):
    """Clients know at once that nobody is there; the next server finds its place free."""
    folder = Path(master_opts["sock_dir"])
    for _ in range(2):
        with running_bus(master_opts) as running:
            assert running.call("status")["last_seq"] == 0
        assert not list(folder.glob("*.ipc"))


def test_a_directory_that_is_missing_is_a_bus_error(place):
    """With the path in it."""
    with pytest.raises(BusError, match="missing"):
        _Local(place / "missing")


def test_a_path_that_is_too_long_is_a_bus_error(place):
    """And the lock is given back."""
    folder = place / ("x" * 110)
    folder.mkdir()
    with pytest.raises(BusError, match="cannot listen on"):
        _Local(folder)


def test_malformed_requests_are_counted_and_end_nothing(bus_process):
    """Hundreds of kinds of rubbish; then all is as before."""
    chance = random.Random(1)
    socket = connect(zmq.DEALER, endpoints.master_pull(bus_process.opts))
    rubbish = [[b""], [b"x"] * 50, [b"Fp", b"2"], [b"C", b"i", b"\xc1"], [b"", EVENT]]
    rubbish += [
        [chance.randbytes(chance.randrange(40)) for _ in range(chance.randrange(1, 6))]
        for _ in range(300)
    ]
    for parts in rubbish:
        socket.send_multipart(parts)
    wait_for(lambda: bus_process.call("status")["counters"]["malformed"] >= len(rubbish))
    publisher = Publisher(endpoints.master_pull(bus_process.opts))
    assert publisher.fire([EVENT], 10) == 1
    publisher.close()
    socket.close()


def test_other_kinds_of_sockets_end_nothing(bus_process, place):
    """A REQ, a PUSH, a raw connection, and a message beyond every limit."""
    import socket as system_socket

    address = endpoints.master_pull(bus_process.opts)
    for kind in (zmq.REQ, zmq.DEALER):
        client = connect(kind, address)
        client.send(b"x" * (MAX_FIRE_BYTES * 2))
        time.sleep(0.05)
        client.close()
    raw = system_socket.socket(system_socket.AF_UNIX)
    raw.connect(address.removeprefix("ipc://"))
    raw.sendall(b"GET / HTTP/1.0\r\n\r\n" * 10)
    raw.close()
    client = connect(zmq.XSUB, endpoints.master_pub(bus_process.opts))
    for message in (b"", b"\xff", b"\x01" * 300, b"\x01" + frames.SYNC, b"\x00\x00", b"\x02x"):
        client.send(message)
    client.close()
    assert bus_process.call("ping") is True


def test_a_malformed_fire_is_refused_to_its_sender(local):
    """A client of ours is told why; anybody else is not answered."""
    bus = local()
    bus.fire(3, [b"\n\n\x80"])
    answer = frames.parse_answer(bus.answers(1)[0])
    assert (answer.kind, answer.producer, answer.number) == (b"E", b"p", 3)
    assert isinstance(answer.error, DataError)
    assert "tag" in str(answer.error)
    bus.send(b"rubbish")
    assert bus.answers() == []
    assert bus.sockets.counters["malformed"] == 2


def test_too_large_an_event_is_refused_and_the_others_are_kept(local):
    """The limit is that of the server, whatever the client thinks."""
    bus = local(limits=Limits(max_event_size=100))
    bus.fire(1, [b"t\n\n" + wire.pack({"x": "y" * 200})])
    bus.fire(2)
    refused, kept = (frames.parse_answer(parts) for parts in bus.answers(2))
    assert isinstance(refused.error, TooLargeError)
    assert kept.kind == b"A"
    assert bus.sockets.counters["too_large"] == 1


def test_a_bare_event_is_kept_and_not_acknowledged(local):
    """As a foreign program sends it: one frame."""
    bus = local()
    bus.subscribe()
    bus.send(EVENT)
    assert bus.published(1) == [[EVENT, frames.pack_seq(1)]]
    assert bus.answers() == []


def test_two_producers_are_counted_apart(local):
    """The same number of each is another fire."""
    bus = local()
    bus.fire(1, producer=b"a")
    bus.fire(1, producer=b"b")
    bus.fire(1, producer=b"a")
    answers = [frames.parse_answer(parts) for parts in bus.answers(3)]
    assert [(answer.producer, answer.first_seq) for answer in answers] == [
        (b"a", 1),
        (b"b", 2),
        (b"a", 1),
    ]
    assert bus.sockets.counters["repeated"] == 1
    assert bus.store.last_seq == 2


def test_a_gap_is_asked_for(local):
    """What overtook a lost fire is neither kept nor acknowledged."""
    bus = local()
    bus.fire(2, base=1)
    assert bus.answers(1) == [frames.again(b"p", 0)]
    assert bus.sockets.counters["out_of_order"] == 1


def test_what_the_store_does_not_take_is_refused(local, caplog):
    """A full disk: everybody of that turn is told, nothing is published, and it goes on."""

    class Full(MemoryStore):
        def append(self, fires):
            raise JournalError("the disk is full")

    bus = local(store=Full())
    bus.subscribe()
    bus.fire(1)
    error = frames.parse_answer(bus.answers(1)[0]).error
    assert isinstance(error, JournalError)
    assert str(error) == "the disk is full"
    assert bus.published() == []
    assert "the disk is full" in caplog.text
    with pytest.raises(JournalError):
        bus.sockets.publish("t", {})


def test_the_servers_own_events_are_numbered_with_the_others(local):
    """`publish` gives the number."""
    bus = local()
    bus.subscribe(b"own")
    bus.fire(1)
    assert bus.sockets.publish("own/event", {"x": 1}) == 2
    ((raw, seq),) = bus.published(1)
    assert (wire.tag_of(raw), frames.unpack_place(seq)[0]) == ("own/event", 2)
    with pytest.raises(ValueError, match="empty"):
        bus.sockets.publish("", {})


def test_one_turn_is_bounded(local, monkeypatch):
    """In messages and in bytes, so that no flood keeps the loop from its other work."""
    bus = local()
    for _ in range(MAX_MESSAGES_PER_TURN + 500):
        bus.client.send(EVENT)
    time.sleep(0.2)
    bus.turn(1000)
    assert 0 < bus.sockets.counters["fired"] <= MAX_MESSAGES_PER_TURN
    wait_for(lambda: bus.turn() or bus.sockets.counters["fired"] == MAX_MESSAGES_PER_TURN + 500)
    monkeypatch.setattr(server_module, "MAX_BYTES_PER_TURN", 10)
    for _ in range(3):
        bus.client.send(EVENT)
    time.sleep(0.1)
    before = bus.sockets.counters["fired"]
    bus.sockets.handle(bus.sockets.sockets[0])
    assert bus.sockets.counters["fired"] == before + 1


def test_calls_are_answered(bus_process):
    """``ping``, ``status``, and an error for anything else."""
    assert bus_process.call("ping") is True
    status = bus_process.call("status")
    assert status["last_seq"] == 0
    assert len(status["bus_id"]) == 12
    assert set(status["counters"].values()) == {0}
    assert status["journal"]["files"] == 1
    with pytest.raises(RemoteError, match="no method"):
        bus_process.call("shutdown")


class _Hook:
    """Holds back each event whose tag begins with ``held``."""

    def __init__(self):
        self.done = []

    def __call__(self, tag, raw, done):
        if not tag.startswith("held"):
            return False
        self.done.append(done)
        return True


HELD = wire.pack_event("held", {})


def test_a_hook_holds_an_acknowledgement_back(local):
    """It comes when the hook says so, and other fires do not wait for it."""
    hook = _Hook()
    bus = local(on_event=hook)
    bus.fire(1, [EVENT, HELD, HELD])
    bus.fire(2)
    assert [frames.parse_answer(parts).number for parts in bus.answers(1)] == [2]
    hook.done[0](None)
    assert bus.answers() == []
    hook.done[1](None)
    answer = frames.parse_answer(bus.answers(1)[0])
    assert (answer.number, answer.first_seq) == (1, 1)


def test_a_held_fire_that_is_repeated_stays_held(local):
    """The question again is not the answer; who asked last is answered, once."""
    hook = _Hook()
    bus = local(on_event=hook)
    bus.fire(1, [HELD])
    bus.fire(1, [HELD])
    assert bus.answers() == []
    assert len(hook.done) == 1
    bus.client.close(linger=0)
    bus.client = connect(zmq.DEALER, bus.pull)
    bus.fire(1, [HELD])
    hook.done[0](None)
    assert _kinds(bus.answers(1)) == [b"A"]
    bus.fire(1, [HELD])
    assert _kinds(bus.answers(1)) == [b"A"]


def test_a_held_fire_that_fails_stays_failed(local, monkeypatch):
    """However often it is asked for; what is remembered is bounded."""
    hook = _Hook()
    bus = local(on_event=hook)
    bus.fire(1, [HELD, HELD])
    hook.done[0](JournalError("spool full"))
    hook.done[1](None)
    bus.fire(1, [HELD, HELD])
    answers = bus.answers(2)
    assert _kinds(answers) == [b"E", b"E"]
    assert str(frames.parse_answer(answers[1]).error) == "spool full"
    monkeypatch.setattr(server_module, "MAX_FAILED", 1)
    bus.fire(2, [HELD])
    hook.done[2](JournalError("again"))
    assert len(bus.sockets._failed) == 1


def test_a_hook_may_answer_at_once(local):
    """Within its own call, with success or an error; bare events have nobody to tell."""
    errors = [None, JournalError("no")]
    bus = local(on_event=lambda tag, raw, done: done(errors[0]) or True)
    bus.fire(1)
    errors.reverse()
    bus.fire(2)
    bus.send(EVENT)
    assert _kinds(bus.answers(2)) == [b"A", b"E"]


def test_what_a_hook_publishes_comes_after_what_it_saw(local):
    """Numbers leave in their order, so a listener sees no gap that is none."""
    bus = local(on_event=lambda *_: bus.sockets.publish("own", {}) < 0)
    bus.subscribe()
    for number in (1, 2, 3):
        parts = frames.fire(b"p", number, number, wire.pack([EVENT]))
        bus.client.send_multipart(parts)
    wait_for(lambda: bus.turn() or bus.sockets.counters["fired"] == 3)
    seqs = [frames.unpack_place(parts[1])[0] for parts in bus.published(6)]
    assert sorted(seqs) == seqs
    assert len(seqs) == 6


def test_a_vanished_client_is_no_harm(local):
    """Its answers go nowhere."""
    hook = _Hook()
    bus = local(on_event=hook)
    bus.fire(1, [HELD])
    bus.client.close(linger=0)
    time.sleep(0.05)
    hook.done[0](None)
    bus.client = connect(zmq.DEALER, bus.pull)
    bus.fire(1, producer=b"q")
    assert _kinds(bus.answers(1)) == [b"A"]


def test_a_client_that_reads_no_answers_slows_nobody(bus_process):
    """Its answers are dropped; another producer is served."""
    deaf = connect(zmq.DEALER, endpoints.master_pull(bus_process.opts), queue=10)
    publisher = Publisher(endpoints.master_pull(bus_process.opts))
    for number in range(1, 5000):
        deaf.send_multipart(frames.fire(b"deaf", number, number, wire.pack([EVENT])))
    assert publisher.fire([EVENT], 10)
    wait_for(lambda: bus_process.call("status")["last_seq"] == 5000)
    publisher.close()
    deaf.close()


def test_a_stopped_listener_slows_nobody_and_fills_no_memory(master_opts):
    """Its queue is bounded: the bus drops for it, and for it alone."""
    opts = master_opts.with_(listener_queue_size=4 << 20)
    with running_bus(opts) as running:
        quick = open_listener(endpoints.master_fires(opts))
        stopped = open_listener(endpoints.master_fires(opts))
        publisher = Publisher(endpoints.master_pull(opts))
        _fire_beside_a_stopped_one(publisher, quick, stopped, running.pid)
        for one in (stopped, quick, publisher):
            one.close()


def _fire_beside_a_stopped_one(publisher, quick, stopped, pid):
    stopped.wait_ready(5)
    quick.wait_ready(5)
    event = wire.pack_event("t", {"x": "y" * 1000, "_stamp": ""})
    heard, rounds, size = 0, 60, 1000
    for number in range(1, rounds + 1):
        assert publisher.fire_all([event] * size) == size
        while heard < number * size and (found := quick.receive(5)):
            heard += len(found.events)
    assert heard == rounds * size
    assert _memory(pid) < 100
    count = 0
    while found := stopped.receive(0.1):
        count += len(found.events)
    assert 0 < count < rounds * size


def _memory(pid):
    """Return the resident memory of a process in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no such process")


def test_on_loopback_ports_there_are_no_files(place):
    """``ipc_mode: tcp``, where there are no UNIX sockets."""
    probe = zmq.Context.instance().socket(zmq.ROUTER)
    ports = []
    for _ in range(3):
        ports.append(probe.bind_to_random_port("tcp://127.0.0.1"))
    probe.close(linger=0)
    pull, pub, fires = (f"tcp://127.0.0.1:{port}" for port in ports)

    def bind():
        try:
            return EventSockets(pull=pull, pub=pub, fires=fires, store=MemoryStore())
        except BusError:
            return None

    sockets = wait_for(bind)  # the probe's ports are given back a moment later
    with pytest.raises(BusError, match="cannot listen on"):
        EventSockets(pull=pull, pub=pub, fires=fires, store=MemoryStore())
    sockets.close()
    sockets.close()
