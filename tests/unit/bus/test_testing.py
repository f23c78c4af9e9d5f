"""The bus in memory and the real one: one suite, run against both."""

import asyncio
import contextlib
import re
from pathlib import Path

import msgpack
import pytest

import bus
from bus.errors import DataError, NotRunningError, RemoteError
from bus.event import get_event
from bus.tags import MATCH_TYPES
from bus.testing import MemoryBus
from tests.support import SECONDS, running_bus, wait_for


class _Real:
    """A running bus with the interface of a `MemoryBus`."""

    def __init__(self, opts):
        self._opts = opts

    def connect(self):
        return bus.connect("master", self._opts, timeout=5)

    def get_event(self):
        return get_event("master", opts=self._opts)

    @property
    def events(self):
        with self.connect() as connection:
            return list(connection.listen(since=0, timeout=0.05))

    @property
    def tags(self):
        return [event.tag for event in self.events]


@pytest.fixture(params=["memory", "real"])
def either(request):
    """A bus of one kind, then of the other."""
    if request.param == "memory":
        yield MemoryBus()
        return
    opts = request.getfixturevalue("master_opts")
    with running_bus(opts):
        yield _Real(opts)


@pytest.fixture
def events(either):
    """A native connection."""
    with either.connect() as made:
        yield made


def _all(listening):
    """Return what is there; the real bus needs a moment."""
    found = []
    while event := listening.next(0.3):
        found.append(event)
    return found


def test_firing_and_listening(either, events):
    """Numbers from 1, globs, live from now on, data as it comes out of the wire."""
    events.fire("a/old", {})
    listening = events.listen("a/*/c")
    data = {"pair": (1, 2), "raw": b"\xff", "n": None}
    assert [events.fire(tag, data) for tag in ("a/b/x", "b/b/c", "a/b/c")] == [2, 3, 4]
    assert events.fire_events([("a/1/c", {}), ("a/2/c", {})]) == 2
    (first, *rest) = _all(listening)
    assert (first.tag, first.seq, first.payload) == (
        "a/b/c",
        4,
        {"pair": [1, 2], "raw": b"\xff", "n": None},
    )
    assert first.stamp.endswith("+00:00")
    assert [event.tag for event in rest] == ["a/1/c", "a/2/c"]
    assert (listening.lost, listening.gaps, listening.next(0)) == (0, [], None)
    assert data == {"pair": (1, 2), "raw": b"\xff", "n": None}
    assert either.tags[:2] == ["a/old", "a/b/x"]
    assert [event.seq for event in either.events] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("since", [2, "2", -1, "1h", 0.0])
def test_since(events, since):
    """A number, a time, an age; then what comes."""
    for number in range(1, 5):
        events.fire(f"t/{number}", {})
    listening = events.listen("t/*", since=since)
    events.fire("t/5", {})
    begin = 3 if str(since) == "2" else 1
    assert [event.seq for event in _all(listening)] == list(range(begin, 6))


def test_what_cannot_be_fired(events):
    """The same errors, and nothing is kept."""
    for tag, data in (("", {}), ("a\nb", {}), ("t", []), ("t", {"x": object()})):
        with pytest.raises(ValueError, match=r"."):
            events.fire(tag, data)
    with pytest.raises(ValueError, match="max_event_size"):
        events.fire("t", {"x": "y" * 2_000_000})
    with pytest.raises(DataError, match="give a sequence number"):
        events.listen(since="yesterday")
    assert events.fire("t", {}) == 1


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({(1, 2): "x"}, "a mapping in msgpack whose key is a list"),
        ({"x": msgpack.Timestamp(1)}, "a type of its own"),
        ({"x": msgpack.ExtType(5, b"x")}, "a type of its own"),
    ],
)
def test_what_could_not_be_read_again_is_not_taken(either, events, data, words):
    """What msgpack writes and nobody could read is a ValueError in each way to fire."""
    with pytest.raises(DataError, match=words):
        events.fire("t", data)
    with pytest.raises(DataError, match=words):
        events.fire_events([("t", data)])
    with either.get_event() as salts, pytest.raises(ValueError, match=words):
        salts.fire_event(data, "t")
    assert events.fire("t", {}) == 1


def test_how_many_before_a_wrong_one_are_kept(either, events):
    """All, whatever they were sent with; the error says so, and one can go on from there."""
    pairs = [("t", {"n": number}) for number in range(1000)]
    with either.get_event() as salts:
        for fire_events in (events.fire_events, salts.fire_events):
            before = len(either.tags)
            with pytest.raises(ValueError, match="event 701: the event tag is empty") as caught:
                fire_events([*pairs[:700], ("", {}), *pairs[701:]])
            assert caught.value.kept == len(either.tags) - before == 700
            assert fire_events(pairs[caught.value.kept :]) == 300


