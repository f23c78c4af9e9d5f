"""Salt's event library: names, signatures, and everything that a Salt user expects to hold."""

import asyncio
import gc
import inspect
import multiprocessing
import os
import threading
import time
import warnings

import pytest

import bus
import bus.event as event_module
from bus import endpoints, wire
from bus.broker.server import EventSockets
from bus.errors import (
    DataError,
    JournalError,
    ListenerLimitError,
    NotRunningError,
    TagError,
    TooLargeError,
    WireError,
)
from bus.event import MasterEvent, MinionEvent, SaltEvent, get_event, get_master_event, tagify
from bus.journal import JournalReader, journal_path
from bus.publisher import Publisher
from bus.sockets import await_input
from bus.store import MemoryStore
from tests.support import SECONDS, on_ports, open_descriptors, running_bus, wait_for


@pytest.fixture
def events(bus_process):
    """A connection to a running master's bus."""
    with get_event("master", opts=bus_process.opts) as made:
        yield made


def _parameters(function):
    return {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "self" and parameter.kind is not parameter.KEYWORD_ONLY
    }


_NONE = inspect.Parameter.empty
_GET_EVENT = {
    "node": _NONE,
    "sock_dir": None,
    "opts": None,
    "listen": True,
    "io_loop": None,
    "keep_loop": False,
    "raise_errors": False,
}


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (get_event, _GET_EVENT),
        (SaltEvent, _GET_EVENT),
        (
            SaltEvent.get_event,
            {
                "wait": 5,
                "tag": "",
                "full": False,
                "match_type": None,
                "no_block": False,
                "auto_reconnect": False,
            },
        ),
        (
            SaltEvent.iter_events,
            {"tag": "", "full": False, "match_type": None, "auto_reconnect": False},
        ),
        (SaltEvent.fire_event, {"data": _NONE, "tag": _NONE, "timeout": 1000}),
        (SaltEvent.fire_master, {"data": _NONE, "tag": _NONE, "timeout": 1000}),
        (tagify, {"suffix": "", "prefix": "", "base": "salt"}),
    ],
)
def test_signatures_are_salts(function, expected):
    """Names, order and defaults, so that calls by position and by name both work."""
    assert _parameters(function) == expected


def test_the_first_parameters_are_salts():
    """Where Salt's own signature has more than is promised, the promised ones stand first."""
    assert list(_parameters(MasterEvent))[:2] == ["sock_dir", "opts"]
    assert next(iter(_parameters(MinionEvent))) == "opts"
    assert list(_parameters(SaltEvent.subscribe)) == ["tag", "match_type"]
    assert list(_parameters(SaltEvent.unsubscribe)) == ["tag", "match_type"]
    for name in ("get_event_noblock", "get_event_block", "destroy", "fire_event_async"):
        assert callable(getattr(SaltEvent, name))
    assert inspect.iscoroutinefunction(SaltEvent.fire_event_async)


def test_get_event_takes_transport_as_older_releases_do(bus_process):
    """``zeromq`` is what there is; another is refused."""
    opts = bus_process.opts
    with get_event("master", sock_dir=opts["sock_dir"], transport="zeromq", opts=opts) as made:
        assert made.fire_event({"x": 1}, "t")
    with pytest.raises(ValueError, match="tcp"):
        get_event("master", opts=opts, transport="tcp")
    with pytest.raises(ValueError, match="'master' or 'minion'"):
        get_event("syndic", opts=opts)


@pytest.mark.parametrize("connect", [bus.connect, get_event])
def test_options_are_a_mapping(connect):
    """The path of a file is what Salt's callers know, so it is said what to do with it."""
    with pytest.raises(ValueError, match=r"a mapping, as bus.config.master_config\(PATH\) returns"):
        connect("master", opts="/etc/reactor/master")
    with pytest.raises(ValueError, match="'master' or 'minion', not"):
        connect(["master"])


def test_every_way_to_connect_reaches_the_same_bus(bus_process):
    """MasterEvent by sock_dir or opts, and the old helper."""
    opts = bus_process.opts
    for made in (
        MasterEvent(opts["sock_dir"], opts=opts),
        MasterEvent(sock_dir=opts["sock_dir"], opts={"sock_dir": "/elsewhere"}),
        get_master_event(opts, opts["sock_dir"]),
        get_event("master", opts=opts, listen=False),
    ):
        with made:
            assert made.fire_event({}, "t") is True


