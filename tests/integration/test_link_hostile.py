"""Hostile bytes on the link's port: nothing ends, grows or shouts, and nobody else is hurt."""

from __future__ import annotations

import contextlib
import itertools
import random
import socket
import time

import pytest
import zmq
from zmq.utils import z85

from bus import endpoints, rpc, wire
from bus.errors import AnswerTimeoutError, NotRunningError
from bus.link import protocol
from bus.link.filerequests import FILE_BYTES_AT_ONCE, FILE_BYTES_PER_SECOND
from bus.link.port import RECEIVE_QUEUE
from bus.link.protocol import EVENT, RETURN, Batch, Hello, Item, Ping, Request
from tests.integration.loads import MB, SOAK, descriptors, resident, scaled
from tests.integration.test_malformed import FORGED
from tests.links import LinkedMaster, LinkedMinion, World, started, suspended
from tests.proxy import Proxy, say
from tests.rawlink import RawLink, stranger
from tests.support import wait_for

WORLD = World(quick=not SOAK)
GROWTH = 40 * MB
"""What ZeroMQ's queues and Python's arenas take once, whatever comes after."""
LOG_LINES = scaled(60, 2_000)
"""Some lines a kind of complaint each ten seconds, for as long as the longest form runs."""
ROUNDS = scaled(15, 400)
DESCRIPTORS = 150
BIG = "_modules/big.py"
FLOOD = scaled(4_000, 100_000)

pytestmark = pytest.mark.timeout(scaled(180, 3600))


@pytest.fixture
def master(place):
    """A master's bus and link, where a key has to be accepted."""
    made = LinkedMaster(place / "m", WORLD, auto_accept=False)
    with started(made):
        yield made


@pytest.fixture
def minion(place, master):
    """A minion like any other, through a proxy that records what it says."""
    with Proxy(master.port) as proxy:
        made = LinkedMinion(place / "n", "web1", master, WORLD, master_port=proxy.port)
        made.proxy = proxy
        with started(made):
            wait_for(lambda: master.keys.refresh() or master.keys.list()["minions_pre"], "its key")
            master.keys.accept("web1")
            made.wait_connected()
            yield made


@contextlib.contextmanager
def _unharmed(master, minion, growth=GROWTH):
    """The processes stay, their memory is bounded and the log short; jobs and events go on."""
    pids = {"link": master.link.pid, "bus": master.bus.pid}
    before = {name: resident(pid) for name, pid in pids.items()}
    lines = master.log.count("\n")
    yield
    for name, pid in pids.items():
        grown = resident(pid) - before[name]
        print(f"\n{name}: {grown / MB:+.1f} MB, {master.log.count(chr(10)) - lines} lines", end="")
        assert grown < growth, name
    assert master.log.count("\n") - lines < LOG_LINES
    assert master.pings(minion.id)
    with minion.events() as events:
        assert events.fire_master({}, "still/there", timeout=20_000)
    wait_for(lambda: master.events("still/there"), "the event")
    assert "Traceback" not in master.log


def _fire(minion, first, last):
    with minion.events() as events:
        for number in range(first, last + 1):
            assert events.fire_master({"n": number}, "up", timeout=30_000)


def _arrived(master):
    return [data["data"]["n"] for data in master.events("up")]


def _changed(chance, recording):
    """Yield what an enemy on the way can make of a recording."""
    size = len(recording)
    yield recording
    yield recording[: chance.randrange(1, size)]
    flipped = bytearray(recording)
    for _ in range(3):
        flipped[chance.randrange(size)] ^= 1 << chance.randrange(8)
    yield bytes(flipped)
    ends = sorted(chance.randrange(1, size) for _ in range(4))
    pieces = [recording[a:b] for a, b in zip([0, *ends], [*ends, size], strict=True)]
    chance.shuffle(pieces)
    yield b"".join(pieces)
    # The greeting and hello as they were, and then what belongs to a later time.
    yield recording[:264] + recording[chance.randrange(264, size) :]
    yield recording[:264] + chance.randbytes(400)


def test_recorded_traffic(master, minion):
    """Replayed, cut, changed and in another order, it is worth nothing."""
    _fire(minion, 1, 20)
    assert master.pings("web1")
    recording = max(minion.proxy.recorded(), key=len)
    assert len(recording) > 2_000
    events = len(master.tags())
    chance = random.Random(1)
    with _unharmed(master, minion):
        for _ in range(ROUNDS):
            for raw in _changed(chance, recording):
                say(master.port, raw, wait=0.01)
        assert _arrived(master) == list(range(1, 21))
        assert len(master.tags()) == events
    assert minion.log.count("the link to the master is connected") == 1


def test_bytes_that_change_on_the_way(master, minion):
    """A damaged connection is made anew, and each event still comes once and in order."""
    chance = random.Random(2)

    def damage(data, _up):
        kind = chance.randrange(12)
        place = chance.randrange(len(data))
        if kind == 0:
            return (
                data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :]
            )
        return data[:place] if kind == 1 else data

    with _unharmed(master, minion):
        minion.proxy.alter = damage
        _fire(minion, 1, scaled(150, 500))
        minion.proxy.alter = None
        minion.proxy.reset()
        minion.wait_connected()
        wait_for(lambda: len(_arrived(master)) >= scaled(150, 500), "the events", 60)
    assert _arrived(master) == list(range(1, scaled(150, 500) + 1))
    assert minion.proxy.accepted > 1