_WAITS = ["x", [], float("nan")]


@pytest.mark.parametrize("wait", _WAITS, ids=repr)
def test_a_wrong_time_out_is_named(either, events, wait):
    """Every call that takes one says which, and that None and infinity mean for ever."""
    with either.get_event() as salts:
        for call, name in (
            (lambda: salts.get_event(wait=wait), "wait="),
            (lambda: salts.fire_event({}, "t", timeout=wait), "timeout=.* milliseconds"),
            (lambda: salts.fire_events([], timeout=wait), "timeout=.* milliseconds"),
            (lambda: salts.fire_master({}, "t", timeout=wait), "timeout=.* milliseconds"),
            (lambda: events.fire("t", {}, timeout=wait), "timeout=.* seconds"),
            (lambda: events.fire_events([], timeout=wait), "timeout=.* seconds"),
            (lambda: events.listen(timeout=wait), "timeout=.* seconds"),
            (lambda: events.listen().next(wait), "timeout=.* seconds"),
        ):
            with pytest.raises(DataError, match=f"{name}.*None to wait for ever"):
                call()


@pytest.mark.parametrize("wait", [None, float("inf"), 10**12])
def test_a_time_out_without_end(either, events, wait):
    """It is one, in each call."""
    with either.get_event() as salts:
        assert salts.fire_event({}, "t/1", timeout=wait)
        assert salts.fire_events([("t/2", {})], timeout=wait) == 1
        assert salts.get_event(wait=wait, full=True)["tag"] == "t/1"
    listening = events.listen(since=0, timeout=wait)
    assert events.fire("t/3", {}, timeout=wait) == 3
    assert events.fire_events([("t/4", {})], timeout=wait) == 1
    assert [listening.next(wait).seq, next(listening).seq] == [1, 2]


@pytest.mark.parametrize("tag", [None, 5, b"t", ["t"]], ids=repr)
def test_a_tag_to_match_is_text(either, events, tag):
    """Said at once, not by a wait that ends in nothing."""
    with either.get_event() as salts:
        for match_type in MATCH_TYPES:
            with pytest.raises(ValueError, match="a tag to match is text, not"):
                salts.get_event(tag=tag, match_type=match_type)
    with pytest.raises(ValueError, match="a tag to match is text, not"):
        events.listen(tag)
    with pytest.raises(ValueError, match="unknown match type"):
        events.listen("t", match_type=["fnmatch"])


@pytest.mark.parametrize("since", [True, {"x"}, [1], b"1", float("nan"), "", 1j], ids=repr)
def test_since_of_a_wrong_type_is_refused(events, since):
    """With the same words as one that cannot be read."""
    with pytest.raises(DataError, match=r"^since=.*: give a sequence number"):
        events.listen(since=since)


@pytest.mark.parametrize("ahead", [4, 2**70])
def test_since_a_number_that_is_not_there_yet_is_now(events, ahead, caplog):
    """Such a number is of another journal: what comes next is not skipped until it is reached."""
    events.fire_events([("t", {})] * 3)
    listening = events.listen(since=ahead)
    assert f"there is no event {ahead} yet" in caplog.text
    assert events.fire("t", {}) == 4
    assert [event.seq for event in _all(listening)] == [4]


def test_a_cursor_beyond_the_journal_comes_back(events, caplog):
    """As after a power cut that took the journal's end: what has these numbers now is heard."""
    events.fire_events([("t", {})] * 3)
    events.listen(cursor="c", since=0).close()
    with contextlib.closing(events.open_calls()) as calls:
        place = calls.call("cursors.get", {"name": "c"})
        calls.call("cursors.set", {"name": "c", "bus_id": place["bus_id"], "seq": 100})
        listening = events.listen(cursor="c")
        assert "there is no event 100 yet" in caplog.text
        assert calls.call("cursors.get", {"name": "c"})["seq"] == 3
    events.fire("t", {})
    assert [event.seq for event in _all(listening)] == [4]


@pytest.mark.parametrize("seq", [3, -1, 10**9, "1", 1.0, True], ids=repr)
def test_only_what_was_given_out_can_be_committed(events, seq):
    """Else the events before it would never come again."""
    events.fire_events([("t", {})] * 3)
    listening = events.listen(cursor="c", since=0, auto_commit=False)
    assert [listening.next(SECONDS).seq, listening.next(SECONDS).seq] == [1, 2]
    with pytest.raises(DataError, match=r"cannot be committed: .* at most 2"):
        listening.commit(seq)
    assert listening.commit(2) == 2


