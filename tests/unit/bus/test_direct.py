"""The direct line: the way of one fire that is waited for, and what its ends do to each other."""

import contextlib
import itertools
import os
import resource
import signal
import socket
import stat
import threading
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus import endpoints, frames, wire
from bus.broker.audience import Audience
from bus.broker.limits import Limits, Listeners
from bus.broker.server import EventSockets
from bus.complaints import Complaints
from bus.direct import framing
from bus.direct.connecting import connect as line_connect
from bus.direct.firing import DirectLine
from bus.direct.framing import Inbox
from bus.direct.serving import DirectSocket
from bus.errors import DataError, FireRateError, NotRunningError, TooLargeError
from bus.journal import JournalReader, journal_path
from bus.publisher import Publisher
from bus.store import MemoryStore
from tests.support import SECONDS, open_descriptors, running_bus, wait_for

LIMIT = 1 << 20


def _event(number, **more):
    return wire.pack_event(f"t/{number}", {"n": number, **more})


def _body(*numbers):
    return wire.pack([_event(number) for number in numbers])


def _numbers(opts):
    with JournalReader(journal_path(opts["state_dir"])) as reader:
        return [wire.unpack_event(raw)[1]["n"] for _, raw in reader.scan()]


# -- the stream -------------------------------------------------------------------------------

MESSAGES = st.lists(
    st.tuples(st.binary(min_size=1, max_size=40), st.binary(max_size=300)), max_size=12
)


@given(messages=MESSAGES, cuts=st.lists(st.integers(0, 4000), max_size=20))
def test_however_a_stream_is_cut_its_messages_are_the_same(messages, cuts):
    """What one reading brings has nothing to do with where a message ends."""
    stream = b"".join(framing.message(*parts) for parts in messages)
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    inbox, found = Inbox(LIMIT), []
    for begin, end in itertools.pairwise(places):
        found += inbox.add(stream[begin:end])
    assert found == messages


@pytest.mark.parametrize(
    "lengths",
    [(0, 5), (framing.MAX_HEAD_BYTES + 1, 5), (5, LIMIT + 1), (65_535, 2**32 - 1)],
    ids=["no head", "a long head", "a long body", "all ones"],
)
@pytest.mark.parametrize("before", [b"", framing.message(b"h", b"b")], ids=["first", "later"])
def test_lengths_that_cannot_be(lengths, before):
    """They are refused before anything is kept for them."""
    raw = framing._LENGTHS.pack(*lengths)
    for cut in (0, 3, 5, len(raw)):
        inbox = Inbox(LIMIT)
        found = inbox.add(before + raw[:cut]) + inbox.add(raw[cut:])
        assert found == ([(b"h", b"b")] if before else [])
        assert "on the direct line" in str(inbox.error)
        assert inbox.add(bytes(100)) == []


@pytest.mark.parametrize(
    "parts",
    [
        frames.acknowledged(b"p", 7, 9, 1),
        frames.refused(b"p", 7, DataError("why: \0 and \n")),
        frames.again(b"p", 3),
    ],
    ids=["acknowledged", "refused", "again"],
)
def test_answers_are_those_of_the_other_way(parts):
    """Both ways have the same frames, whatever an error's text holds."""
    ((head, body),) = Inbox(LIMIT).add(framing.answer_message(parts))
    assert framing.answer_parts(head, body) == parts


# -- with a real bus ----------------------------------------------------------------------------


@pytest.fixture
def line(bus_process):
    """A publisher that has the direct line of a real bus."""
    made = _publisher(bus_process.opts)
    yield made
    made.close()


def _publisher(opts):
    return Publisher(endpoints.master_pull(opts), direct=endpoints.master_direct(opts))


def test_one_after_the_other(bus_process, line):
    """Numbers, order, and no other connection is opened for it."""
    assert [line.fire([_event(n)], 10) for n in range(50)] == list(range(1, 51))
    assert line.fire([_event(50), _event(51)], None) == 51
    assert _numbers(bus_process.opts) == list(range(52))
    assert line._socket is None


def test_both_ways_in_turn_keep_the_order(bus_process, line):
    """One who fires has one count, whichever way his fires go."""
    for n in range(0, 60, 3):
        assert line.fire([_event(n)], 10) == n + 1
        assert line.fire_all([_event(n + 1), _event(n + 2)]) == 2
    assert _numbers(bus_process.opts) == list(range(60))


