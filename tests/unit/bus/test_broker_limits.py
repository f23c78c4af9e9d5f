"""The limits of a bus: the arithmetic, and what a sender and a listener notice of them."""

import threading
import time

import pytest
import zmq

from bus import endpoints, frames, native, rpc, wire
from bus.broker.limits import MAX_SENDERS, Limits, Listeners, Rates
from bus.broker.server import EventSockets
from bus.config.options import options_of
from bus.errors import FireRateError, ListenerLimitError, WireError
from bus.event import get_event
from bus.listener import open_listener
from bus.publisher import Publisher
from bus.sockets import await_input
from bus.store import MemoryStore
from tests.support import running_bus, wait_for


class _Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_the_limits_are_those_of_the_options(master_opts):
    """Every one is an option, and the defaults agree."""
    assert Limits.of(master_opts) == Limits()
    for name in Limits.__slots__:
        assert options_of("master")[name].default == getattr(Limits(), name)


def test_a_second_s_worth_may_come_at_once():
    """Then the sender waits until something is earned; others do not."""
    clock = _Clock()
    rates = Rates(10, clock)
    for _ in range(10):
        assert rates.refusal(b"a") is None
        rates.charge(b"a", 1)
    assert "fire_rate of 10 events a second" in str(rates.refusal(b"a"))
    assert rates.refusal(b"b") is None
    clock.now += 0.11
    assert rates.refusal(b"a") is None


def test_a_large_fire_passes_on_credit():
    """It is not stuck for ever behind a small rate; its sender pays for it with time."""
    clock = _Clock()
    rates = Rates(10, clock)
    rates.charge(b"a", 100)
    clock.now += 8.9
    assert isinstance(rates.refusal(b"a"), FireRateError)
    clock.now += 0.3
    assert rates.refusal(b"a") is None
    clock.now += 1000
    assert rates.refusal(b"a") is None
    rates.charge(b"a", 10)
    assert rates.refusal(b"a")


def test_senders_that_are_gone_are_forgotten():
    """A thousand short-lived ones cost nothing for ever."""
    rates = Rates(1, _Clock())
    rates.charge(b"first", 5)
    assert rates.refusal(b"first")
    for number in range(MAX_SENDERS):
        rates.charge(b"%d" % number, 5)
    assert rates.refusal(b"first") is None


def test_listeners_are_counted_by_their_topics():
    """One that asks again is the same; one that goes makes room."""
    listeners = Listeners(2)
    assert listeners.join(b"a") is None
    assert listeners.join(b"b") is None
    assert listeners.join(b"a") is None
    assert "max_listeners" in str(listeners.join(b"c"))
    listeners.leave(b"a")
    listeners.leave(b"unknown")
    assert len(listeners) == 1
    assert listeners.join(b"c") is None


@pytest.fixture
def limited(master_opts):
    """Runs a master's bus with the limits given."""
    running = []

    def run(**limits):
        running.append(running_bus(master_opts.with_(**limits)))
        return running[-1].__enter__().opts

    yield run
    for each in running:
        each.__exit__(None, None, None)


def _event(tag="t"):
    return wire.pack_event(tag, {})


def test_who_fires_too_fast_waits(limited):
    """Nothing is lost: the burst passes, the rest comes as fast as it may."""
    opts = limited(fire_rate=20)
    begun = time.monotonic()
    with native.connect("master", opts) as connection:
        for number in range(30):
            connection.fire("t", {"n": number}, timeout=10)
        assert time.monotonic() - begun >= 0.4
        assert [event.data["n"] for event in connection.listen("t", since=0, timeout=0.2)] == list(
            range(30)
        )


def test_who_does_not_wait_is_told_the_option(limited):
    """False from Salt's library, an error that names it from the native one."""
    opts = limited(fire_rate=1)
    with native.connect("master", opts) as connection:
        connection.fire_events([("t", {})] * 100)
        with pytest.raises(FireRateError, match="option fire_rate of 1 "):
            connection.fire("t", {}, timeout=0.3)
        with pytest.raises(FireRateError, match="fire_rate"):
            connection.fire_events([("t", {})], timeout=0.3)
    with get_event("master", opts=opts, listen=False) as events:
        assert events.fire_event({}, "t")
        assert not events.fire_event({}, "t", timeout=300)


