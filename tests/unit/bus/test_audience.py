"""Listening over the direct line: who is sent what, what a slow one loses, and who is told."""

import select
import socket

import pytest

import bus
from bus import endpoints, frames, wire
from bus.broker.limits import Limits
from bus.broker.server import EventSockets
from bus.direct import framing
from bus.direct.hearing import LineListener
from bus.errors import ListenerLimitError, NotRunningError
from bus.event import get_event
from bus.sockets import await_input
from bus.store import MemoryStore
from tests.support import SECONDS, open_descriptors, running_bus, wait_for


class Local:
    """Event sockets with a direct line in this process, turned by hand."""

    def __init__(self, place, **limits):
        self.path = place / "line.ipc"
        self.store = MemoryStore()
        self.sockets = EventSockets(
            pull=f"ipc://{place}/pull.ipc",
            pub=f"ipc://{place}/pub.ipc",
            fires=endpoints.line_address(self.path),
            store=self.store,
            limits=Limits(**limits),
        )
        self.listeners = []

    def turn(self):
        for source in self.sockets.sockets:
            if await_input(source, 0):
                self.sockets.handle(source)

    def publish(self, *tags, size=0):
        for tag in tags:
            self.sockets.publish(tag, {"x": "." * size})

    def listen(self, prefix=""):
        listener = LineListener(self.path, prefix)
        self.listeners.append(listener)
        return listener

    def heard(self, listener):
        """Return what comes next, as the bus goes on."""
        return wait_for(lambda: self.turn() or listener.receive(0.01), "something to hear")

    def joined(self, prefix=""):
        """Return a listener that was told from where on it hears."""
        listener = self.listen(prefix)
        assert self.heard(listener).events == ()
        return listener

    def all_until(self, listener, last):
        """Return what a listener hears up to a number, and how much it lost by its own count."""
        numbers, lost = [], 0
        while True:
            heard = self.heard(listener)
            numbers += heard.numbers
            lost += heard.lost
            if heard.seq >= last:
                return numbers, lost

    def close(self):
        for listener in self.listeners:
            listener.close()
        self.sockets.close()


@pytest.fixture
def local(place):
    """Make event sockets in this process."""
    made = []

    def make(**limits):
        made.append(Local(place, **limits))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_each_hears_what_it_wants_and_from_where_on(local):
    """Everything, or what begins with a prefix; the mark says after which number."""
    here = local()
    here.publish("early")
    everything, some, nothing = here.listen(), here.listen("a/"), here.listen(None)
    for listener in (everything, some, nothing):
        mark = here.heard(listener)
        assert (mark.events, mark.seq, mark.bus_id) == ((), 1, here.store.bus_id)
    assert here.sockets.status()["listeners"] == 2
    here.publish("b/2", "a/3", "b/4")
    assert here.all_until(everything, 4) == ([2, 3, 4], 0)
    assert here.all_until(some, 3) == ([3], 0)
    here.turn()
    assert [one.receive(0) for one in (everything, some, nothing)] == [None, None, None]


def test_it_is_there_before_the_acknowledgement(local):
    """Who fires, and then looks without waiting, sees it."""
    here = local()
    listener = here.joined()
    here.publish("a")
    assert listener.receive(0).numbers == range(2 - 1, 2)


@pytest.mark.parametrize("prefix", ["", "a/"])
def test_a_slow_one_loses_and_is_told_how_much_and_nobody_else_does(local, prefix):
    """Its queue is full; the other's is not; the last loss before a silence is told too."""
    here = local(listener_queue_size=1 << 20)
    slow, quick = here.joined(prefix), here.joined(prefix)
    count, got = 4_000, []
    for number in range(1, count + 1):
        here.publish("a/x", size=1_000)
        if number % 100 == 0:
            got += here.all_until(quick, number)[0]
    assert got == list(range(1, count + 1))
    (status,) = here.sockets.status()["slow_listeners"]
    assert status["prefix"] == prefix
    assert status["pid"] > 0
    assert 0 < status["queued_bytes"] <= 1 << 20
    lost = status["lost"]
    assert lost == here.sockets.counters["dropped"] > 0
    numbers, counted = here.all_until(slow, count)
    assert len(numbers) == count - lost
    assert counted == (lost if prefix else 0)  # who hears everything sees it by the numbers
    assert here.sockets.status()["slow_listeners"] == [{**status, "queued": 0, "queued_bytes": 0}]
    here.publish("a/last")
    assert here.all_until(slow, count + 1) == ([count + 1], 0)


