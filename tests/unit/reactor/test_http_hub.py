"""The hub over a real bus: what it reads, what it remembers, and what becomes of it without one."""

import asyncio
import shutil
import threading

import pytest

import bus
from bus.errors import NotRunningError
from bus.feed import Feed
from bus.journal import journal_path
from reactor.http import hub as module
from reactor.http.filters import Filter
from reactor.http.hub import Hub
from tests.support import master_options, running_bus, wait_for

SECONDS = 30


@pytest.fixture
def opts(place):
    return master_options(place)


def run(work, opts, **how):
    """Do ``work`` with a hub, and leave nothing behind."""

    async def main():
        hub = Hub(opts, **how)
        try:
            async with asyncio.timeout(SECONDS):
                return await work(hub)
        finally:
            hub.close()

    return asyncio.run(main())


def fire(opts, *tags, **data):
    with bus.connect("master", opts) as events:
        return [events.fire(tag, {"n": number, **data}) for number, tag in enumerate(tags)]


async def numbers(hub, after, count):
    """Return the numbers of the next events, as a stream would ask for them."""
    found = []
    while len(found) < count:
        batch = await hub.after(after)
        if batch is None:
            await asyncio.wait_for(hub.wait(), SECONDS)
            continue
        found += [row.seq for row in batch.rows]
        after = batch.last
    return found


def threads():
    return [each for each in threading.enumerate() if each.name == "events"]


def test_what_happens_while_somebody_listens(opts):
    """Each event once, in order, encoded; it begins behind what there was."""

    async def work(hub):
        await asyncio.to_thread(fire, opts, "before")
        newest = await hub.join()
        assert newest == 1
        seqs = await asyncio.to_thread(fire, opts, *["my/x"] * 50)
        assert await numbers(hub, newest, 50) == seqs
        assert await hub.after(hub.last) is None

    with running_bus(opts):
        run(work, opts)
    wait_for(lambda: not threads(), "the end of the thread")


def test_what_is_no_longer_in_memory_comes_from_the_journal(opts):
    """Whoever is behind asks for any place."""

    async def work(hub):
        await hub.join()
        seqs = await asyncio.to_thread(fire, opts, *["my/x"] * 30, text="x" * 20_000)
        assert await numbers(hub, 0, 30) == seqs
        await asyncio.to_thread(wait_for, lambda: hub.last == seqs[-1])
        assert hub._size <= 3 * 70_000
        assert len(hub._ring) < 30
        assert await numbers(hub, 0, 30) == seqs
        assert await numbers(hub, 12, 18) == seqs[12:]

    with running_bus(opts):
        run(work, opts, ring_bytes=100_000)


def test_what_is_asked_of_the_journal(opts):
    """One event, a place, and the newest ones that somebody wants."""

    async def work(hub):
        seqs = await asyncio.to_thread(fire, opts, *(f"my/{n % 3}" for n in range(20)))
        assert (await hub.find(seqs[4])).tag == "my/1"
        assert await hub.find(999) is None
        assert await hub.place(seqs[4], 0) == seqs[4]
        rows = await hub.recent(Filter(("my/2",)), 3)
        assert [row.seq for row in rows] == [seqs[n] for n in (11, 14, 17)]
        rows = await hub.recent(Filter(), 2, before=seqs[5])
        assert [row.seq for row in rows] == seqs[3:5]

    with running_bus(opts):
        run(work, opts)


def test_it_reads_on_for_a_moment_after_the_last_one(opts, monkeypatch):
    """A browser comes back soon; later the thread is gone, and the next one starts another."""

    async def work(hub):
        await hub.join()
        (thread,) = threads()
        hub.leave()
        await hub.join()
        assert threads() == [thread]
        epoch = hub.epoch
        monkeypatch.setattr(module, "_LINGER", 0.01)
        hub.leave()
        await asyncio.to_thread(wait_for, lambda: not hub.is_reading)
        await hub.join()
        assert hub.epoch == epoch + 1
        assert await hub.after(hub.last) is None

    with running_bus(opts):
        run(work, opts)


def test_without_a_bus(opts):
    """It is said at once, and nobody counts as a user."""

    async def work(hub):
        with pytest.raises(NotRunningError):
            await hub.join()
        assert not hub.is_reading
        assert hub._users == 0

    with running_bus(opts):
        pass  # the journal is there, the bus is not
    run(work, opts)
    wait_for(lambda: not threads(), "the end of the thread")


def test_a_reader_that_falls_over(opts, monkeypatch, caplog):
    """Streams are woken, and the next look starts another."""
    fails = threading.Event()
    take = Feed.take

    def taking(feed, *args, **kwargs):
        if fails.is_set():
            raise RuntimeError("planted")
        return take(feed, *args, **kwargs)

    monkeypatch.setattr(Feed, "take", taking)

    async def work(hub):
        await hub.join()
        waiting = asyncio.ensure_future(hub.wait())
        await asyncio.sleep(0)
        fails.set()
        await waiting
        assert not hub.is_reading
        fails.clear()
        newest = await hub.join()
        seqs = await asyncio.to_thread(fire, opts, "my/x")
        assert await numbers(hub, newest, 1) == seqs

    with running_bus(opts):
        run(work, opts)
    assert "planted" in caplog.text


def test_a_request_that_is_cancelled_while_the_bus_is_opened(opts, monkeypatch):
    """No thread stays behind, and no user."""
    go_on = threading.Event()
    opened = module.open_listener

    def slowly(address):
        go_on.wait(SECONDS)
        return opened(address)

    monkeypatch.setattr(module, "open_listener", slowly)

    async def work(hub):
        joining = asyncio.ensure_future(hub.join())
        await asyncio.to_thread(wait_for, threads)
        joining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await joining
        assert (hub._users, hub.is_reading) == (0, False)
        go_on.set()
        assert await hub.join() == 0

    with running_bus(opts):
        run(work, opts)
    wait_for(lambda: not threads(), "the end of the threads")


def test_another_bus(opts):
    """With a journal of its own the numbers begin anew, and streams are told by the epoch."""
    with running_bus(opts) as server:
        fire(opts, *["my/x"] * 5)

        def exchange():
            server.stop()
            shutil.rmtree(journal_path(opts["state_dir"]))
            server.start()
            fire(opts, "new/x")

        async def work(hub):
            assert await hub.join() == 5
            epoch = hub.epoch
            await asyncio.to_thread(exchange)
            while hub.epoch == epoch or hub.last != 1:
                await asyncio.sleep(0.02)
                if not hub.is_reading:
                    await hub.join()
            assert await numbers(hub, 0, 1) == [1]
            assert (await hub.find(1)).tag == "new/x"

        run(work, opts)