def test_one_who_fires_too_fast_slows_nobody(limited):
    """Each sender has a rate of its own."""
    opts = limited(fire_rate=100)
    flood = Publisher(endpoints.master_pull(opts))
    ended = threading.Event()

    def fire():
        while not ended.is_set():
            flood.send([_event("flood")], on_done=lambda seq, error: None)
            flood.handle()
            time.sleep(0.0005)

    thread = threading.Thread(target=fire)
    thread.start()
    try:
        polite = Publisher(endpoints.master_pull(opts))
        numbers = [polite.fire([_event("polite")], 5) for _ in range(50)]
        assert numbers == sorted(set(numbers))
        polite.close()
    finally:
        ended.set()
        thread.join()
        flood.close()


def test_a_bare_event_that_comes_too_fast_is_counted(place):
    """It asks for no answer, so its loss is said in the log and counted."""
    with _local(place, fire_rate=1) as (sockets, client):
        client.send(_event())
        client.send(_event())
        wait_for(lambda: _turn(sockets) or sockets.counters["too_fast"])
        assert sockets.counters == {"fired": 1, "published": 1, "too_fast": 1}


def test_a_call_is_never_too_fast(place):
    """Whoever fires too fast can still ask why."""
    with _local(place, fire_rate=1) as (sockets, client):
        client.send(_event())
        client.send_multipart(frames.call(b"1", "ping", {}))
        wait_for(lambda: _turn(sockets) or client.poll(10))
        assert client.recv_multipart()[0] == frames.RESULT


class _local:  # noqa: N801 - reads as the function that it stands for
    """Event sockets in this process with limits, and a client."""

    def __init__(self, place, **limits):
        self._context = zmq.Context()
        self.pub = f"ipc://{place}/pub.ipc"
        pull = f"ipc://{place}/pull.ipc"
        self.sockets = EventSockets(
            pull=pull,
            pub=self.pub,
            fires=f"{self.pub}.fires",
            store=MemoryStore(),
            limits=Limits(**limits),
        )
        self.client = self._context.socket(zmq.DEALER)
        self.client.connect(pull)

    def listener(self):
        """Return a socket that hears everything and takes one message at a time."""
        slow = self._context.socket(zmq.SUB)
        slow.set(zmq.RCVHWM, 1)
        slow.connect(f"{self.pub}.fires")
        slow.subscribe(frames.ALL)
        slow.subscribe(frames.SYNC + b"x")
        wait_for(lambda: _turn(self.sockets) or slow.poll(10))
        slow.recv_multipart()
        return slow

    def __enter__(self):
        return self.sockets, self.client

    def __exit__(self, *_):
        self.client.close(linger=0)
        self.sockets.close()
        self._context.term()


def _turn(sockets):
    for socket in sockets.sockets:
        if await_input(socket, 5):
            sockets.handle(socket)


def test_a_listener_too_many_is_told_the_option(limited):
    """The others hear on; it hears nothing; when one has gone there is room for it."""
    opts = limited(max_listeners=2)
    address = endpoints.master_fires(opts)
    listeners = [open_listener(address) for _ in range(2)]
    for listener in listeners:
        listener.wait_ready(5)
    listeners.append(open_listener(address))
    for _ in range(5):
        with pytest.raises(ListenerLimitError, match=r"2 listeners, .* max_listeners allows"):
            listeners[2].wait_ready(5)
    publisher = Publisher(endpoints.master_pull(opts))
    publisher.fire([_event("a/1")], 5)
    assert _next_event(listeners[0]).startswith(b"a/1\n")
    assert listeners[2].receive(0.2) is None
    listeners[0].close()
    wait_for(lambda: _is_let_in(listeners[2]))
    publisher.fire([_event("a/2")], 5)
    assert _next_event(listeners[2]).startswith(b"a/2\n")
    publisher.close()
    for listener in listeners[1:]:
        listener.close()


def _next_event(listener):
    """Return the next event; a mark can come at any time, such as when it connected anew."""
    while not (heard := listener.receive(5)).events:
        pass
    return heard.events[0]


def _is_let_in(listener):
    try:
        listener.wait_ready(5)
    except ListenerLimitError:
        return False
    return True