def test_what_is_sent_in_parts_arrives_whole(local):
    """A group larger than any buffer, between two small ones."""
    here = local()
    listener = here.joined()
    for size in (1, 900_000, 1):
        here.publish("a", size=size)
    sizes = []
    while len(sizes) < 3:
        sizes += [len(wire.unpack_event(one)[1]["x"]) for one in here.heard(listener).events]
    assert sizes == [1, 900_000, 1]


def test_at_the_limit_one_keeps_its_place_and_asks_again(local):
    """A newcomer is refused until somebody goes."""
    here = local(max_listeners=2)
    first, second = here.joined(), here.joined("a/")
    third = here.listen()
    with pytest.raises(ListenerLimitError, match=r"2 listeners, .* max_listeners allows"):
        here.heard(third)
    for listener in (first, second):
        assert listener._ask()
        assert here.heard(listener).seq == 0
    assert here.sockets.counters["refused_listeners"] == 1
    third._look_at = 0.0
    with pytest.raises(ListenerLimitError):
        here.heard(third)
    first.close()
    third._look_at = 0.0
    wait_for(lambda: here.turn() or len(here.sockets._listeners) == 1)
    assert here.heard(third).seq == 0
    here.publish("a/1")
    assert here.all_until(second, 1) == here.all_until(third, 1) == ([1], 0)


def test_the_last_one_to_want_a_prefix_takes_it_along(local):
    """Nothing is put together for nobody."""
    here = local()
    gone, stays = here.joined("a/"), here.joined("a/")
    gone.close()
    wait_for(lambda: here.turn() or len(here.sockets._listeners) == 1)
    here.publish("a/1")
    assert here.all_until(stays, 1) == ([1], 0)
    stays.close()
    wait_for(lambda: here.turn() or not here.sockets._listeners)
    assert here.sockets._audience._choices._sent == {}
    here.publish("a/2")


@pytest.mark.parametrize(
    "message",
    [
        framing.message(framing.LISTEN),
        framing.message(framing.LISTEN + b"\x02", b"a"),
        framing.message(framing.LISTEN + b"\x00", b"a"),
        framing.message(framing.LISTEN + b"\x01", b"a" * 2_000),
    ],
)
def test_a_wish_that_cannot_be_read_is_counted(local, message):
    """And the connection serves on."""
    here = local()
    listener = here.joined()
    listener._socket.send(message)
    wait_for(lambda: here.turn() or here.sockets.counters["malformed"] == 1)
    here.publish("a")
    assert here.all_until(listener, 1) == ([1], 0)


def test_who_asks_and_reads_nothing_is_cut_off(local):
    """Marks are not dropped, but they do not pile up either."""
    here = local(listener_queue_size=1 << 20)
    listener = here.joined()
    here.publish(*["a"] * 300, size=10_000)  # from here on everything has to wait
    question = framing.listen_message("")

    def is_gone():
        try:
            for _ in range(100):
                listener._socket.send(question)
        except OSError:
            pass
        here.turn()
        return here.sockets.status()["listeners"] == 0

    wait_for(is_gone)


def test_a_bus_that_goes_and_comes_back_on_the_same_descriptor(place, master_opts):
    """One who polls the descriptor of a listener need not know that the connection is another."""
    del place
    path = endpoints.line_path(endpoints.master_fires(master_opts))
    with running_bus(master_opts) as running:
        listener = LineListener(path)
        listener.wait_ready(SECONDS)
        poller = select.epoll()
        poller.register(listener.socket, select.EPOLLIN)
        with get_event("master", opts=master_opts, listen=False) as events:
            assert events.fire_event({}, "a")
            assert poller.poll(SECONDS)
            assert listener.receive(0).seq == 1
            running.restart()
            mark = wait_for(lambda: listener.receive(0.01))
            assert (mark.events, mark.seq) == ((), 1)
            assert events.fire_event({}, "b", timeout=10_000)
            assert poller.poll(SECONDS)
            assert listener.receive(SECONDS).seq == 2
        poller.close()
        listener.close()
        assert listener.read() is None
        listener.wait(SECONDS)  # there is nothing to wait for


class _Server:
    """A socket that says what no bus would."""

    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self._client = None

    def say(self, *messages):
        if self._client is None:
            self._client, _ = self._socket.accept()
        self._client.sendall(b"".join(messages))

    def close(self):
        for one in (self._client, self._socket):
            one.close()