def test_a_true_fire_is_in_the_journal(events, bus_process):
    """When `fire_event` returns True, the event can be read from the file."""
    data = {"x": {"y": [1, b"z"]}}
    assert events.fire_event(data, "myco/a") is True
    assert data == {"x": {"y": [1, b"z"]}}
    with JournalReader(journal_path(bus_process.opts["state_dir"])) as reader:
        ((seq, raw),) = reader.read(0)
    tag, kept = wire.unpack_event(raw)
    assert (seq, tag, kept["x"]) == (1, "myco/a", data["x"])
    assert kept["_stamp"].endswith("+00:00")


def test_without_a_bus_a_fire_is_false_within_its_time(master_opts):
    """Milliseconds; and no exception, unless asked for."""
    with get_event("master", opts=master_opts, listen=False) as made:
        began = time.monotonic()
        assert made.fire_event({}, "t", timeout=300) is False
        assert 0.25 < time.monotonic() - began < 15
        assert made.fire_events([("t", {})], timeout=100) == 0
        assert not made.connect_pull()
    with pytest.raises(NotRunningError):
        get_event("master", opts=master_opts, raise_errors=True)
    made = get_event("master", opts=master_opts, listen=False, raise_errors=True)
    with made, pytest.raises(NotRunningError):
        made.fire_event({}, "t", timeout=50)


@pytest.mark.parametrize(
    ("data", "tag", "error", "words"),
    [
        ({}, "", TagError, "empty"),
        ({}, "a\nb", TagError, "control character"),
        ({}, "a\0", TagError, "control character"),
        ({}, None, TagError, "NoneType"),
        ([], "t", DataError, "a dict, not list"),
        ("x", "t", DataError, "a dict, not str"),
        (None, "t", DataError, "a dict, not NoneType"),
        ({"a": object()}, "t", DataError, r"data\['a'\] is object"),
        ({"a": "x" * 1_100_000}, "t", TooLargeError, "max_event_size"),
    ],
)
def test_what_cannot_be_fired_is_a_value_error(events, data, tag, error, words):
    """It says what is wrong, and the connection is as good as before."""
    for fire in (
        events.fire_event,
        events.fire_master,
        lambda data, tag: events.fire_events([(tag, data)]),
    ):
        with pytest.raises(error, match=words) as caught:
            fire(data, tag)
        assert isinstance(caught.value, ValueError)
        assert "\n" not in str(caught.value)
    assert events.fire_event({}, "good")


def test_a_bus_that_cannot_keep_it_is_false_and_said(place, master_opts, monkeypatch, caplog):
    """A full disk is no ValueError, and not True either."""

    def fail(*_):
        raise JournalError("the disk is full")

    def fail_after_two(*_):
        error = JournalError("the disk is still full")
        error.kept = 2
        raise error

    monkeypatch.setattr(Publisher, "fire", fail)
    monkeypatch.setattr(Publisher, "fire_all", fail_after_two)
    with get_event("master", opts=master_opts, listen=False) as made:
        assert made.fire_event({}, "t") is False
        assert "the disk is full" in caplog.text
        assert made.fire_events([("t", {})] * 3) == 2
        assert "the disk is still full" in caplog.text
    made = get_event("master", opts=master_opts, listen=False, raise_errors=True)
    with made:
        with pytest.raises(JournalError):
            made.fire_event({}, "t")
        with pytest.raises(JournalError):
            made.fire_events([("t", {})])


def test_many_are_fired_at_once(events, bus_process):
    """`fire_events` says how many are in the journal."""
    assert events.fire_events((f"t/{number}", {"n": number}) for number in range(3000)) == 3000
    assert bus_process.call("status")["last_seq"] == 3000
    assert events.get_event(tag="t/2999")["n"] == 2999


def test_the_next_event_is_returned(events):
    """The data alone, or with its tag."""
    events.fire_event({"x": 1}, "a/b")
    events.fire_event({"x": 2}, "a/b")
    found = events.get_event()
    assert (found["x"], set(found)) == (1, {"x", "_stamp"})
    full = events.get_event(full=True)
    assert set(full) == {"tag", "data"}
    assert (full["tag"], full["data"]["x"]) == ("a/b", 2)
    assert events.get_event(wait=0.05) is None


