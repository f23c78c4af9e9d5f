"""Rubbish on every socket of a running system: it is counted, and nothing ends, grows or shouts."""

from __future__ import annotations

import contextlib
import random
import re
import socket
import time
from dataclasses import dataclass

import pytest
import zmq

import bus
from bus import endpoints, frames, rpc, wire
from bus.config import master_config, minion_config
from bus.direct import framing
from bus.errors import WireError
from bus.sockets import connect
from tests.integration.loads import MB, resident, scaled
from tests.support import wait_for
from tests.system import running

MESSAGES = scaled(20_000, 1_000_000)
POOL = 2_000
GROWTH = 40 * MB
"""What ZeroMQ's queues and Python's arenas take once, whatever comes after."""
LOG_GROWTH = 200_000
"""Bytes: some lines a kind of complaint each ten seconds, for as long as the longest form runs."""

FORGED = (
    b"\xdd\xff\xff\xff\xff",  # an array of four thousand million
    b"\xdf\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x01",
    b"\x91" * 5_000,
    b"\x81" * 5_000,
    b"\xc1",
    b"",
)
TAGS = (b"x" * 5_000, b"y" * 20_000, b"a\x00b", b"\xff\xfe", b"a\rb", b"")


@dataclass(frozen=True)
class Place:
    """A socket that takes requests, and the role whose process has it."""

    role: str
    address: str

    def malformed(self):
        """Return how many malformed messages its server has counted."""
        status = rpc.call(self.address, "status", timeout=30)
        return status.get("bus", status)["counters"].get("malformed", 0)


@pytest.fixture
def system(tmp_path):
    """A running system."""
    with running(tmp_path) as running_system:
        yield running_system


def _places(system):
    """Return the sockets that speak ZeroMQ."""
    master, minion = master_config(system.config), minion_config(system.config)
    return [
        Place("bus", endpoints.master_pull(master)),
        Place("minion", endpoints.minion_pull(minion)),
    ]


def _servers(system):
    """Return those that speak as the direct line does, and answer questions only."""
    master = master_config(system.config)
    return [
        Place("link", endpoints.master_link(master)),
        Place("reactor", endpoints.master_reactor(master)),
    ]


def _listened(system):
    master, minion = master_config(system.config), minion_config(system.config)
    bus, own = endpoints.master_pull(master), endpoints.minion_pull(minion)
    return [
        (Place("bus", bus), endpoints.master_pub(master), 1),
        (Place("minion", own), endpoints.minion_pub(minion), 1),
    ]


def _pid(system, role):
    log = (system.config / "log" / "up.log").read_text()
    return re.findall(rf"started {role} as process (\d+)", log)[-1]


def _rubbish(chance):
    """Return messages that are no request; the parser's own word is what makes them so."""
    pool = [[b"y" * 600_000 + b"\n\n\x80"]]
    while len(pool) < POOL:
        parts = chance.choice((_random_frames, _cut_request, _forged_request))(chance)
        try:
            frames.parse_request(parts)
        except WireError:
            pool.append(parts)
    return pool


def _random_frames(chance):
    return [chance.randbytes(chance.randrange(60)) for _ in range(chance.randrange(1, 7))]


def _request(chance, body=None):
    event = wire.pack_event("some/tag", {"x": 1})
    if chance.random() < 0.5:
        return frames.fire(b"somebody", 1, 1, wire.pack([event]) if body is None else body)
    parts = frames.call(b"ident", "status", {})
    return parts if body is None else [*parts[:-1], body]


def _cut_request(chance):
    parts = list(_request(chance))
    place = chance.randrange(len(parts))
    parts[place] = parts[place][: chance.randrange(len(parts[place]))]
    return parts[: chance.randrange(1, len(parts) + 1)]


def _forged_request(chance):
    tagged = chance.choice(TAGS) + b"\n\n" + chance.choice((b"\x80", *FORGED))
    body = chance.choice((*FORGED, wire.pack([tagged]), wire.pack([1, {}]), wire.pack(["x", 1])))
    return chance.choice(([tagged], _request(chance, body)))


@contextlib.contextmanager
def _unharmed(system, roles):
    """The processes stay, their memory is flat and the log short, and events go through."""
    pids = {role: _pid(system, role) for role in roles}
    before = {role: resident(pid) for role, pid in pids.items()}
    log = system.config / "log" / "up.log"
    size = log.stat().st_size
    yield
    for role, pid in pids.items():
        grown = resident(pid) - before[role]
        print(f"\n{role}: {grown / MB:+.1f} MB, log {log.stat().st_size - size:+,} bytes", end="")
        assert grown < GROWTH, role
    assert {role: _pid(system, role) for role in roles} == pids
    assert log.stat().st_size - size < LOG_GROWTH
    seq = system.fire("still/there", {})
    system.expect("still/there", after=seq - 1)


def _send_all(sender, pool, count):
    for number in range(count):
        sender.send_multipart(pool[number % POOL])


@pytest.mark.timeout(scaled(120, 3000))
def test_malformed_requests(system):
    """Every one is counted by the server that it was sent to."""
    pool = _rubbish(random.Random(5))
    places = _places(system)
    for place in places:
        _flood(place, pool, POOL)  # what is taken once is taken now
    with _unharmed(system, {place.role for place in places}):
        for place in places:
            _flood(place, pool, MESSAGES)


