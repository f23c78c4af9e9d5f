"""The native interface: connect, fire, and listen from any point without missing anything."""

import asyncio
import gc
import multiprocessing
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

import bus
from bus import endpoints
from bus.broker.server import EventSockets
from bus.config import private_dir
from bus.errors import BusError, DataError, NotRunningError
from bus.journal import JournalReader, journal_path
from bus.since import resolve_since
from bus.sockets import await_input
from bus.store import MemoryStore
from tests.support import SECONDS, on_ports, open_descriptors, running_bus, wait_for


@pytest.fixture
def events(bus_process):
    """A connection to a running master's bus."""
    with bus.connect("master", bus_process.opts, timeout=5) as made:
        yield made


def test_no_bus_is_an_error_of_one_line(master_opts):
    """It says where it looked and what to start."""
    with pytest.raises(NotRunningError, match="reactor up") as caught:
        bus.connect("master", master_opts)
    assert "\n" not in str(caught.value)
    assert str(master_opts["sock_dir"]) in str(caught.value)
    with pytest.raises(DataError, match="'master' or 'minion'"):
        bus.connect("syndic", master_opts)


def test_fire_says_the_number(events):
    """Each event's number in the journal, from 1; the data stays as it is."""
    data = {"x": 1}
    assert [events.fire("t", data), events.fire("t", data)] == [1, 2]
    assert data == {"x": 1}
    assert events.fire_events(("t", {"n": number}) for number in range(1000)) == 1000
    assert events.fire("t", {}, timeout=10) == 1003
    with pytest.raises(ValueError, match="empty"):
        events.fire("", {})
    with pytest.raises(ValueError, match="not list"):
        events.fire_events([("t", [])])


def test_listening_begins_now(events):
    """Without ``since``, what comes next and matches the glob."""
    events.fire("a/old", {})
    listening = events.listen("a/*/c")
    events.fire("a/b/x", {})
    events.fire("b/b/c", {})
    events.fire("a/b/c", {"x": 1})
    event = listening.next(5)
    assert (event.tag, event.seq, event.data["x"], event.payload) == ("a/b/c", 4, 1, {"x": 1})
    assert event.stamp == event.data["_stamp"]
    assert event.id.endswith("-4")
    assert listening.next(0.05) is None
    assert not listening.closed


def test_listening_ends_with_its_block(events):
    """What was opened for a block hears nothing after it, and takes no place of a listener."""
    with events.listen("t") as listening:
        events.fire("t", {})
        assert listening.next(5).tag == "t"
    assert listening.closed


@pytest.mark.parametrize(
    ("match_type", "tag"),
    [("startswith", "a/"), ("endswith", "/c"), ("find", "/b/"), ("regex", "a/./c")],
)
def test_listening_has_salts_match_types(events, match_type, tag):
    """The glob is the default; the others can be asked for."""
    listening = events.listen(tag, match_type=match_type)
    events.fire("x", {})
    events.fire("a/b/c", {})
    assert listening.next(5).tag == "a/b/c"
    with pytest.raises(ValueError, match="unknown match type"):
        events.listen("a", match_type="glob")


def test_an_iteration_ends_after_its_timeout(events):
    """Seconds without an event that matches."""
    listening = events.listen("t/*", since=0, timeout=0.2)
    for number in range(3):
        events.fire(f"t/{number}", {})
    began = time.monotonic()
    assert [event.tag for event in listening] == ["t/0", "t/1", "t/2"]
    assert time.monotonic() - began < 15
    events.fire("t/3", {})
    assert [event.tag for event in listening] == ["t/3"]


def test_since_a_number(events):
    """What comes after that event, older ones from the journal."""
    for number in range(1, 6):
        events.fire(f"t/{number}", {})
    listening = events.listen(since=2)
    events.fire("t/6", {})
    assert [listening.next(5).seq for _ in range(4)] == [3, 4, 5, 6]
    assert [event.seq for event in events.listen("t/[15]", since=0, timeout=0.1)] == [1, 5]
    assert [event.seq for event in events.listen(since="4", timeout=0.1)] == [5, 6]
    assert [event.seq for event in events.listen(since=-7, timeout=0.1)] == [1, 2, 3, 4, 5, 6]
    assert listening.lost == 0


def test_what_came_before_an_error_of_the_callers_is_kept(events):
    """All of it, and the connection is as good as before."""

    def made():
        for n in range(500):
            yield "t/x", {"n": n}
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        events.fire_events(made())
    events.fire("t/y", {})
    numbers = [event.data.get("n") for event in events.listen("t/*", since=0, timeout=0.1)]
    assert numbers == [*range(500), None]