def test_what_waits_on_the_other_way_is_not_overtaken(bus_process, line):
    """While a fire has no answer yet, the next one follows it on its way."""
    told = []
    line.send([_event(0)], on_done=lambda seq, error: told.append((seq, error)))
    assert line.fire([_event(1)], 10) == 2
    assert told == [(1, None)]
    assert _numbers(bus_process.opts) == [0, 1]


def test_the_file_is_for_its_owner_only(bus_process):
    """As those of the other sockets."""
    path = endpoints.master_direct(bus_process.opts)
    assert stat.S_IMODE(path.stat().st_mode) & 0o177 == 0
    assert path.parent == endpoints.socket_path(endpoints.master_pull(bus_process.opts)).parent


def test_refusals_are_those_of_the_other_way(bus_process, line):
    """A fire that is refused is an error with its words, and the line serves the next one."""
    large = wire.pack_event("t", {"n": "x" * 2_000_000}, 3_000_000)
    with pytest.raises(TooLargeError, match="option max_event_size allows"):
        line.fire([large], 10)
    with pytest.raises(DataError, match="event data that is no dict"):
        line.fire([b"t\n\n\x01"], 10)
    assert line.fire([_event(1)], 10) == 1
    assert line._socket is None


def test_the_largest_event_goes_through(bus_process, line):
    """Many readings make one message."""
    text = "x" * 1_000_000
    assert line.fire([_event(1, text=text)], 10) == 1
    assert line.fire([_event(2)], 10) == 2


def test_a_bus_that_is_killed_and_comes_back(bus_process, line):
    """A fire waits for it, and is kept once."""
    assert line.fire([_event(1)], 10) == 1
    bus_process.kill()
    found = []
    waiting = threading.Thread(target=lambda: found.append(line.fire([_event(2)], SECONDS)))
    waiting.start()
    bus_process.start()
    waiting.join(SECONDS)
    assert found == [2]
    assert _numbers(bus_process.opts) == [1, 2]


def test_an_answer_that_was_lost_is_given_again(bus_process, line):
    """The same fire, sent again after the connection was cut, is kept once."""
    path = endpoints.master_direct(bus_process.opts)
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as first:
        first.connect(str(path))
        first.sendall(framing.message(*frames.fire(line.producer, 1, 1, _body(1))))
        wait_for(lambda: _numbers(bus_process.opts) == [1])
    assert line.fire([_event(1)], 10) == 1
    assert line.fire([_event(2)], 10) == 2
    assert _numbers(bus_process.opts) == [1, 2]