@pytest.mark.parametrize(
    ("match_type", "tag"),
    [
        (None, "salt/jo"),
        ("startswith", "salt/job"),
        ("endswith", "/ret/web1"),
        ("find", "/1/"),
        ("regex", r"salt/\w+/\d"),
        ("fnmatch", "salt/*/web1"),
    ],
)
def test_tags_are_matched_in_five_ways(events, match_type, tag):
    """What does not match is discarded on the way."""
    events.fire_event({}, "other/salt")
    events.fire_event({"x": 1}, "salt/job/1/ret/web1")
    assert events.get_event(tag=tag, match_type=match_type)["x"] == 1
    assert events.get_event(no_block=True) is None


def test_an_unknown_match_type_is_a_value_error(events):
    """At once, not at the first event."""
    with pytest.raises(ValueError, match="unknown match type"):
        events.get_event(match_type="glob")


def test_the_default_match_type_is_an_option(bus_process):
    """``event_match_type``."""
    opts = bus_process.opts.with_(event_match_type="fnmatch")
    with get_event("master", opts=opts) as made:
        made.fire_event({}, "a/b")
        assert made.get_event(tag="*/b") is not None
        made.fire_event({}, "a/b")
        assert made.get_event(tag="a", wait=0.1) is None


def test_no_block_only_looks(events):
    """Nothing there is None at once; what is there is looked through."""
    began = time.monotonic()
    assert events.get_event(wait=60, no_block=True) is None
    assert events.get_event(wait=0, no_block=True) is None
    assert time.monotonic() - began < 30
    for number in range(20):
        events.fire_event({"n": number}, f"t/{number}")
    found = wait_for(lambda: events.get_event(no_block=True, tag="t/19"))
    assert found["n"] == 19


@pytest.mark.parametrize("wait", [0, None])
def test_no_wait_is_for_ever(events, wait):
    """``wait=0`` blocks until the event comes."""
    fire = threading.Timer(0.8, _fire_once, (events.opts, "late", {"x": 1}))
    fire.start()
    assert events.get_event(wait=wait, tag="late")["x"] == 1
    fire.join()


def _fire_once(opts, tag, data):
    with get_event("master", opts=opts, listen=False) as made:
        assert made.fire_event(data, tag, timeout=10_000)


def test_a_stream_of_other_events_does_not_keep_the_caller(events):
    """The time-out holds while events that do not match keep coming."""
    ended = threading.Event()

    def flood():
        with get_event("master", opts=events.opts, listen=False) as made:
            while not ended.is_set():
                made.fire_events(("other", {}) for _ in range(500))

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        for keywords in ({"wait": 0.5}, {"no_block": True}):
            began = time.monotonic()
            assert events.get_event(tag="never", **keywords) is None
            assert time.monotonic() - began < 10
    finally:
        ended.set()
        thread.join()


def test_what_is_subscribed_is_kept_for_later(events):
    """An event that matches neither the call nor a subscription is discarded."""
    events.subscribe("keep/")
    events.subscribe("*/end", "fnmatch")
    for tag in ("keep/1", "drop/1", "x/end", "keep/2", "wanted"):
        events.fire_event({"tag": tag}, tag)
    assert events.get_event(tag="wanted")["tag"] == "wanted"
    assert events.get_event(tag="keep/2")["tag"] == "keep/2"
    assert events.get_event(tag="")["tag"] == "keep/1"
    assert events.get_event(tag="x")["tag"] == "x/end"
    assert events.get_event(wait=0.05) is None


def test_unsubscribing_drops_what_only_it_kept(events):
    """And nothing else; the default match type may be named or not."""
    events.subscribe("a/")
    events.subscribe("a/1", "startswith")
    events.subscribe("b/")
    for tag in ("a/1", "a/2", "b/1", "end"):
        events.fire_event({}, tag)
    events.get_event(tag="end")
    events.unsubscribe("a/", "startswith")
    events.unsubscribe("never")
    assert events.get_event(no_block=True, tag="a/2") is None
    assert events.get_event(no_block=True, tag="a/1") is not None
    assert events.get_event(no_block=True, tag="b/1") is not None
    events.unsubscribe("b/", "fnmatch")
    assert len(events._subscribed) == 2


def test_the_cache_is_bounded_and_says_what_it_drops(bus_process, monkeypatch, caplog):
    """The oldest goes first, with a count and a word."""
    monkeypatch.setattr(event_module, "MAX_CACHED", 2)
    with get_event("master", opts=bus_process.opts) as made:
        made.subscribe("k/")
        made.fire_events([(f"k/{number}", {"n": number}) for number in range(3)] + [("end", {})])
        made.get_event(tag="end")
        assert [made.get_event(no_block=True)["n"] for _ in range(2)] == [1, 2]
        assert made.lost == 1
    assert "1 events lost" in caplog.text


