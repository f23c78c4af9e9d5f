"""Listening: subscriptions in force, marks, and what follows a restart."""

import time

import pytest
import zmq

from bus import endpoints, frames, wire
from bus.errors import NotRunningError
from bus.listener import open_listener
from bus.publisher import Publisher
from bus.sockets import close_bound
from tests.support import on_ports, running_bus, wait_for


@pytest.fixture(params=["line", "groups"])
def bus_process(request, master_opts):
    """A bus on the direct line, and one on loopback ports, where ZeroMQ publishes."""
    opts = on_ports(master_opts) if request.param == "groups" else master_opts
    with running_bus(opts) as running:
        yield running


@pytest.fixture
def publisher(bus_process):
    """Fires at the bus."""
    made = Publisher(endpoints.master_pull(bus_process.opts))
    yield made
    made.close()


@pytest.fixture
def listen(bus_process):
    """Makes listeners to the bus."""
    made = []

    def make(prefix):
        made.append(open_listener(endpoints.master_fires(bus_process.opts), prefix))
        return made[-1]

    yield make
    for listener in made:
        listener.close()


def _fire(publisher, *tags):
    return [publisher.fire([wire.pack_event(tag, {})], 10) for tag in tags]


def _tags(listener, count, seconds=5.0):
    found = []
    deadline = time.monotonic() + seconds
    while len(found) < count and (heard := listener.receive(max(0, deadline - time.monotonic()))):
        found += zip(heard.numbers, map(wire.tag_of, heard.events), strict=True)
    return found


def test_after_the_mark_nothing_is_missed(publisher, listen):
    """`wait_ready` says after which event everything is heard."""
    _fire(publisher, "a/1", "a/2")
    listener = listen("")
    assert listener.wait_ready() == 2
    assert len(listener.bus_id) == 12
    _fire(publisher, "a/3", "b/4")
    assert _tags(listener, 2) == [(3, "a/3"), (4, "b/4")]
    assert listener.receive(0) is None
    assert listener.receive(0.01) is None


def test_only_what_was_asked_for_is_sent(publisher, listen):
    """The bus filters by the beginnings of tags; numbers stay those of the bus."""
    listener = listen("a/")
    listener.wait_ready()
    _fire(publisher, "b/1", "a/2", "b/3", "a/4")
    assert _tags(listener, 2) == [(2, "a/2"), (4, "a/4")]


def test_the_marks_of_others_are_not_heard(publisher, listen):
    """Who hears everything hears no listener come."""
    listener = listen("")
    listener.wait_ready()
    for _ in range(3):
        listen("").wait_ready()
    _fire(publisher, "a")
    first = listener.receive(5)
    assert (first.seq, wire.tag_of(first.events[0])) == (1, "a")


def test_no_bus_is_an_error_of_one_line(place):
    """Whether the socket file is missing or nobody is behind it."""
    missing = open_listener(f"ipc://{place}/no.ipc")
    began = time.monotonic()
    with pytest.raises(
        NotRunningError, match=r"no bus answers at .*no.ipc: .*reactor up"
    ) as caught:
        missing.wait_ready(0.2)
    assert time.monotonic() - began < 15
    assert "\n" not in str(caught.value)
    missing.close()
    (place / "dead.ipc").touch()
    dead = open_listener(f"ipc://{place}/dead.ipc")
    with pytest.raises(NotRunningError):
        dead.wait_ready(0.2)
    dead.close()


def test_a_bus_that_comes_back_says_where_it_stands(bus_process, publisher, listen):
    """After a broken connection a mark comes, so a listener knows what it did not hear."""
    listener = listen("")
    listener.wait_ready()
    bus_id = listener.bus_id
    _fire(publisher, "a")
    bus_process.restart()
    _fire(publisher, "b")
    marks = []

    def has_mark():
        heard = listener.receive(0.05)
        if heard and not heard.events:
            marks.append(heard)
        return marks

    mark = wait_for(has_mark)[0]
    assert mark.bus_id == bus_id
    assert mark.seq >= 1
    _fire(publisher, "c")
    assert _tags(listener, 1)[-1][0] >= 2