def test_a_bus_that_does_not_answer(bus_process, line):
    """An error at the time-out; later answers to what nobody waits for are passed over."""
    assert line.fire([_event(1)], 10) == 1
    os.kill(bus_process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(NotRunningError, match="no bus answers"):
            line.fire([_event(2)], 0.05)
        with pytest.raises(NotRunningError, match="no bus answers"):
            line.fire([wire.pack_event("t", {"n": "x" * 1_000_000}, 2_000_000)], 0.05)
    finally:
        os.kill(bus_process.pid, signal.SIGCONT)
    assert line.fire([_event(3)], 10) in (2, 3)
    assert _numbers(bus_process.opts)[-1] == 3


def test_a_bus_that_hangs_up_each_time_is_not_hammered(place, monkeypatch):
    """Such as one that allows no message as long as this one: the pauses grow."""
    path, now, pauses = place / "line.ipc", [0.0], []

    def sleep(seconds):
        pauses.append(seconds)
        now[0] += seconds

    def hang_up():
        for _ in range(1000):
            try:
                server.accept()[0].close()
            except OSError:
                return

    monkeypatch.setattr("bus.direct.firing.time.sleep", sleep)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        thread = threading.Thread(target=hang_up)
        thread.start()
        line = DirectLine(path, lambda: now[0])
        assert line.fire(b"p", 1, _body(1), 5.0) is None
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert pauses[:-1] == sorted(pauses[:-1])
    assert len(pauses) < 100


def test_without_a_bus_the_other_way_waits_for_one(bus_process, line):
    """Whose bus starts while he waits need not try again."""
    bus_process.kill()
    endpoints.master_direct(bus_process.opts).unlink()
    with pytest.raises(NotRunningError, match="no bus answers"):
        line.fire([_event(1)], 0.05)
    bus_process.start()
    assert line.fire([_event(2)], SECONDS) == 1


def test_a_fork_leaves_the_parents_connection_alone(bus_process, line):
    """The child lets go of its copy, and the parent goes on."""
    assert line.fire([_event(1)], 10) == 1
    child = os.fork()
    if child == 0:
        line.leave()
        os._exit(0)
    os.waitpid(child, 0)
    assert line.fire([_event(2)], 10) == 2


def test_a_rate_is_one_for_both_ways(master_opts):
    """Who was told to be slower on one way is told so on the other, and is served later."""
    with running_bus(master_opts.with_(fire_rate=10)) as running:
        publisher = _publisher(running.opts)
        publisher.fire_all(map(_event, range(30)))
        with pytest.raises(FireRateError, match="option fire_rate of 10"):
            publisher.fire([_event(30)], 0.01)
        assert publisher.fire([_event(31)], SECONDS) == 31
        publisher.close()


# -- the server's end, in this process ------------------------------------------------------------


class _Local:
    """Event sockets with a direct line in this process, turned by hand."""

    def __init__(self, place, **arguments):
        self.path = place / "line.ipc"
        self.sockets = EventSockets(
            pull=f"ipc://{place}/pull.ipc",
            pub=f"ipc://{place}/pub.ipc",
            fires=endpoints.line_address(self.path),
            store=MemoryStore(),
            **arguments,
        )
        self.fd = self.sockets.sockets[-1]

    def connect(self):
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(SECONDS)
        made.connect(str(self.path))
        return made

    def turn(self):
        self.sockets.handle(self.fd)

    def status(self, name):
        return self.sockets.status()["counters"][name]


@pytest.fixture
def local(place):
    """Makes event sockets in this process."""
    made = []

    def make(**arguments):
        made.append(_Local(place, **arguments))
        return made[-1]

    yield make
    for one in made:
        one.sockets.close()
        assert not one.path.exists()


def _ask(client, number, body=None):
    client.sendall(framing.message(*frames.fire(b"p", number, number, body or _body(number))))


def _answer(client):
    inbox = Inbox(LIMIT)
    while not (found := inbox.add(client.recv(4096))):
        pass
    return frames.parse_answer(framing.answer_parts(*found[0]))


def test_several_clients_and_several_messages_at_once(local):
    """What has come is kept in one transaction, and each is answered what is his."""
    bus = local()
    clients = [bus.connect() for _ in range(3)]
    bus.turn()
    for number, client in enumerate(clients, 1):
        for n in (1, 2):
            body = _body(n)
            client.sendall(framing.message(*frames.fire(b"p%d" % number, n, n, body)))
    bus.turn()
    for client in clients:
        answers = Inbox(LIMIT).add(client.recv(4096))
        found = [frames.parse_answer(framing.answer_parts(*parts)) for parts in answers]
        assert [answer.number for answer in found] == [1, 2]
        client.close()
    assert bus.sockets.status()["last_seq"] == 6


def test_garbage_costs_a_client_its_connection_and_nobody_else(local):
    """It is counted, and who sends sense is served."""
    bus = local()
    good, bad = bus.connect(), bus.connect()
    bus.turn()
    bad.sendall(framing.message(*frames.fire(b"b", 1, 1, _body(1))) + b"\xff" * 100)
    _ask(good, 1)
    bus.turn()
    assert _answer(good).number == 1
    assert bus.status("malformed") == 1
    # What was whole before it is kept; the answer went to nobody.
    assert bad.recv(10) == b""
    assert bus.sockets.status()["last_seq"] == 2
    good.close()


@pytest.mark.parametrize("head", [b"X", b"C", b"F", b"F" + bytes(40)])
def test_what_is_framed_well_and_no_fire(local, head):
    """It is counted like the same on the other socket, and the client may go on."""
    bus = local()
    client = bus.connect()
    bus.turn()
    client.sendall(framing.message(head, b"\xc1"))
    bus.turn()
    assert bus.status("malformed") == 1
    _ask(client, 1)
    bus.turn()
    answers = Inbox(LIMIT).add(client.recv(4096))
    assert frames.parse_answer(framing.answer_parts(*answers[-1])).first_seq == 1
    client.close()


def test_a_client_who_goes_in_the_middle_leaves_nothing(local):
    """Neither an event nor a descriptor."""
    bus = local()
    before = open_descriptors()
    for _ in range(50):
        client = bus.connect()
        client.sendall(framing.message(*frames.fire(b"p", 1, 1, _body(1)))[:-3])
        client.close()
        bus.turn()
    wait_for(lambda: bus.turn() or open_descriptors() == before)
    assert bus.sockets.status()["last_seq"] == 0


def test_a_client_who_reads_no_answers_is_cut_off(local):
    """Its answers do not pile up in the bus."""
    bus = local()
    client = bus.connect()
    bus.turn()
    client.setblocking(False)
    number = 0

    def is_cut():
        nonlocal number
        number += 1
        try:
            _ask(client, number)
        except OSError:
            return True
        bus.turn()
        return False

    wait_for(is_cut)
    client.close()
    bus.turn()


def test_without_a_descriptor_a_client_is_turned_away(local):
    """The bus does not spin on it, says so, and serves again when there is one."""
    bus = local()
    good = bus.connect()
    bus.turn()
    waiting = bus.connect()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_descriptors() + 20, hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        with contextlib.suppress(OSError):
            while True:
                stack.callback(os.close, os.dup(0))
        bus.turn()
        assert waiting.recv(1) == b""
    assert bus.status("refused_clients") == 1
    _ask(good, 1)
    bus.turn()
    assert _answer(good).first_seq == 1
    for client in (good, waiting):
        client.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_turned_away_whatever_the_modes(local):
    """The kernel says who connects."""
    bus = local()
    bus.path.chmod(0o777)
    bus.path.parent.chmod(0o755)
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        os.seteuid(65_534)
        with contextlib.suppress(OSError):
            stranger = bus.connect()
            theirs.sendall(b"connected")
            theirs.sendall(stranger.recv(10) or b"end")
        os._exit(0)
    assert ours.recv(20) == b"connected"
    bus.turn()
    assert ours.recv(20) == b"end"
    os.waitpid(child, 0)
    assert bus.status("malformed") == 1
    ours.close()
    theirs.close()


def _direct_socket(path):
    store = MemoryStore()
    watcher = Audience(Listeners(10), store, Counter())
    return DirectSocket(path, LIMIT, 1 << 20, Complaints(), watcher)


def test_who_comes_while_a_turn_is_left_early_is_let_in(place):
    """That somebody waits to be let in is said once only."""
    path = place / "line.ipc"
    direct = _direct_socket(path)
    busy = [line_connect(path) for _ in range(3)]
    list(direct.receive())
    for client in busy:
        client.sendall(framing.message(b"a"))
    busy.append(line_connect(path))
    assert next(direct.receive())[1] == [(b"a", b"")]
    busy[-1].sendall(framing.message(b"b"))
    heard = [message for _ in range(2) for _, messages in direct.receive() for message in messages]
    assert sorted(heard) == [(b"a", b""), (b"a", b""), (b"b", b"")]
    for client in busy:
        client.close()
    direct.close()


def test_a_file_that_a_killed_server_left_is_replaced(place):
    """Nobody has to clear it away."""
    path = place / "line.ipc"
    _direct_socket(path)._listener.close()
    again = _direct_socket(path)
    assert DirectLine(path).open()
    again.close()
    assert not DirectLine(path).open()


def test_a_place_that_cannot_be(place):
    """One line that names it."""
    with pytest.raises(Exception, match=f"cannot listen on {place}/none/line.ipc"):
        _direct_socket(place / "none" / "line.ipc")


def test_a_held_answer_goes_to_who_asks_again(local):
    """A minion's bus answers late; by then its client may have connected anew."""
    held = []
    bus = local(on_event=lambda _tag, _event, done: held.append(done) or True, limits=Limits())
    first, second = bus.connect(), bus.connect()
    bus.turn()
    _ask(first, 1)
    bus.turn()
    first.close()
    _ask(second, 1)
    bus.turn()
    bus.turn()
    held[0](None)
    assert _answer(second).first_seq == 1
    second.close()