def test_events_can_be_iterated(events):
    """`iter_events` yields what matches, data or full."""
    for number in range(3):
        events.fire_event({"n": number}, f"t/{number}")
        events.fire_event({}, "other")
    found = events.iter_events(tag="t/", full=True)
    assert [next(found)["tag"] for _ in range(3)] == ["t/0", "t/1", "t/2"]


def test_the_next_event_whatever_its_tag(events):
    """`get_event_noblock` looks, `get_event_block` waits; both give tag and data."""
    assert events.get_event_noblock() is None
    events.fire_event({"x": 1}, "a")
    assert events.get_event_block()["tag"] == "a"
    events.fire_event({"x": 2}, "b")
    found = wait_for(events.get_event_noblock)
    assert (found["tag"], found["data"]["x"]) == ("b", 2)


def test_asyncio_has_its_own_ways(events):
    """Firing and iterating without blocking the loop; a cancelled wait breaks nothing."""

    async def main():
        stream = events.iter_events_async("t/", full=True)
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.05)
        assert await events.fire_event_async({"x": 1}, "t/1", cb=print)
        found = await waiting
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.05)
        waiting.cancel()
        events.destroy()
        return found["tag"]

    assert asyncio.run(main()) == "t/1"
    assert events.fire_event({}, "again")


def test_packing_and_unpacking(events):
    r"""The wire form is ``tag\n\n`` and msgpack; foreign bytes are refused."""
    raw = SaltEvent.pack("a/b", {"x": 1})
    assert raw.startswith(b"a/b\n\n")
    assert events.unpack(raw)[0] == "a/b"
    assert SaltEvent.unpack(raw)[1]["x"] == 1
    with pytest.raises(ValueError, match="max_event_size"):
        SaltEvent.pack("a", {"x": "y" * 100}, max_size=50)
    with pytest.raises(WireError):
        SaltEvent.unpack(b"nothing")


def test_destroy_closes_and_a_use_opens_again(bus_process):
    """As often as wanted; no descriptor stays."""
    opts = bus_process.opts
    with get_event("master", opts=opts) as made:
        made.fire_event({}, "t")
    before = open_descriptors()
    for _ in range(5):
        made = get_event("master", opts=opts)
        assert made.fire_event({}, "t")
        made.destroy()
        made.destroy()
        assert made.fire_event({}, "again")
        made.destroy()
    wait_for(lambda: open_descriptors() <= before, "the descriptors")


def test_thousands_of_short_lived_objects_leak_nothing(bus_process):
    """Neither descriptors nor sockets of ZeroMQ, of which a process has about a thousand."""
    opts = bus_process.opts
    with get_event("master", opts=opts, listen=False) as made:
        assert made.fire_event({}, "t")
    before = open_descriptors()
    for _ in range(2500):
        with get_event("master", opts=opts, listen=False) as made:
            assert made.fire_event({}, "t", timeout=10_000)
    wait_for(lambda: open_descriptors() <= before + 1, "the descriptors")


def test_a_forgotten_object_is_worth_no_warning(bus_process):
    """Nor is one that a forked child leaves to its parent: Salt's scripts destroy nothing."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        forgotten = get_event("master", opts=bus_process.opts)
        assert forgotten.fire_event({}, "t")
        native = bus.connect("master", bus_process.opts)
        assert native.fire("t", {})
        pid, native._pid, forgotten._pid = forgotten._pid, 0, 0  # as it looks in a child
        assert forgotten.fire_event({}, "t")
        assert native.fire("t", {})
        assert forgotten._pid == native._pid == pid
        del forgotten, native
        gc.collect()
    assert [str(one.message) for one in caught] == []


def test_connecting_twice_is_no_harm(events):
    """`connect_pub` can be called again, as Salt's users do."""
    assert events.connect_pub()
    assert events.connect_pub(timeout=2)
    assert events.connect_pull()
    events.fire_event({}, "a")
    assert events.get_event(full=True)["tag"] == "a"