def test_salt_s_library_says_that_there_is_no_room(limited):
    """With ``raise_errors`` as an error, else as when there is no bus."""
    opts = limited(max_listeners=1)
    with get_event("master", opts=opts):
        with pytest.raises(ListenerLimitError, match="max_listeners"):
            get_event("master", opts=opts, raise_errors=True)
        with get_event("master", opts=opts) as events:
            assert not events.connect_pub(0.5)
            assert events.get_event(wait=0.1) is None


def test_listeners_that_come_and_go_are_not_counted_for_ever(limited):
    """Each one that goes is forgotten, whether it says so or not."""
    opts = limited(max_listeners=3)
    for _ in range(50):
        listener = open_listener(endpoints.master_fires(opts))
        wait_for(lambda listener=listener: _is_let_in(listener))
        listener.close()


def test_a_mark_that_cannot_be_read():
    """It is no refusal and no mark."""
    with pytest.raises(WireError):
        frames.read_mark(b"\xffsync/x\n\n\xc1")
    assert frames.read_mark(b"\xffsync/x\n\n\x90") == (None, 0)


def test_what_waits_for_a_stopped_listener_is_bounded_in_bytes(place):
    """Whatever the sizes: a large event waits in pieces, and one piece less is no event."""
    local = _local(place, listener_queue_size=2 << 20)
    with local as (sockets, client):
        slow = local.listener()
        events = [wire.pack_event("t", {"x": b"." * size}) for size in (100, 300_000, 1_000_000)]
        bodies = [wire.pack([event]) for event in events * 40]
        for number, body in enumerate(bodies, 1):
            client.send_multipart(frames.fire(b"p", number, number, body))
            wait_for(lambda number=number: _turn(sockets) or sockets.counters["fired"] == number)
        heard, size, pieces = [], 0, frames.Pieces()
        while slow.poll(200):
            body, place_of = slow.recv_multipart()
            size += len(body)
            group = pieces.add(body[len(frames.ALL) :], place_of)
            heard += frames.unpack_group(group, chosen=False)[1] if group else []
        slow.close(linger=0)
    assert size < 12 << 20  # its queue, one piece more, and what the system's buffers take
    assert heard
    assert set(heard) <= set(events)


def test_the_largest_event_reaches_who_listens(limited):
    """However small the queue is to be, it holds more than that one."""
    opts = limited(listener_queue_size=1 << 20)
    listener = open_listener(endpoints.master_fires(opts))
    listener.wait_ready(5)
    with native.connect("master", opts, timeout=5) as connection:
        for _ in range(10):
            connection.fire("t", {"x": b"." * 1_000_000}, timeout=10)
            assert len(_next_event(listener)) > 1_000_000
    listener.close()


def test_a_listener_that_lost_some_hears_what_comes_after(place):
    """A queue that was full once takes again what comes when there is room."""
    local = _local(place, listener_queue_size=2 << 20)
    with local as (sockets, client):
        slow = local.listener()
        number = 0
        for size in (100, 1_000_000, 100):
            body = wire.pack([wire.pack_event("t", {"x": b"." * size})])
            for _ in range(30):
                number += 1
                client.send_multipart(frames.fire(b"p", number, number, body))
                wait_for(lambda n=number: _turn(sockets) or sockets.counters["fired"] == n)
            while slow.poll(200):
                _, place_of = slow.recv_multipart()
            assert size > 100 or place_of[:8] == frames.pack_seq(number)
        slow.close(linger=0)


def test_the_status_counts(limited):
    """Listeners, what was fired and held back, and what the journal has, in one answer."""
    opts = limited(fire_rate=10)
    pull = endpoints.master_pull(opts)
    with native.connect("master", opts) as connection, get_event("master", opts=opts):
        connection.fire_events([("t", {})] * 20)
        with pytest.raises(FireRateError):
            connection.fire("t", {}, timeout=0.2)
        status = rpc.call(pull, "status")
    assert status["listeners"] == 1
    assert status["held"] == 0
    assert status["journal"]["events"] == status["journal"]["first_seq"] + 19 == 20
    assert status["journal"]["bytes"] > 0
    assert status["counters"]["published"] == 20
    assert status["counters"]["held_back"] > 0
    assert status["counters"]["malformed"] == 0
    wait_for(lambda: rpc.call(pull, "status")["listeners"] == 0)