def test_what_cannot_be_read_is_passed_over_and_said(place, caplog):
    """A message of another kind, a place or a list that is none; what comes after is heard."""
    server = _Server(place / "line.ipc")
    listener = LineListener(place / "line.ipc")
    assert listener.read() is None
    good = framing.group_message(frames.Group(wire.pack([b"x\n\n\x80"]), 7, 1, 0))
    server.say(
        framing.message(b"Z"),
        framing.message(framing.GROUP + b"short"),
        framing.message(framing.MARK),
        framing.group_message(frames.Group(b"\xc1", 5, 1, 0)),
        framing.group_message(frames.Group(wire.pack([b"x", b"y"]), 6, 1, 0)),
        good,
    )
    heard = listener.receive(SECONDS)
    assert (heard.seq, len(caplog.records)) == (7, 5)
    assert "unknown kind b'Z'" in caplog.text
    server.say(b"\xff" * 40)
    assert listener.receive(0.05) is None
    assert "cannot be read" in caplog.records[-1].getMessage()
    listener.close()
    server.close()


def test_a_mark_takes_its_time(place):
    """A server that says nothing is no bus; a time-out is kept."""
    server = _Server(place / "line.ipc")
    listener = LineListener(place / "line.ipc")
    with pytest.raises(NotRunningError, match=r"no bus answers at .*line\.ipc"):
        listener.wait_ready(0.05)
    mark = framing.Mark(3, 0, "0123456789ab")
    group = framing.group_message(frames.Group(wire.pack([b"x\n\n\x80"]), 4, 1, 0))
    server.say(framing.mark_message(mark), group)
    assert listener.wait_ready(SECONDS) == 3
    server.say(framing.mark_message(mark._replace(last_seq=4)))
    assert listener.wait_ready(SECONDS) == 4
    assert listener.has_read  # what came before that mark
    assert listener.receive(0).numbers == range(4, 5)
    listener.close()
    server.close()


def test_listeners_that_come_and_go_leave_nothing(bus_process):
    """No descriptor here, none in the bus, and nobody is counted for ever."""
    path = endpoints.line_path(endpoints.master_fires(bus_process.opts))
    before = open_descriptors(), open_descriptors(bus_process.pid)
    for _ in range(300):
        listener = LineListener(path, "a/")
        listener.wait_ready(SECONDS)
        assert listener.socket > 0
        listener.close()
    wait_for(lambda: bus_process.call("status")["listeners"] == 0)
    assert open_descriptors() <= before[0] + 1
    wait_for(lambda: open_descriptors(bus_process.pid) <= before[1] + 1)


@pytest.mark.parametrize("then", ["commit", "close"])
def test_one_may_commit_and_close_when_told_of_a_gap(master_opts, then):
    """`on_gap` is called with nothing held."""
    opts = master_opts.with_(listener_queue_size=1 << 20)
    told = []
    with running_bus(opts), bus.connect("master", opts, timeout=SECONDS) as events:

        def on_gap(first, last):
            told.append((first, last))
            if then == "close":
                listening.close()
            else:
                assert listening.gaps

        listening = events.listen("t/*", on_gap=on_gap)
        assert events.fire_events(("t/x", {"x": "y" * 300}) for _ in range(20_000)) == 20_000
        while not told:
            listening.next(0.2)
        assert listening.closed == (then == "close")
        assert listening.lost == (0 if then == "close" else sum(b - a + 1 for a, b in told))


def test_salt_s_library_says_once_that_there_is_no_room(master_opts, caplog):
    """A loop of `get_event` goes on; it hears again when there is room."""
    opts = master_opts.with_(max_listeners=1)
    with running_bus(opts) as running:
        first = get_event("master", opts=opts)
        with get_event("master", opts=opts) as second:
            assert "not listening: the bus has 1 listeners" in caplog.text
            second._listener._look_at = 0.0
            assert second.get_event(wait=0.1) is None
            assert caplog.text.count("not listening") == 2
            first.destroy()
            wait_for(lambda: running.call("status")["listeners"] == 0)
            second._listener._look_at = 0.0
            assert second.get_event(wait=0.01) is None
            assert second.fire_event({"n": 1}, "t")
            assert second.get_event(wait=SECONDS, tag="t")["n"] == 1


def test_whether_all_of_a_turn_or_some_of_it_is_chosen(local):
    """The numbers are the same; only in the second case they have to be sent along."""
    here = local()
    listener = here.joined("a/")
    for tags, numbers in ((("a/1", "a/2"), [1, 2]), (("b/3", "a/4", "b/5"), [4]), (("a/6",), [6])):
        fire = frames.Fire(b"", 0, 0, [wire.pack_event(tag, {}) for tag in tags])
        here.store.append([fire])
        here.sockets._publish([fire])
        heard = here.heard(listener)
        assert list(heard.numbers) == numbers
        assert [wire.tag_of(one)[:2] for one in heard.events] == ["a/"] * len(numbers)
        assert heard.lost == 0