def test_a_thread_each_is_safe(bus_process):
    """Objects of several threads do not disturb each other."""
    opts, found = bus_process.opts, []

    def work(number):
        with get_event("master", opts=opts) as made:
            for count in range(50):
                assert made.fire_event({"n": count}, f"t/{number}", timeout=10_000)
            got = [made.get_event(tag=f"t/{number}")["n"] for _ in range(50)]
            found.append(got == list(range(50)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 6


def _in_child(made, pipe):
    """Fire and listen with an object that the parent made."""
    made.fire_event({"who": "child"}, "from/child", timeout=10_000)
    made.connect_pub()
    pipe.send("listening")
    pipe.send(made.get_event(wait=SECONDS, tag="to/child")["x"])
    made.destroy()


def test_a_forked_child_connects_for_itself(events):
    """The same object works in parent and child, both at once."""
    events.fire_event({}, "before")
    events.get_event(tag="before")
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_in_child, args=(events, theirs))
    child.start()
    assert ours.poll(SECONDS)
    assert ours.recv() == "listening"
    assert events.get_event(tag="from/child")["who"] == "child"
    events.fire_event({"x": 5}, "to/child")
    assert ours.poll(SECONDS)
    assert ours.recv() == 5
    child.join(SECONDS)
    assert child.exitcode == 0
    assert events.get_event(tag="to/child")["x"] == 5


def _hear_own(made, pipe):
    """Fire with an object that the parent listens with, then listen."""
    made.fire_event({"x": 1}, "fork/fired", timeout=10_000)
    pipe.send(made.get_event(wait=SECONDS, tag="fork/"))
    made.destroy()


@pytest.mark.parametrize("on", [lambda opts: opts, on_ports], ids=["line", "ports"])
def test_a_forked_child_hears_what_it_fires_first(place, master_opts, on):
    """Whatever the parent has heard or not; and the parent misses nothing."""
    with (
        running_bus(on(master_opts)) as running,
        get_event("master", opts=running.opts) as events,
    ):
        events.fire_event({}, "fork/before", timeout=10_000)
        ours, theirs = multiprocessing.Pipe()
        child = multiprocessing.get_context("fork").Process(target=_hear_own, args=(events, theirs))
        child.start()
        assert ours.poll(2 * SECONDS)
        assert ours.recv()["x"] == 1
        child.join(SECONDS)
        assert child.exitcode == 0
        found = [events.get_event(tag="fork/", full=True)["tag"] for _ in range(2)]
        assert found == ["fork/before", "fork/fired"]


def test_a_forked_child_that_only_fires_does_not_listen(bus_process, monkeypatch):
    """No more than its parent did."""
    opened = []
    monkeypatch.setattr(event_module, "open_listener", opened.append)
    with get_event("master", opts=bus_process.opts, listen=False) as made:
        made._pid = 0  # as it looks in a child
        assert made.fire_event({}, "t", timeout=10_000)
    assert opened == []


def test_a_child_that_may_not_listen_fires_all_the_same(bus_process, events):
    """That the bus has no room for one more listener is told to who asks for an event."""
    events.raise_errors = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_module, "open_listener", lambda _: _NoRoom())
        events._pid = 0  # as it looks in a child
        assert events.fire_event({}, "t", timeout=10_000)
        with pytest.raises(ListenerLimitError):
            events.get_event(wait=1)
    assert events.get_event(wait=0.01) is None
    assert events.fire_event({"x": 1}, "t", timeout=10_000)
    assert events.get_event(tag="t")["x"] == 1


class _NoRoom:
    def wait_ready(self, _timeout):
        raise ListenerLimitError("no room")

    def close(self):
        pass


def test_it_outlives_its_bus(bus_process, events):
    """After a crash of the bus the same objects fire and listen on."""
    events.fire_event({}, "before")
    bus_process.restart()
    assert events.fire_event({}, "after/1", timeout=20_000)

    def hears():
        events.fire_event({}, "after/2", timeout=20_000)
        return events.get_event(wait=0.5, tag="after/2")

    assert wait_for(hears)


def test_what_a_listener_did_not_get_is_counted(bus_process, events):
    """What came while it was not connected: what it got and what it lost make the whole."""
    fired, got = 0, []
    bus_process.restart()
    for _ in range(5):
        _fire_once(bus_process.opts, "before", {})
        fired += 1

    def hears():
        nonlocal fired
        _fire_once(bus_process.opts, "after", {})
        fired += 1
        while found := events.get_event(wait=0.2, full=True):
            got.append(found["tag"])
        return "after" in got

    wait_for(hears)
    assert len(got) + events.lost == fired