def _greeting(version, mechanism, as_server=0):
    return (
        b"\xff\0\0\0\0\0\0\0\x01\x7f"
        + bytes(version)
        + mechanism.ljust(20, b"\0")
        + bytes([as_server])
        + bytes(31)
    )


def _greetings():
    for mechanism in (b"CURVE", b"NULL", b"PLAIN", b"GSSAPI", b"", b"\xff" * 20):
        for version in ((3, 0), (3, 1), (3, 9), (2, 0), (1, 0), (0, 0), (255, 255)):
            for as_server in (0, 1):
                yield _greeting(version, mechanism, as_server)


def _commands(chance):
    hello = b"\x05HELLO\x01\0" + bytes(72)
    yield b""
    yield b"\x04" + bytes([len(hello) + 122]) + hello + chance.randbytes(122)
    yield b"\x04\x04HELL"
    yield b"\x04\x08\x07UNKNOWN"
    yield b"\x04\x26\x05READY" + bytes(32)
    yield b"\x04\x0a\x05HELLO\x01a\x01b"
    yield b"\x06" + (1 << 63).to_bytes(8, "big") + bytes(500)
    yield b"\x06" + (200).to_bytes(8, "big") + chance.randbytes(200)
    yield b"\x02" + b"\xff" * 8
    yield b"\x00\xff" + chance.randbytes(255)
    yield b"\x01\x00" * 500
    yield b"\xff\xff"


def test_wrong_greetings_and_lengths(master, minion):
    """Each version and mechanism, followed by each kind of wrong command and frame."""
    chance = random.Random(3)
    with _unharmed(master, minion):
        for _ in range(scaled(1, 40)):
            for greeting in _greetings():
                say(master.port, greeting[: chance.randrange(1, 64)])
                for command in _commands(chance):
                    say(master.port, greeting + command)