def test_since_a_time(events, bus_process):
    """A datetime, seconds since 1970, ISO 8601 text, or an age."""
    events.fire("before", {})
    time.sleep(0.02)
    moment = datetime.now(UTC)
    time.sleep(0.02)
    events.fire("after", {})
    for since in (
        moment,
        moment.timestamp(),
        moment.isoformat(),
        moment.astimezone().replace(tzinfo=None),
    ):
        tags = [event.tag for event in events.listen(since=since, timeout=0.1)]
        assert tags == ["after"], since
    whole = (datetime(1970, 1, 1, tzinfo=UTC), "1970-01-01", "9999w", 0.0)
    for since in ("1h", "90s", timedelta(hours=1), *whole):
        tags = [event.tag for event in events.listen(since=since, timeout=0.1)]
        assert tags == ["before", "after"], since
    later = moment + timedelta(days=1)
    assert [event.tag for event in events.listen(since=later, timeout=0.1)] == []
    with JournalReader(journal_path(bus_process.opts["state_dir"])) as journal:
        assert resolve_since(moment, journal) == 1


@pytest.mark.parametrize(
    "since",
    ["yesterday", True, "", "-1h", timedelta(-1), "²", float("nan"), float("inf")],
)
def test_since_that_cannot_be_read_is_refused(events, since):
    """A ValueError that says what may be given; nothing stays open."""
    before = open_descriptors()
    for options in ({}, {"cursor": "c"}):
        with pytest.raises(DataError, match="give a sequence number"):
            events.listen(since=since, **options)
    wait_for(lambda: open_descriptors() <= before)


def test_a_slow_reader_misses_nothing(events):
    """More than any queue holds was fired before the first is read, and nothing after it."""
    listening = events.listen("t/*", since=0)
    count = 60_000
    assert (
        events.fire_events(("t/x", {"n": n, "_stamp": "", "x": "y" * 200}) for n in range(count))
        == count
    )
    assert [listening.next(10).data["n"] for _ in range(count)] == list(range(count))
    assert listening.next(0.05) is None
    assert listening.lost == 0


def test_a_long_history_without_a_match_is_looked_through(events):
    """The time-out counts from where everything known has been seen."""
    events.fire_events(("other", {"_stamp": ""}) for _ in range(20_000))
    events.fire("wanted", {})
    assert [event.seq for event in events.listen("wanted", since=0, timeout=0.01)] == [20_001]


def test_it_goes_on_over_a_restart_of_the_bus(bus_process, events):
    """Nothing is missed and nothing comes twice."""
    listening = events.listen("t", since=0)
    seqs = []
    for _ in range(2):
        events.fire_events([("t", {})] * 100)
        bus_process.restart()
        events.fire_events([("t", {})] * 100)
        wait_for(
            lambda: (
                seqs.extend([event.seq] if (event := listening.next(0.2)) else [])
                or len(seqs) % 200 == 0
            )
        )
    assert seqs == list(range(1, 401))


def test_a_stream_of_other_events_ends_too(events):
    """The time-out holds while events come that do not match."""
    ended = threading.Event()

    def flood():
        with bus.connect("master", events.opts, timeout=5) as other:
            while not ended.is_set():
                other.fire_events([("other", {})] * 500)

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        began = time.monotonic()
        assert list(events.listen("*never", timeout=0.3)) == []
        assert list(events.listen("never", since=0, timeout=0.3)) == []
        assert time.monotonic() - began < 15
    finally:
        ended.set()
        thread.join()


def test_closing_ends_all_that_listen(bus_process):
    """Close is final, and can be repeated."""
    before = open_descriptors()
    with bus.connect("master", bus_process.opts, timeout=5) as events:
        listening = events.listen(since=0)
        events.fire("t", {})
        assert listening.next(5).tag == "t"
    assert listening.closed
    assert listening.lost == 0
    assert list(listening) == []
    events.close()
    wait_for(lambda: open_descriptors() <= before + 2)  # the context of ZeroMQ has its own


def test_listenings_that_nobody_holds_are_closed(events):
    """A connection that listens a thousand times has not a thousand sockets."""
    events.fire("t", {})
    before = open_descriptors()
    for _ in range(300):
        assert [event.tag for event in events.listen(since=0, timeout=0.001)] == ["t"]
    gc.collect()
    wait_for(lambda: open_descriptors() <= before + 2)