def _flood(place, pool, count):
    before = place.malformed()
    sender = connect(zmq.DEALER, place.address)
    _send_all(sender, pool, count)
    wait_for(lambda: place.malformed() >= before + count, f"the {place.role}'s count", 600)
    assert place.malformed() == before + count
    sender.close(linger=0)


def _lines(system):
    master, minion = master_config(system.config), minion_config(system.config)
    bus, own = endpoints.master_pull(master), endpoints.minion_pull(minion)
    return [
        (Place("bus", bus), endpoints.master_direct(master)),
        (Place("minion", own), endpoints.minion_direct(minion)),
        *((place, endpoints.socket_path(place.address)) for place in _servers(system)),
    ]


@pytest.mark.timeout(scaled(120, 3000))
def test_malformed_messages_on_the_direct_line(system):
    """What is no stream of messages ends its connection, what is no fire is counted."""
    pool = [framing.message(b"".join(parts)[:900] or b"x") for parts in _rubbish(random.Random(9))]
    with _unharmed(system, ("bus", "minion", "link", "reactor")):
        for place, path in _lines(system):
            _say_rubbish(place, path, pool)


def _say_rubbish(place, path, pool):
    before = place.malformed()
    for begin in range(0, MESSAGES, 1000):
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as sender:
            sender.connect(str(path))
            for number in range(begin, begin + 1000):
                sender.sendall(pool[number % POOL])
            sender.sendall(b"\xff" * 20)
    wanted = before + MESSAGES + MESSAGES // 1000
    wait_for(lambda: place.malformed() >= wanted, f"the {place.role}'s count", 600)
    assert place.malformed() == wanted


@pytest.mark.timeout(scaled(120, 3000))
def test_malformed_subscriptions(system):
    """What no listener sends is counted; what one wants is forgotten when it goes away."""
    listened = _listened(system)
    for each in listened:
        _subscribe_to_rubbish(*each, POOL)
    with _unharmed(system, {place.role for place, *_ in listened}):
        for each in listened:
            _subscribe_to_rubbish(*each, MESSAGES)


def _subscribe_to_rubbish(place, address, refused, count):
    """Say what is no subscription, and subscribe to any bytes: of two, so many are refused."""
    chance = random.Random(6)
    before = place.malformed()
    for begin in range(0, count, 10_000):
        sender = connect(zmq.XSUB, address, queue=0)
        for _ in range(begin, min(begin + 10_000, count)):
            word = chance.randbytes(chance.randrange(1, 40))
            sender.send(b"\x02" + word)
            sender.send(b"\x01" + word)
        # Some bytes happen to be a topic.
        done = int(min(begin + 10_000, count) * refused * 0.99)
        wait_for(lambda done=done: place.malformed() >= before + done, "the count", 60)
        sender.close(linger=0)


def test_bytes_that_are_no_zeromq(system):
    """Wrong greetings and lengths without end on each file and port, and messages too large."""
    files = [endpoints.socket_path(place.address) for place in _places(system)]
    files += [endpoints.socket_path(address) for _, address, _ in _listened(system)]
    files += [path for _, path in _lines(system)]
    chance = random.Random(8)
    with _unharmed(system, ("bus", "link", "reactor", "minion")):
        for _ in range(scaled(20, 500)):
            for raw in _wrong_bytes(chance):
                for file in files:
                    _say(socket.AF_UNIX, str(file), raw)
                _say(socket.AF_INET, ("127.0.0.1", _link_port(system)), raw)
        for place in _places(system):
            _send_too_much(place)


def _link_port(system):
    status = rpc.call(endpoints.master_link(master_config(system.config)), "status")
    return int(status["port"])


def _wrong_bytes(chance):
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + b"\x00" + bytes(31)
    yield chance.randbytes(200)
    yield b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
    yield greeting[:20]
    yield greeting + b"\x02" + b"\x7f" + b"\xff" * 7
    yield greeting + b"\x04\x26\x05READY" + bytes(60)
    yield greeting + b"\x06" + (1 << 62).to_bytes(8, "big") + bytes(1000)


def _say(family, address, raw):
    with socket.socket(family, socket.SOCK_STREAM) as plain:
        plain.settimeout(5)
        wait_for(lambda: _connects(plain, address))
        with contextlib.suppress(OSError):  # it may hang up before all was said
            plain.sendall(raw)
            plain.shutdown(socket.SHUT_WR)


def _connects(plain, address):
    """Connect, unless so many wait to be let in that the system takes no more just now."""
    try:
        plain.connect(address)
    except BlockingIOError:
        return False
    return True


def _send_too_much(place):
    """Send a frame beyond any limit; the server hangs up, and answers others."""
    sender = connect(zmq.DEALER, place.address)
    sender.send(bytes(32 * MB))
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline and not sender.poll(100):
        assert rpc.call(place.address, "ping", timeout=10)
    sender.close(linger=0)


@pytest.mark.timeout(scaled(120, 600))
def test_calls_that_fail(system):
    """Unknown methods and wrong parameters get an answer, and the log stays short."""
    with _unharmed(system, ("bus", "link", "reactor", "minion")):
        for place in (*_places(system), *_servers(system)):
            with contextlib.closing(rpc.open_connection(place.address)) as connection:
                for number in range(scaled(300, 20_000)):
                    method = ("reload?", "x" * 1000, "accept", "publish", "job")[number % 5]
                    with contextlib.suppress(bus.errors.BusError):
                        connection.call(method, {"id": [None], "x": b"\xff"})