@pytest.mark.parametrize("length", [200, 2000])
def test_a_long_prefix(events, length):
    """However long the literal beginning of a glob is."""
    tag = "ä" * length
    listening = events.listen(f"{tag}/*")
    events.fire_events([(tag, {}), (f"{tag}/x", {}), (f"{tag[:-1]}/x", {})])
    assert [event.seq for event in _all(listening)] == [2]


def test_salt_subscribes_to_no_tag(either):
    """``subscribe()`` keeps nothing, as in Salt, and ``subscribe("")`` everything."""
    with either.get_event() as salts:
        for subscribed, kept in ((None, None), ("", {"n": 1})):
            salts.subscribe(subscribed)
            salts.fire_event({"n": 1, "_stamp": ""}, "a")
            salts.fire_event({}, "b")
            assert salts.get_event(wait=5, tag="b") is not None
            found = salts.get_event(wait=0.1, tag="a")
            assert (found and {"n": found["n"]}) == kept
            salts.unsubscribe(subscribed)


def test_salts_interface(either, events):
    """Match types, the cache of subscribed tags, full, and time-outs."""
    with either.get_event() as listener:
        assert listener.fire_event({"n": 1}, "x/one")
        events.fire("y/two", {"n": 2})
        events.fire("x/three", {"n": 3})
        listener.subscribe("x/")
        assert listener.get_event(wait=5, tag="y/")["n"] == 2
        assert listener.get_event(wait=5, tag="x/", full=True)["tag"] == "x/one"
        assert listener.get_event(wait=5, tag="*/three", match_type="fnmatch")["n"] == 3
        assert listener.get_event(wait=0.1) is None
        assert listener.get_event_noblock() is None
        with pytest.raises(ValueError, match="empty"):
            listener.fire_event({}, "")
        assert listener.fire_events([("z", {"n": 4}), ("z", {"n": 5})]) == 2
        found = listener.iter_events(tag="z", full=True)
        assert [next(found)["data"]["n"] for _ in range(2)] == [4, 5]
        assert listener.lost == 0
        assert list(listener.gaps) == []


def test_a_cursor_goes_on_where_it_was(either, events):
    """Each event is done when the next one is asked for; the last one comes again."""
    events.fire("t/0", {})
    first = events.listen("t/*", cursor="c")
    events.fire_events([(f"t/{number}", {}) for number in range(1, 4)])
    assert [first.next(SECONDS).tag for _ in range(2)] == ["t/1", "t/2"]
    first.close()
    with either.connect() as other, contextlib.closing(other.listen(cursor="c")) as second:
        assert [event.tag for event in _all(second)] == ["t/2", "t/3"]
    assert _all(events.listen(cursor="c")) == []


def test_a_cursor_by_hand(events):
    """Without auto_commit, only what was committed is done."""
    events.fire_events([(f"t/{number}", {}) for number in range(1, 6)])
    listening = events.listen("t/*", cursor="c", since=0, auto_commit=False)
    assert [event.seq for event in _all(listening)] == [1, 2, 3, 4, 5]
    listening.close()
    listening = events.listen("t/*", cursor="c", since=3, auto_commit=False)
    assert listening.next(SECONDS).seq == 1
    assert listening.commit() == 1
    assert len(_all(listening)) == 4
    assert listening.commit(3) == 3
    listening.close()
    with pytest.raises(DataError, match="closed"):
        listening.commit()
    assert events.listen("t/*", cursor="c").next(SECONDS).seq == 4
    with pytest.raises(DataError, match="cursor='a-name'"):
        events.listen().commit()
    for name in ("", "x" * 201, "a\nb"):
        with pytest.raises(DataError, match="1 to 200"):
            events.listen(cursor=name)


def test_a_look_that_finds_nothing_saves_what_is_done(events):
    """A listener that only looks may be killed too: its last event does not come again."""
    events.fire("t/1", {})
    listening = events.listen("t/*", cursor="c", since=0)
    assert listening.next(SECONDS).seq == 1
    assert listening.next(0) is None
    assert events.open_calls().call("cursors.get", {"name": "c"})["seq"] == 1