def test_a_minions_bus_has_no_history(minion_opts, place):
    """``since`` is refused there, in words."""
    from bus import endpoints
    from bus.broker.server import EventSockets
    from bus.config import private_dir
    from bus.store import MemoryStore

    private_dir(minion_opts["sock_dir"])
    sockets = EventSockets(
        pull=endpoints.minion_pull(minion_opts),
        pub=endpoints.minion_pub(minion_opts),
        fires=endpoints.minion_fires(minion_opts),
        store=MemoryStore(),
    )
    ended = threading.Event()

    def serve():
        while not ended.is_set():
            for socket in sockets.sockets:
                if await_input(socket, 5):
                    sockets.handle(socket)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with bus.connect("minion", minion_opts, timeout=5) as events:
            with pytest.raises(DataError, match="has none"):
                events.listen(since="1h")
            listening = events.listen("t")
            assert events.fire("t", {}) == 1
            assert listening.next(5).tag == "t"
    finally:
        ended.set()
        thread.join()
        sockets.close()


def _in_child(events, listening, pipe):
    events.fire("from/child", {}, timeout=10)
    pipe.send([listening.next(10).seq for _ in range(2)])
    events.close()


def test_a_forked_child_goes_on_from_the_same_place(events):
    """Firing and listening connect anew in the child; the parent's are untouched."""
    listening = events.listen("*", since=0)
    for number in range(3):
        events.fire(f"t/{number}", {})
    assert listening.next(5).seq == 1
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(
        target=_in_child, args=(events, listening, theirs)
    )
    child.start()
    assert ours.poll(SECONDS)
    assert ours.recv() == [2, 3]
    child.join(SECONDS)
    assert child.exitcode == 0
    assert [listening.next(5).tag for _ in range(3)] == ["t/1", "t/2", "from/child"]
    assert events.fire("t/4", {}, timeout=10) == 5


def _hear_own(events, listenings, pipe):
    events.fire("t/fired", {}, timeout=10)
    pipe.send([listening.next(SECONDS).tag for listening in listenings])
    events.close()


@pytest.mark.parametrize("on", [lambda opts: opts, on_ports], ids=["line", "ports"])
def test_a_forked_child_hears_what_it_fires_first(place, master_opts, on):
    """With each listener that it has from its parent, which misses nothing either."""
    with (
        running_bus(on(master_opts)) as running,
        bus.connect("master", running.opts, timeout=5) as events,
    ):
        listenings = [events.listen("t/*"), events.listen(exact=True), events.listen(since=0)]
        ours, theirs = multiprocessing.Pipe()
        child = multiprocessing.get_context("fork").Process(
            target=_hear_own, args=(events, listenings, theirs)
        )
        child.start()
        assert ours.poll(4 * SECONDS)
        assert ours.recv() == ["t/fired"] * 3
        child.join(SECONDS)
        assert child.exitcode == 0
        assert [listening.next(5).tag for listening in listenings] == ["t/fired"] * 3


def test_a_child_without_a_bus_is_told_when_it_listens(bus_process):
    """Its listener can be asked again once there is one."""
    with bus.connect("master", bus_process.opts, timeout=0.2) as events:
        listening = events.listen("t")
        bus_process.stop()
        events._pid = listening._pid = 0  # as it looks in a child
        with pytest.raises(NotRunningError):
            events.fire("t", {})
        for _ in range(2):
            with pytest.raises(NotRunningError):
                listening.next(1)
        bus_process.start()
        assert listening.next(0) is None
        assert events.fire("t", {}, timeout=SECONDS) == 1
        assert listening.next(SECONDS).seq == 1


def test_asyncio_has_the_same(bus_process):
    """Fire, fire many, and listen in ``async for``."""

    async def main():
        async with bus.aconnect("master", bus_process.opts, timeout=5) as events:
            assert await events.fire("t/1", {"x": 1}) == 1
            assert await events.fire_events([("t/2", {}), ("u", {})]) == 2
            found = [event.tag async for event in events.listen("t/*", since=0, timeout=0.2)]
            assert found == ["t/1", "t/2"]
            assert events.connection.node == "master"

    asyncio.run(main())


def test_an_async_listener_can_be_cancelled(bus_process):
    """While it waits, and while the connection closes; the rest goes on."""

    async def main():
        async with bus.aconnect("master", bus_process.opts, timeout=5) as events:
            stream = events.listen("t")
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(events.listen("t")), 0.05)
            waiting = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0.1)
            assert await events.fire("t", {}) == 1
            assert (await waiting).seq == 1
            still = asyncio.ensure_future(_drain(stream))
            await asyncio.sleep(0.05)
        assert await still == []

    asyncio.run(main())


