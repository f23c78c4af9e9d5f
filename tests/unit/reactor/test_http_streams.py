"""What streams send, what they keep in memory, and who is let go."""

import asyncio
import json
import logging
import sys

import pytest

from bus.wire import pack_event
from reactor import logsetup
from reactor.http import streams as module
from reactor.http.batches import BATCH_BYTES, Batch, Row, batches_of, rows_of
from reactor.http.buffers import PIECE, pieces
from reactor.http.filters import Filter
from reactor.http.guard import Scrubbing
from reactor.http.streams import Stream, Streams, sse, websocket, websocket_numbered


class TestPieces:
    """A chunk in writes that are not large."""

    @pytest.mark.parametrize("size", [1, 100, PIECE - 2, PIECE, PIECE * 3])
    @pytest.mark.parametrize("count", [1, 2, 50])
    def test_nothing_is_lost_and_events_are_whole_where_they_can_be(self, size, count):
        """Only what is larger than a piece is cut."""
        event = b"x" * size + b"\n\n"
        parts = [bytes(part) for part in pieces(event * count)]
        assert b"".join(parts) == event * count
        assert all(len(part) <= PIECE for part in parts)
        if len(event) <= PIECE:
            assert all(part.endswith(b"\n\n") for part in parts)

    def test_nothing(self):
        """No writes for nothing."""
        assert list(pieces(b"")) == []


def _wire(text, tag="a/b"):
    return pack_event(tag, {"text": text})


class TestBatches:
    """Events, decoded, in batches of few bytes."""

    def test_all_numbers_in_order(self):
        """Each batch follows the one before, and none is larger than it has to be."""
        size = BATCH_BYTES // 3
        events = [(seq, _wire("x" * size)) for seq in range(5, 12)]
        batches = list(batches_of(4, events))
        assert len(batches) > 2
        assert [b.before for b in batches] == [4, *(b.last for b in batches[:-1])]
        assert [row.seq for b in batches for row in b.rows] == list(range(5, 12))
        assert all(len(b.rows) <= 3 for b in batches)

    def test_what_cannot_be_read_is_passed_over(self):
        """It is no event, and stops none."""
        (batch,) = batches_of(0, [(1, b"no event"), (2, _wire("x"))])
        assert (batch.before, batch.last, [row.seq for row in batch.rows]) == (0, 2, [2])

    def test_no_events(self):
        """No batch."""
        assert list(batches_of(3, [])) == []

    def test_chunks_are_shared_by_the_same_filter(self):
        """The very same bytes; for many filters they are made anew, and right."""
        batch = Batch(0, 2, rows_of([(1, _wire("x")), (2, _wire("y", "c"))]))
        assert batch.chunk(Filter(), sse) is batch.chunk(Filter(), sse)
        wanted = [Filter((glob,)) for glob in ("a/*", "b*", "c*", "d*", "e*", "?/b", "c")]
        found = [batch.chunk(each, sse).count(b"id: ") for each in wanted]
        assert found == [1, 0, 1, 0, 0, 1, 1]
        assert len(batch._chunks) <= 4

    def test_a_part_of_it(self):
        """What lies behind a number."""
        batch = Batch(0, 2, rows_of([(1, _wire("x")), (2, _wire("y"))]))
        assert [row.seq for row in batch.since(1).rows] == [2]
        assert batch.since(0) is batch


def test_forms():
    """Salt's, and one with the number."""
    (row,) = rows_of([(7, _wire("x"))])
    assert sse(row).startswith("tag: a/b\ndata: {")
    assert sse(row).endswith("\nid: 7\n\n")
    plain = json.loads(websocket(row).removeprefix("data: "))
    numbered = json.loads(websocket_numbered(row).removeprefix("data: "))
    assert numbered == {**plain, "seq": 7}


class _Hub:
    """Has one event, and then nothing."""

    def __init__(self):
        self.last, self.epoch, self.is_reading, self.users = 1, 1, True, 0
        self._woken = asyncio.Event()

    async def join(self):
        self.users += 1
        return self.last

    def leave(self):
        self.users -= 1

    def wake(self):
        self._woken.set()

    async def wait(self):
        self._woken.clear()
        await self._woken.wait()

    async def after(self, seq):
        if seq >= self.last:
            return None
        return Batch(0, 1, [Row(1, "a", '{"tag": "a", "data": {}}')])


def _streams(hub):
    return Streams(hub, most=1, lag=10, heartbeat=60)


async def _held(streams, send, is_valid=lambda: True):
    """Have a stream send its event; return it once it has ended."""
    stream = Stream(Filter(), 0, None, is_complete=True, is_valid=is_valid)
    await streams.open(stream)

    async def work():
        async for chunk in streams.chunks(stream, sse):
            await send(chunk)
            stream.sent()

    try:
        async with asyncio.timeout(20):
            await streams.run(stream, work)
    finally:
        streams.end_all()
    return stream


class TestWhoIsLetGo:
    """By the look that comes twice a second."""

    def test_who_takes_nothing(self, monkeypatch, caplog):
        """For long; and the place is free again."""
        monkeypatch.setattr(module, "STALL_SECONDS", 0.1)
        caplog.set_level("INFO")

        async def main():
            hub = _Hub()
            streams = _streams(hub)
            stream = await _held(streams, lambda _chunk: asyncio.Event().wait())
            assert (len(streams), hub.users) == (0, 0)
            assert stream.after == 1

        asyncio.run(main())
        assert "took nothing" in caplog.text

    def test_not_who_has_nothing_to_take(self, monkeypatch):
        """Silence is no stall: it goes on until its token ends."""
        monkeypatch.setattr(module, "STALL_SECONDS", 0.1)
        looks, sent = [], []

        def is_valid():
            looks.append(1)
            return len(looks) < 3

        async def take(chunk):
            sent.append(chunk)

        asyncio.run(_run(take, is_valid))
        assert len(looks) == 3
        assert len(sent) == 1

    def test_whose_connection_breaks(self, caplog):
        """It is said, and nobody else is troubled."""
        caplog.set_level("INFO")

        async def fail(_chunk):
            raise ConnectionResetError("gone")

        asyncio.run(_run(fail))
        assert "gone" in caplog.text


async def _run(send, is_valid=lambda: True):
    return await _held(_streams(_Hub()), send, is_valid)


@pytest.mark.parametrize("form", [logsetup.OneLine, logsetup.Json])
def test_no_token_in_a_line_or_a_trace(form):
    """Whichever library writes it, in whichever form."""
    try:
        raise ValueError("GET /ws/planted-1 failed")
    except ValueError:
        record = logging.LogRecord(
            "x", logging.ERROR, "f", 1, "at %s", ("/e?token=planted-2&a=1",), sys.exc_info()
        )
    assert Scrubbing().filter(record)
    text = form().format(record)
    assert "planted" not in text
    assert "/e?token=***&a=1" in text
    assert "/ws/***" in text