def test_a_cursor_passes_over_what_does_not_match(events):
    """Many events that are of no interest are not looked through again."""
    listening = events.listen("wanted", cursor="c")
    events.fire_events([("other", {})] * 2500)
    assert listening.next(0.3) is None
    assert listening.next(0.1) is None
    with contextlib.closing(events.open_calls()) as calls:
        place = calls.call("cursors.get", {"name": "c"})
    assert place["seq"] >= 2000


def test_cursors_can_be_listed_moved_and_deleted(events):
    """What the bus answers about them."""
    calls = events.open_calls()
    with contextlib.closing(calls):
        assert calls.call("cursors.list") == {}
        events.fire_events([("t", {})] * 3)
        events.listen(cursor="a", since=1).close()
        found = calls.call("cursors.list")
        assert (list(found), found["a"]["seq"]) == (["a"], 1)
        move = {"name": "a", "bus_id": found["a"]["bus_id"], "only_forward": True}
        assert calls.call("cursors.set", {**move, "seq": 3}) == 3
        assert calls.call("cursors.set", {**move, "seq": 2}) == 3
        assert calls.call("cursors.set", {**move, "seq": 2, "only_forward": False}) == 2
        with pytest.raises(DataError, match="sequence number"):
            calls.call("cursors.set", {**move, "seq": -1})
        assert calls.call("cursors.delete", {"name": "a"}) is True
        assert calls.call("cursors.delete", {"name": "a"}) is False
        with pytest.raises(RemoteError, match="no method"):
            calls.call("cursors.shake")


def test_memory_never_waits():
    """Whatever the time-out: with one thread nothing could come."""
    memory = MemoryBus()
    with memory.connect() as events, memory.get_event() as listener:
        assert events.listen().next() is None
        assert list(events.listen(since=0)) == []
        assert listener.get_event(wait=0) is None
        assert listener.get_event_block() is None
        events.fire("t", {})
        assert listener.get_event_block()["tag"] == "t"
        events.fire("t", {"n": 1})

        async def collect():
            return [data["n"] async for data in listener.iter_events_async("t")]

        assert asyncio.run(collect()) == [1]
        with pytest.raises(DataError, match="no sockets"):
            _ = events.open_listener("").socket


def test_memory_has_the_clock_that_it_is_given():
    """Time stamps and times in ``since`` follow it."""
    now = [1_000_000_000 * 1_000_000_000]
    memory = MemoryBus(clock=lambda: now[0])
    with memory.connect() as events:
        events.fire("t", {})
        now[0] += 60 * 1_000_000_000
        events.fire("t", {})
        assert memory.events[0].stamp == "2001-09-09T01:46:40.000000+00:00"
        assert [event.seq for event in events.listen(since="30s")] == [2]
        assert [event.seq for event in events.listen(since=1_000_000_030.0)] == [2]


def test_memory_can_be_down():
    """What your code does without a bus can be tested too."""
    memory = MemoryBus()
    events, listener = memory.connect(), memory.get_event()
    memory.running = False
    with pytest.raises(NotRunningError):
        memory.connect()
    with pytest.raises(NotRunningError):
        events.fire("t", {})
    assert events.fire_events([("t", {})]) == 0
    assert listener.fire_event({}, "t") is False
    assert listener.connect_pull() is False
    assert memory.get_event().connect_pub() is False
    with pytest.raises(NotRunningError):
        memory.get_event(raise_errors=True)
    memory.running = True
    assert listener.fire_event({}, "t")
    assert listener.connect_pull()
    events.close()
    listener.destroy()


def test_a_cursor_survives_the_kill_of_the_bus(master_opts):
    """And the listener that has it goes on by itself."""
    with running_bus(master_opts) as running:
        with bus.connect("master", master_opts, timeout=5) as events:
            listening = events.listen("t/*", cursor="c")
            events.fire_events([(f"t/{number}", {}) for number in range(1, 4)])
            assert [listening.next(SECONDS).seq for _ in range(3)] == [1, 2, 3]
            assert listening.next(0.1) is None
            running.restart()
            wait_for(lambda: events.fire_events([("t/4", {})]) == 1)
            assert listening.next(SECONDS).seq == 4
        with bus.connect("master", master_opts, timeout=5) as events:
            assert events.listen("t/*", cursor="c").next(SECONDS).seq == 4


def test_the_page_about_it_is_true():
    """Its code runs, and its tests pass."""
    page = Path(__file__).parents[3] / "docs" / "how-to" / "test-your-code.md"
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    names = {}
    for block in blocks:
        exec(compile(block, str(page), "exec"), names)
    tests = [value for name, value in names.items() if name.startswith("test_")]
    for test in tests:
        test()
    assert len(tests) == 2