@pytest.mark.parametrize("prefix", ["", "a/", "\U0010ffff"])
def test_subscriptions_come_before_the_mark_when_it_connects_again(place, prefix):
    """ZeroMQ sends them anew in the order of their bytes: the one that asks is the last."""
    address = f"ipc://{place}/pub.ipc"
    listener = open_listener(address, prefix)

    def subscriptions():
        server = zmq.Context.instance().socket(zmq.XPUB)
        server.bind(address)
        try:
            return [_one(server, listener) for _ in range(2)]
        finally:
            close_bound(server, address)

    first, again = subscriptions(), subscriptions()
    listener.close()
    assert set(first) == set(again)
    assert frames.prefix_of(again[0][1:]) == prefix.encode()
    assert frames.asked_for(again[1][1:]) == prefix.encode()


def _one(server, listener):
    # A listener subscribes anew when it next looks at its socket.
    wait_for(lambda: listener.receive(0) or server.poll(10), "a subscription")
    return server.recv()


def test_foreign_messages_are_passed_over(place, caplog):
    """A message that is no group, half of one, or one that cannot be read, is none of ours."""
    address = f"ipc://{place}/pub.ipc"
    server = zmq.Context.instance().socket(zmq.XPUB)
    server.bind(address)
    listener = open_listener(address)
    while not _one(server, listener).startswith(b"\1" + frames.SYNC):
        pass
    for parts in (
        [frames.ALL],
        [frames.ALL, b"123"],
        [frames.ALL, b"123", b"4", b"5"],
        *frames.published(frames.ALL, frames.Group(b"\xc1", 3, 1, 0)),
        *frames.published(frames.ALL, frames.Group(wire.pack([b"x", b"y"]), 3, 1, 0)),
        *frames.published(frames.ALL, frames.Group(wire.pack([b"x\n\n\x80"]), 4, 1, 0)),
    ):
        server.send_multipart(parts)
    heard = listener.receive(5)
    assert (heard.seq, wire.tag_of(heard.events[0])) == (4, "x")
    assert "cannot be read" in caplog.text
    listener.close()
    server.close(linger=0)


@pytest.mark.parametrize("bus_process", ["groups"], indirect=True)
def test_after_many_messages_the_bus_says_where_it_stands(publisher, listen):
    """So the loss of the last ones is known without another event; a few events cost nothing."""
    listener = listen("")
    listener.wait_ready()
    _fire(publisher, *["a"] * 10)
    assert len(_tags(listener, 10)) == 10
    assert listener.receive(0.2) is None
    count = 40
    _fire(publisher, *["a"] * count)
    assert len(_tags(listener, count)) == count
    mark = listener.receive(5)
    assert (mark.events, mark.seq) == ((), count + 10)
    assert listener.receive(0.2) is None


def test_who_hears_a_prefix_knows_how_many_it_lost(place):
    """The bus counts for each prefix, and says the count with events and with a mark."""
    address = f"ipc://{place}/pub.ipc"
    server = zmq.Context.instance().socket(zmq.XPUB)
    server.bind(address)
    listener = open_listener(address, "a/")
    while not (topic := _one(server, listener)).startswith(b"\1" + frames.SYNC):
        pass
    run = 7 << frames.RUN_BITS

    def publish(number, sent):
        body = wire.pack([[number], [b"a/\n\n\x80"]])
        group = frames.Group(body, number, 1, sent)
        for message in frames.published(frames.topic_of(b"a/"), group):
            server.send_multipart(message)
        heard = listener.receive(5)
        return heard.numbers, heard.lost

    server.send_multipart(frames.mark(topic[1:], 10, "0123456789ab", run + 5))
    assert listener.wait_ready(5) == 10
    assert publish(20, run + 6) == ([20], 0)
    assert publish(30, run + 10) == ([30], 3)
    server.send_multipart(frames.mark(topic[1:], 40, "0123456789ab", run + 12))
    assert listener.receive(5).lost == 2
    assert publish(1, run + (1 << frames.RUN_BITS) + 1) == ([1], 0)
    listener.close()
    server.close(linger=0)
