"""What each stream gets next: limits, gaps, a journal that fails, a bus that is another one."""

import asyncio
import json

import pytest

from bus.errors import JournalError, NotRunningError
from reactor.http.batches import Batch, Row
from reactor.http.errors import TooManyError
from reactor.http.filters import Filter
from reactor.http.streams import GAP_TAG, Stream, Streams, sse


def batch(before, last, first=None):
    """Return a batch of the events from ``first`` on, by default all of it."""
    first = before + 1 if first is None else first
    rows = [
        Row(seq, f"t/{seq}", f'{{"tag": "t/{seq}", "data": {{}}}}')
        for seq in range(first, last + 1)
    ]
    return Batch(before, last, rows)


class Hub:
    """Gives what the test has put into it."""

    def __init__(self, *given, last=0):
        self.given = list(given)
        self.last = last or max((each.last for each in given if isinstance(each, Batch)), default=0)
        self.epoch, self.is_reading, self.users, self.waits = 1, True, 0, 0
        self.on_join = []

    async def join(self):
        await asyncio.sleep(0)
        if self.on_join and (error := self.on_join.pop(0)):
            raise error
        self.users += 1
        self.is_reading = True
        return self.last

    def leave(self):
        self.users -= 1

    def wake(self):
        pass

    async def wait(self):
        self.waits += 1
        await asyncio.sleep(0)
        if self.waits > 50:
            raise TimeoutError("nothing more is to come")

    async def after(self, _seq):
        found = self.given.pop(0) if self.given else None
        if isinstance(found, Exception):
            raise found
        return found


def a_stream(after=0, limit=None, *, is_complete=True, wanted=None):
    return Stream(wanted or Filter(), after, limit, is_complete, lambda: True)


def streams_of(hub, lag=10, most=5):
    return Streams(hub, most=most, lag=lag, heartbeat=60)


async def read(streams, stream, count):
    """Return what comes as (id, tag, data)."""
    found = []
    async for chunk in streams.chunks(stream, sse):
        for text in (chunk or b"").decode().split("\n\n")[:-1]:
            fields = dict(line.split(": ", 1) for line in text.splitlines())
            found.append((int(fields["id"]), fields["tag"], json.loads(fields["data"])["data"]))
        if len(found) >= count:
            break
    return found


def run(work):
    async def main():
        async with asyncio.timeout(20):
            return await work()

    return asyncio.run(main())


def test_a_limit_ends_it_within_a_batch():
    """No more than asked for, of those that are wanted."""
    hub = Hub(batch(0, 9))
    wanted = Filter(("t/[2468]",))
    stream = a_stream(limit=3, wanted=wanted)
    found = run(lambda: read(streams_of(hub), stream, 100))
    assert [seq for seq, _, _ in found] == [2, 4, 6]


def test_a_live_stream_that_is_far_behind_goes_on_at_the_newest():
    """It is told once what it lost; one that asked for its place gets everything."""
    hub = Hub(batch(20, 25), last=20)
    streams = streams_of(hub, lag=10)
    stream = a_stream(after=5, is_complete=False)
    found = run(lambda: read(streams, stream, 2))
    assert found[0] == (20, GAP_TAG, {"first": 6, "last": 20, "lost": 15})
    assert found[1][0] == 21
    assert (stream.lost, streams.dropped) == (15, 15)
    hub = Hub(batch(5, 7), last=20)
    found = run(lambda: read(streams_of(hub, lag=10), a_stream(after=5), 1))
    assert found[0][0] == 6


def test_what_the_journal_has_no_more_is_told():
    """At the beginning of a batch, in its middle, or all of it."""
    hub = Hub(batch(0, 5, first=3), batch(5, 9, first=10), batch(9, 10))
    stream = a_stream()
    found = run(lambda: read(streams_of(hub), stream, 6))
    assert found[0] == (2, GAP_TAG, {"first": 1, "last": 2, "lost": 2})
    assert [seq for seq, _, _ in found[1:4]] == [3, 4, 5]
    assert found[4] == (9, GAP_TAG, {"first": 6, "last": 9, "lost": 4})
    assert found[5][0] == 10
    assert stream.lost == 6


def test_a_journal_that_cannot_be_read_is_waited_for(caplog):
    """The stream goes on from where it was."""
    hub = Hub(JournalError("the disk is away"), batch(0, 1))
    found = run(lambda: read(streams_of(hub), a_stream(), 1))
    assert [seq for seq, _, _ in found] == [1]
    assert hub.waits == 1
    assert "the disk is away" in caplog.text


def test_a_bus_that_is_away_is_waited_for():
    """And read again once it is there; the stream is one user of the hub, not two."""
    hub = Hub(batch(0, 1))
    hub.is_reading, hub.on_join = False, [NotRunningError("no bus"), None]
    found = run(lambda: read(streams_of(hub), a_stream(), 1))
    assert [seq for seq, _, _ in found] == [1]
    assert (hub.waits, hub.users) == (1, 0)


@pytest.mark.parametrize(("after", "last", "begins"), [(50, 3, 1), (2, 9, 3)])
def test_another_numbering(after, last, begins):
    """A bus with a new journal begins anew; the same bus goes on."""
    hub = Hub(batch(begins - 1, last))
    hub.epoch = 2
    stream = a_stream(after=after)
    stream.epoch = 1
    found = run(lambda: read(streams_of(hub, lag=100), stream, 1))
    assert found[0][:2] == (begins, f"t/{begins}")
    assert stream.epoch == 2


def test_there_are_only_so_many():
    """Also of those who come at the same moment; whoever is refused leaves no trace."""

    async def main():
        hub = Hub()
        streams = streams_of(hub, most=2)
        opened = await asyncio.gather(
            *(streams.open(a_stream()) for _ in range(5)), return_exceptions=True
        )
        assert [type(each) for each in opened].count(TooManyError) == 3
        assert (len(streams), hub.users) == (2, 2)
        with pytest.raises(TooManyError, match="raise http_max_streams"):
            await streams.open(a_stream())
        streams.end_all()

    run(main)


def test_a_request_that_the_server_ends():
    """Its work ends too, and its place is free."""

    async def main():
        hub = Hub()
        streams = streams_of(hub)
        stream = a_stream()
        await streams.open(stream)
        ended = []

        async def work():
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(True)

        request = asyncio.create_task(streams.run(stream, work))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        request.cancel()
        await asyncio.wait([request])
        assert (ended, len(streams), hub.users) == ([True], 0, 0)
        streams.release(stream)
        assert hub.users == 0
        streams.end_all()

    run(main)


def test_all_end_when_the_server_does():
    """Those that have not begun to be sent as well."""

    async def main():
        hub = Hub()
        streams = streams_of(hub)
        waiting, running = a_stream(), a_stream()
        await streams.open(waiting)
        await streams.open(running)
        request = asyncio.create_task(streams.run(running, asyncio.Event().wait))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        streams.end_all()
        await request
        assert streams.is_closing
        assert len(streams) == 1

    run(main)