async def _drain(stream):
    return [event async for event in stream]


def test_an_async_connection_has_to_be_entered(master_opts):
    """Both mistakes say what to do."""
    with pytest.raises(BusError, match="async with"):
        _ = bus.aconnect("master", master_opts).connection

    async def main():
        async with bus.aconnect("master", master_opts):
            pass

    with pytest.raises(NotRunningError):
        asyncio.run(main())


def test_names_are_loaded_when_asked_for():
    """``import bus`` costs nothing, and a wrong name is an AttributeError."""
    assert set(bus.__all__) >= {"connect", "aconnect", "Event", "Connection", "AsyncConnection"}
    assert bus.Event.__name__ == "Event"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = bus.nothing


@pytest.mark.parametrize(
    ("glob", "options"), [("*", {}), ("t/*", {"exact": True}), ("t/*", {"on_gap": None})]
)
def test_a_live_listener_knows_exactly_what_it_lost(master_opts, glob, options):
    """Numbers of what it got and of its gaps make the whole, the last event included."""
    opts = master_opts.with_(listener_queue_size=2 << 20)
    with running_bus(opts), bus.connect("master", opts, timeout=SECONDS) as events:
        _lose_and_count(events, glob, options)


def _lose_and_count(events, glob, options):
    told = []
    if "on_gap" in options:
        options = {"on_gap": lambda first, last: told.append((first, last))}
    listening = events.listen(glob, **options)
    count = 90_000
    pairs = (("t/x", {"x": "y" * 200}) for _ in range(count))
    assert events.fire_events(pairs) == count
    got = []

    def all_is_known():
        while event := listening.next(0.05):
            got.append(event.seq)
        return len(got) + listening.lost == count

    wait_for(all_is_known)
    missing = {seq for first, last in listening.gaps for seq in range(first, last + 1)}
    assert missing | set(got) == set(range(1, count + 1))
    assert len(missing) == listening.lost > 0
    assert not options or "exact" in options or told == listening.gaps


@pytest.mark.parametrize("options", [{"exact": True}, {"since": 0}])
def test_a_look_without_a_wait_sees_all_that_is_there(events, options):
    """Whether or not what came before it matches."""
    listening = events.listen("b/*", **options)
    events.fire_events([(tag, {}) for tag in ("a/1", "a/2", "a/3", "b/1")])
    assert await_input(listening._feed.socket, SECONDS * 1000)
    assert listening.next(0).tag == "b/1"


@pytest.mark.parametrize("options", [{"exact": True}, {"since": 0}])
def test_looks_without_a_wait_come_to_it_in_the_end(events, options):
    """An acknowledgement may be here before what it acknowledges has reached a listener."""
    listening = events.listen("b/*", **options)
    for tag in ("a/1", "a/2", "a/3", "b/1"):
        events.fire(tag, {})
    assert wait_for(lambda: listening.next(0)).tag == "b/1"


def test_a_prefix_listener_does_not_know(events):
    """It hears only its own; what others are sent is no gap of its."""
    listening = events.listen("t/*")
    events.fire("other", {})
    events.fire("t/1", {})
    assert listening.next(SECONDS).seq == 2
    assert (listening.lost, listening.gaps) == (0, [])


def test_a_cursor_with_asyncio(events, bus_process):
    """An event is done when the loop asks for the next one."""
    events.fire_events([(f"t/{number}", {}) for number in range(3)])

    async def some():
        found = []
        async with bus.aconnect("master", bus_process.opts, timeout=5) as connection:
            async for event in connection.listen("t/*", 0, cursor="c", timeout=0.3):
                found.append(event.seq)
        return found

    assert asyncio.run(some()) == [1, 2, 3]
    events.fire("t/4", {})
    assert asyncio.run(some()) == [4]


def test_a_cursor_needs_a_journal(minion_opts):
    """A minion's bus has none."""
    private_dir(minion_opts["sock_dir"])
    sockets = EventSockets(
        pull=endpoints.minion_pull(minion_opts),
        pub=endpoints.minion_pub(minion_opts),
        fires=endpoints.minion_fires(minion_opts),
        store=MemoryStore(),
    )
    stop = threading.Event()

    def serve():
        while not stop.is_set():
            for socket in sockets.sockets:
                sockets.handle(socket)
            stop.wait(0.005)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with (
            bus.connect("minion", minion_opts, timeout=5) as connection,
            pytest.raises(DataError, match="need a journal"),
        ):
            connection.listen(cursor="c")
    finally:
        stop.set()
        thread.join()
        sockets.close()
