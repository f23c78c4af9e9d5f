"""A journal as JSON lines and back, and what it holds."""

import io
import itertools
import json

import pytest

import bus
from bus import endpoints, wire
from bus.errors import BusError, DataError
from bus.frames import Fire
from bus.journal import Journal, JournalReader, journal_path
from bus.journal.stats import stats
from bus.journal.transfer import check_lines, export_lines, import_lines, producer_of
from bus.publisher import Publisher
from bus.tags import matcher

_LIMIT = wire.DEFAULT_MAX_EVENT_SIZE
_EVERYTHING = matcher("*", "fnmatch")


@pytest.fixture
def path(tmp_path):
    """A journal with 500 events in fires of different sizes, one a millisecond."""
    made = journal_path(tmp_path)
    clock = itertools.count(1_000_000_000_000_000, 1000)
    journal = Journal(made, clock=lambda: next(clock))
    seq = 0
    for number, count in enumerate(itertools.islice(itertools.cycle([1, 99]), 10), 1):
        events = [
            wire.pack_event(f"a/{(seq + n) % 3}/x", {"n": seq + n, "raw": b"\xff"})
            for n in range(count)
        ]
        journal.append([Fire(b"p", number, 1, events)])
        seq += count
    journal.close()
    return made


@pytest.fixture
def lines(path):
    """All of it as lines."""
    with JournalReader(path) as reader:
        return [line.encode() for line in export_lines(reader, _EVERYTHING)]


def test_export(path):
    """Number, time, tag and data; bytes in their form; chosen by glob and number."""
    seen = []
    with JournalReader(path) as reader:
        found = [
            json.loads(line) for line in export_lines(reader, _EVERYTHING, 0, 400, seen.append)
        ]
        assert [one["seq"] for one in found] == list(range(1, 401))
        assert seen[-1] == 400
        one = found[1]
        assert list(one) == ["seq", "at", "tag", "data"]
        assert (one["tag"], one["data"]["raw"]) == ("a/1/x", {"$bytes": "/w=="})
        assert one["at"] == reader.journaled_at(2).isoformat(timespec="microseconds")
        assert one["at"] != found[0]["at"]
        some = [json.loads(line) for line in export_lines(reader, matcher("a/1/*", "fnmatch"), 450)]
        assert {line["tag"] for line in some} == {"a/1/x"}
        assert min(line["seq"] for line in some) > 450
        assert list(export_lines(reader, _EVERYTHING, 500)) == []


def _import(running, lines, **changes):
    file = io.BytesIO(b"".join(lines))
    publisher = Publisher(endpoints.master_pull(running.opts), producer=producer_of(file))
    given = {"name": "f", "max_event_size": _LIMIT, **changes}
    try:
        return import_lines(file, publisher, running.call("status")["last_seq"], **given)
    finally:
        publisher.close()


def _events(running):
    with bus.connect("master", running.opts, timeout=5) as events:
        return list(events.listen(since=0, timeout=0.2))


def test_import_keeps_data_and_stamps(bus_process, lines):
    """Events are the same but for their numbers."""
    with bus.connect("master", bus_process.opts, timeout=5) as events:
        events.fire("before", {})
    done = _import(bus_process, lines)
    assert (done.events, done.fresh) == (500, 500)
    _, *found = _events(bus_process)
    assert [event.seq for event in found] == list(range(2, 502))
    assert [event.payload["n"] for event in found] == list(range(500))
    assert found[0].data["raw"] == b"\xff"
    assert found[7].data["_stamp"] == json.loads(lines[7])["data"]["_stamp"]
    again = _import(bus_process, lines)
    assert (again.events, again.fresh) == (500, 0)
    assert len(_events(bus_process)) == 501


class _Interrupted(Exception):  # noqa: N818 - it stands for Ctrl-C
    """What ends an import in its middle."""


@pytest.mark.parametrize("after", [1, 600, 2500])
def test_an_interrupted_import_goes_on(bus_process, lines, after):
    """Wherever it was interrupted, each event is there once, also after a kill of the bus."""
    many = lines * 10

    def interrupt(count):
        if count >= after:
            raise _Interrupted

    with pytest.raises(_Interrupted):
        _import(bus_process, many, progress=interrupt)
    bus_process.restart()
    done = _import(bus_process, many)
    assert done.events == 5000
    assert done.fresh < 5000  # all of it may have been on the way already
    assert [event.payload["n"] for event in _events(bus_process)] == list(range(500)) * 10


def test_a_refusal_ends_the_import_and_loses_nothing_later(bus_process, lines):
    """What comes after a refused event is not kept either, so that a repeat can bring it."""
    big = b'{"tag": "big", "data": {"x": "%s"}}\n' % (b"y" * 2_000_000)
    with pytest.raises(BusError, match="max_event_size"):
        _import(bus_process, [*lines, big, *lines], max_event_size=4_000_000)
    assert len(_events(bus_process)) in (400, 500)


def test_a_bus_that_goes_away(bus_process, lines):
    """The error says how far it came and what to do."""
    file = io.BytesIO(b"".join(lines))
    publisher = Publisher(endpoints.master_pull(bus_process.opts), producer=producer_of(file))
    bus_process.kill()
    try:
        with pytest.raises(BusError, match="import the same file again"):
            import_lines(file, publisher, 0, name="f", max_event_size=_LIMIT, timeout=0.3)
    finally:
        publisher.close()
        bus_process.start()


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b'{"tag": "t"}',
        b'{"tag": "", "data": {}}',
        b'{"tag": 1, "data": {}}',
        b'{"tag": "t", "data": []}',
        b'{"tag": "t", "data": {"x": {"$bytes": "%"}}}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_a_line_that_is_no_event(lines, line):
    """File and line are named."""
    with pytest.raises(DataError, match="f:3: no exported event"):
        check_lines([lines[0], b"\n", line], name="f", max_event_size=_LIMIT)
    assert check_lines(lines, name="f", max_event_size=_LIMIT) == 500


def test_stats(path):
    """How much, from when to when, and of what."""
    with JournalReader(path) as reader:
        found = stats(reader)
        assert (found.events, found.first_seq, found.last_seq, found.files) == (500, 1, 500, 1)
        assert found.tags == {"a/0": 167, "a/1": 167, "a/2": 166}
        assert found.first_at < found.last_at
        assert found.size > 10_000
        assert not found.is_sampled
        sampled = stats(reader, top=1, sample=100)
        assert sampled.is_sampled
        assert list(sampled.tags.values()) == pytest.approx([167], abs=10)


def test_stats_of_nothing(tmp_path):
    """An empty journal has no times."""
    Journal(journal_path(tmp_path)).close()
    with JournalReader(journal_path(tmp_path)) as reader:
        found = stats(reader)
    assert (found.events, found.first_seq, found.last_seq) == (0, 1, 0)
    assert (found.first_at, found.last_at, found.tags) == (None, None, {})