def test_a_slow_listener_knows_how_much_it_lost(master_opts):
    """What it got and what it lost make the whole, without another event."""
    count, got = 20_000, 0
    opts = master_opts.with_(listener_queue_size=1 << 20)
    with (
        running_bus(opts),
        get_event("master", opts=opts) as events,
        get_event("master", opts=opts, listen=False) as made,
    ):
        assert made.fire_events(("t", {"x": "y" * 300}) for _ in range(count)) == count
        while got + events.lost < count:  # the last may be lost: then only a mark comes
            got += events.get_event(wait=0.1, tag="t") is not None
        assert got + events.lost == count
        assert events.lost > 0
        assert sum(last - first + 1 for first, last in events.gaps) == events.lost


def test_a_listener_may_come_before_its_bus(master_opts):
    """Without ``raise_errors`` it waits for one."""
    from tests.support import running_bus

    with get_event("master", opts=master_opts) as made:
        assert made.get_event(wait=0.05) is None
        with running_bus(master_opts):

            def hears():
                made.fire_event({}, "t", timeout=10_000)
                return made.get_event(wait=0.5)

            assert wait_for(hears)


@pytest.fixture
def minion_bus(minion_opts, place):
    """A minion's bus in a thread, with the hook that a test sets."""
    from bus.config import private_dir

    private_dir(minion_opts["sock_dir"])
    hooks = []
    sockets = EventSockets(
        pull=endpoints.minion_pull(minion_opts),
        pub=endpoints.minion_pub(minion_opts),
        fires=endpoints.minion_fires(minion_opts),
        store=MemoryStore(),
        on_event=lambda *arguments: bool(hooks) and hooks[0](*arguments),
    )
    ended = threading.Event()

    def serve():
        while not ended.is_set():
            for socket in sockets.sockets:
                if await_input(socket, 5):
                    sockets.handle(socket)

    thread = threading.Thread(target=serve)
    thread.start()
    yield hooks
    ended.set()
    thread.join()
    sockets.close()


def test_a_minions_bus_takes_events(minion_opts, minion_bus):
    """MinionEvent fires and listens on the bus of the minion that ``opts`` names."""
    with MinionEvent(minion_opts) as made, get_event("minion", opts=minion_opts) as other:
        assert made.fire_event({"x": 1}, "local")
        assert other.get_event(full=True)["tag"] == "local"


def test_fire_master_asks_the_minions_bus(minion_opts, minion_bus):
    """The tag ``fire_master``, and the user's tag and data inside."""
    with MinionEvent(minion_opts) as made:
        assert made.fire_master({"x": 1}, "myco/up")
        data = made.get_event(tag="fire_master")
    del data["_stamp"]
    assert data == {"tag": "myco/up", "data": {"x": 1}, "events": None, "pretag": None}


def test_fire_master_waits_for_what_the_minion_says(minion_opts, minion_bus):
    """True only once it is on its way for good, however often the question is repeated."""
    held = []
    minion_bus.append(lambda tag, raw, done: held.append(done) or True)
    with MinionEvent(minion_opts, listen=False) as made:
        assert made.fire_master({}, "t", timeout=1500) is False
        assert len(held) == 1
        answers = []
        thread = threading.Thread(target=lambda: answers.append(made.fire_master({}, "t", 10_000)))
        thread.start()
        wait_for(lambda: len(held) == 2)
        time.sleep(0.7)  # long enough for the question to be repeated
        assert answers == []
        held[1](None)
        thread.join()
        assert answers == [True]


def test_fire_master_is_false_when_the_minion_cannot(minion_opts, minion_bus):
    """The spool is full, say."""
    minion_bus.append(lambda tag, raw, done: done(JournalError("spool full")) or True)
    with MinionEvent(minion_opts, listen=False) as made:
        assert made.fire_master({}, "t") is False


def test_sockets_are_where_salt_has_them(bus_process):
    """The names of the files, and only their owner may open them."""
    from pathlib import Path
    from stat import S_IMODE

    folder = Path(bus_process.opts["sock_dir"])
    for name in ("master_event_pub.ipc", "master_event_pull.ipc"):
        assert S_IMODE((folder / name).stat().st_mode) == 0o600
    assert S_IMODE(folder.stat().st_mode) == 0o700
    assert folder.stat().st_uid == os.getuid()