def test_an_unknown_key_floods(master, minion):
    """Frames of all sizes, messages, and rubbish: it hears its state, and is in nobody's way."""
    chance = random.Random(4)
    largest = protocol.max_message(int(master.opts["max_event_size"]))
    item = Item(EVENT, "evil", wire.pack({"x": "y" * 1_000}))
    said = [
        Ping(),
        Request(1, {"file": "_modules/x.py"}),
        Batch(b"l" * 16, 1, [item] * 50),
        *FORGED,
        *(chance.randbytes(size) for size in (1, 100, 10_000, largest // 2)),
    ]
    with RawLink(master.port, master.pair.public, stranger(), queue=10) as peer:
        assert peer.ask(Hello("evil", "1", {})).state == "pending"
        with _unharmed(master, minion):
            for number in range(FLOOD):
                peer.say(said[number % len(said)] or b"\0")
                if number % 100 == 0:
                    peer.listen()
    assert "evil" not in master.tags()
    counters = master.counters()
    assert counters["malformed"] > FLOOD // len(said)
    assert "failed" not in counters


def _say_until_stuck(peer, message, most):
    """Send until nothing more is taken; return how often."""
    for said in range(most):
        try:
            peer.say(message)
        except zmq.Again:
            return said
    return most


def test_a_flood_while_the_bus_is_stopped(master, minion):
    """What the link cannot take now waits outside of its memory, but for a bounded part."""
    largest = protocol.max_message(int(master.opts["max_event_size"]))
    pair = stranger()
    master.keys.add("web2", pair.public)
    # A message is there up to four times while it is read, and what was freed is not given back.
    bound = GROWTH + 4 * RECEIVE_QUEUE * largest
    with (
        RawLink(master.port, master.pair.public, pair) as busy,
        RawLink(master.port, master.pair.public, stranger(), queue=10) as peer,
        _unharmed(master, minion, growth=bound),
    ):
        busy.ask(Hello("web2", "1", {}))
        peer.ask(Hello("evil", "1", {}))
        before = resident(master.link.pid)
        with suspended(master.bus.pid):
            # More than the link may have on its way without an answer of the bus.
            for number in range(1, 151):
                busy.say(Batch(b"l" * 16, number, [Item(EVENT, "fill", wire.pack({}))]))
            peer.socket.set(zmq.SNDTIMEO, 2_000)
            said = _say_until_stuck(peer, b"x" * (largest - 1_000), 40 * RECEIVE_QUEUE)
            assert said < 40 * RECEIVE_QUEUE
            grown = resident(master.link.pid) - before
            print(f"\nstopped: {grown / MB:+.1f} MB", end="")
            assert grown < bound
        _fire(minion, 1, 20)
        wait_for(lambda: _arrived(master) == list(range(1, 21)), "the events", 60)


def test_many_new_ids(master, minion):
    """Each hello of another key and id waits to be accepted, and is an event at most."""
    count = scaled(60, 500)
    with _unharmed(master, minion):
        for number in range(count):
            with RawLink(master.port, master.pair.public, stranger()) as peer:
                assert peer.ask(Hello(f"evil{number}", "1", {})).state == "pending"
    told = [data for data in master.events("salt/auth") if data["id"].startswith("evil")]
    assert 0 < len(told) <= count


def test_an_accepted_minion_forges(master, minion):
    """Messages that are none, items that are none, data that is none: refused, and counted."""
    pair = stranger()
    master.keys.add("web2", pair.public)
    chance = random.Random(6)
    with RawLink(master.port, master.pair.public, pair) as peer:
        peer.ask(Hello("web2", "1", {}))
        wait_for(lambda: master.connected() == ["web1", "web2"], "both")
        jid = master.publish("web1", "test.ping")["jid"]
        number = 0
        with _unharmed(master, minion):
            for turn in range(FLOOD // 4):
                forged = FORGED[turn % len(FORGED)]
                number += 1
                items = [
                    [EVENT, "evil/data", forged],
                    [RETURN, jid, wire.pack({"return": "evil"})],
                    [EVENT, f"salt/job/{jid}/ret/web1", wire.pack({"return": "evil"})],
                    [RETURN, chance.choice(["", "x" * 1000, "2" * 20]), forged],
                ]
                peer.say(wire.pack([2, b"l" * 16, number, items]))
                peer.say(forged or b"\0")
                peer.say(wire.pack([chance.randrange(50), *[forged] * chance.randrange(5)]))
                peer.say(Hello("web1", "1", {}))  # who is another's from here on is nobody
                peer.say(Hello("web2", "1", {}))
                if turn % 50 == 0:
                    peer.listen()
            wait_for(lambda: master.counters()["refused"] >= number * 4, "the count", 60)
        assert "failed" not in master.counters()
    assert not [tag for tag in master.tags() if tag.startswith("evil")]
    assert [data["return"] for data in master.events(f"salt/job/{jid}/ret/web1")] == [True]
    assert master.keys.list()["minions_denied"] == ["web1"]


def test_an_accepted_minion_that_reads_nothing(master, minion, place):
    """What it asks for piles up to a limit, and is gone with its connection."""
    modules = place / "m" / "files" / "_modules"
    modules.mkdir(parents=True)
    (modules / "big.py").write_bytes(b"#" * (MB - 100))
    pair = stranger()
    master.keys.add("web2", pair.public)
    bound = 2 * (FILE_BYTES_AT_ONCE + 10 * FILE_BYTES_PER_SECOND)
    with (
        RawLink(master.port, master.pair.public, pair, queue=1) as peer,
        _unharmed(master, minion, growth=bound),
    ):
        peer.ask(Hello("web2", "1", {}))
        before = resident(master.link.pid)
        for number in range(scaled(1_500, 20_000)):
            with contextlib.suppress(zmq.Again):  # it was given up meanwhile
                peer.socket.send(protocol.encode(Request(number, {"file": BIG})), zmq.NOBLOCK)
            time.sleep(0.001)
        grown = resident(master.link.pid) - before
        print(f"\nunread: {grown / MB:+.1f} MB", end="")
        assert grown < bound
        assert master.counters()["files_not_sent"]


def _crowd(stack, master, number):
    """Open more connections that say nothing, and change a key, which has to be read."""
    for _ in range(DESCRIPTORS // 2):
        plain = stack.enter_context(socket.socket())
        plain.settimeout(1)
        with contextlib.suppress(OSError):
            plain.connect(("127.0.0.1", master.port))
            plain.sendall(b"\xff")
    master.keys.submit(f"other{number}", z85.encode(b"k" * 32))


def test_connections_that_say_nothing(place):
    """More than the process may have open: those that are there stay, and it goes on after."""
    world = World(quick=not SOAK, descriptors=DESCRIPTORS)
    master = LinkedMaster(place / "m", world)
    with started(master):
        minion = LinkedMinion(place / "n", "web1", master, WORLD)
        with started(minion):
            minion.wait_connected()
            numbers = itertools.count()
            with _unharmed(master, minion):
                address = endpoints.master_link(master.opts)
                with (
                    contextlib.closing(rpc.open_connection(address)) as kept,
                    contextlib.ExitStack() as stack,
                ):
                    assert kept.call("minions.connected") == ["web1"]
                    wait_for(
                        lambda: (
                            _crowd(stack, master, next(numbers))
                            or "Too many open files" in master.log
                        ),
                        "no descriptor to be left",
                        60,
                    )
                    for _ in range(20):  # who is there is served, who is new is told why not
                        assert kept.call("minions.connected") == ["web1"]
                        _crowd(stack, master, next(numbers))
                        with contextlib.suppress(NotRunningError, AnswerTimeoutError):
                            assert rpc.call(address, "ping", timeout=1)
                wait_for(lambda: descriptors(master.link.pid) < DESCRIPTORS // 2, "some to be", 60)
            assert minion.log.count("the link to the master is connected") == 1
