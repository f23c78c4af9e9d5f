"""The native interface for asyncio: many may wait, a cancelled wait loses nothing."""

import asyncio
import contextlib
import gc
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import zmq

import bus
from bus.ainput import wait_for_input
from bus.anative import AsyncConnection
from bus.errors import DataError, NotRunningError
from bus.event import MasterEvent
from bus.testing import MemoryBus
from tests.support import SECONDS, on_ports, open_descriptors, running_bus

MANY = 12


async def _in_time(waiting):
    return await asyncio.wait_for(waiting, SECONDS)


def _run_with_one_thread(main):
    """Run ``main`` in a loop that has one thread for all that blocks."""

    async def with_one_thread():
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        await _in_time(main())

    asyncio.run(with_one_thread())


def test_many_wait_without_a_thread_each(bus_process):
    """Listeners that hear nothing leave the only thread to the one who fires."""

    async def main():
        async with bus.aconnect("master", bus_process.opts, timeout=5) as events:
            streams = [events.listen(f"t/{number}") for number in range(MANY)]
            heard = []
            for stream in streams:
                await stream.__aenter__()
                heard.append(asyncio.ensure_future(stream.next()))
            await _all_wait(MANY)
            await events.fire_events((f"t/{number}", {}) for number in range(MANY))
            found = await asyncio.gather(*heard)
            assert [event.tag for event in found] == [f"t/{number}" for number in range(MANY)]

    with _waiting():
        _run_with_one_thread(main)


def test_many_iterate_salts_way_without_a_thread_each(bus_process):
    """`iter_events_async` leaves the threads to others as well."""

    async def main():
        with contextlib.ExitStack() as stack:
            heard = []
            for number in range(MANY):
                each = stack.enter_context(MasterEvent(opts=bus_process.opts))
                stream = each.iter_events_async(f"t/{number}", full=True, auto_reconnect=True)
                heard.append(asyncio.ensure_future(anext(stream)))
            await _all_wait(MANY)
            firing = stack.enter_context(MasterEvent(opts=bus_process.opts, listen=False))
            for number in range(MANY):
                assert await firing.fire_event_async({}, f"t/{number}")
            found = await asyncio.gather(*heard)
            assert [event["tag"] for event in found] == [f"t/{number}" for number in range(MANY)]

    with _waiting():
        _run_with_one_thread(main)


_WAITS = []


@contextlib.contextmanager
def _waiting():
    """Let no wait end by its time-out: only input wakes a listener."""
    _WAITS.clear()

    async def wait(source, seconds):
        del seconds
        _WAITS.append(source)
        await wait_for_input(source, SECONDS)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bus.anative.wait_for_input", wait)
        patch.setattr("bus.event.wait_for_input", wait)
        yield


async def _all_wait(count):
    while len(_WAITS) < count:  # noqa: ASYNC110 - the list is filled by many
        await asyncio.sleep(0.001)


def test_a_cancelled_wait_loses_no_event(bus_process):
    """Who asks next gets what a cancelled look has found."""

    async def main():
        async with (
            bus.aconnect("master", bus_process.opts, timeout=5) as events,
            events.listen("t/*") as stream,
        ):
            seqs = []
            for number in range(1, 51):
                asking = asyncio.ensure_future(stream.next())
                await asyncio.sleep(0)
                assert await events.fire(f"t/{number}", {}) == number
                asking.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    seqs.append((await asking).seq)
            while (event := await stream.next(0.2)) is not None:
                seqs.append(event.seq)
            assert seqs == list(range(1, 51))

    asyncio.run(_in_time(main()))


def test_what_came_together_is_taken_in_one_turn(bus_process, monkeypatch):
    """A thread for each event would be most of what it costs to hear one."""
    turns = []
    run = AsyncConnection._run

    async def counted(self, turn):
        turns.append(turn)
        return await run(self, turn)

    monkeypatch.setattr(AsyncConnection, "_run", counted)

    async def main():
        async with (
            bus.aconnect("master", bus_process.opts, timeout=5) as events,
            events.listen("t/*") as stream,
        ):
            assert await events.fire_events((f"t/{number}", {}) for number in range(500)) == 500
            turns.clear()
            assert [(await stream.next(SECONDS)).seq for _ in range(500)] == list(range(1, 501))
            assert len(turns) < 50

    asyncio.run(_in_time(main()))


def test_a_stream_begins_where_it_is_entered(bus_process):
    """What is fired after that is heard; a closed one ends, also for who waits."""

    async def main():
        async with bus.aconnect("master", bus_process.opts, timeout=5) as events:
            async with events.listen("t") as stream:
                assert await events.fire("t", {}) == 1
                assert (await stream.next(SECONDS)).seq == 1
                assert (stream.lost, stream.gaps, stream.closed) == (0, [], False)
                still = asyncio.ensure_future(stream.next())
                await asyncio.sleep(0)
            assert await still is None
            assert stream.closed
            assert await stream.next() is None
            unopened = events.listen("t")
            await unopened.aclose()
            assert [event async for event in unopened] == []

    asyncio.run(_in_time(main()))


@pytest.fixture(params=["real", "memory"])
def aconnect(request):
    """Connects to a bus, a real one or one in memory."""
    if request.param == "memory":
        return MemoryBus().aconnect
    opts = request.getfixturevalue("bus_process").opts
    return lambda: bus.aconnect("master", opts, timeout=5)


def test_a_listener_begins_at_the_call(aconnect):
    """As that of `bus.connect`: all that its connection fires after that is heard."""

    async def main():
        async with aconnect() as events:
            first = events.listen("x/*")
            assert await events.fire("x/1", {}) == 1
            second = events.listen("x/*")
            assert await events.fire_events([("x/2", {}), ("x/3", {})]) == 2
            assert [(await anext(first)).seq for _ in range(3)] == [1, 2, 3]
            assert [(await anext(second)).seq for _ in range(2)] == [2, 3]

    asyncio.run(_in_time(main()))


def test_a_fire_and_a_listener_of_two_tasks(bus_process):
    """A fire that is already on its way keeps no listener from hearing the next one."""

    async def main():
        async with bus.aconnect("master", bus_process.opts, timeout=5) as events:
            firing = asyncio.ensure_future(events.fire("x/1", {}))
            await asyncio.sleep(0)
            stream = events.listen("x/2")
            assert await asyncio.gather(firing, events.fire("x/2", {})) == [1, 2]
            assert (await anext(stream)).seq == 2

    asyncio.run(_in_time(main()))


@pytest.mark.filterwarnings("error")
def test_a_listener_that_is_not_used_is_closed(aconnect, caplog):
    """With its connection, however far it has come, and nothing is said of it."""

    async def main():
        before = asyncio.all_tasks()
        async with aconnect() as events:
            opened, forgotten = events.listen("x/*"), events.listen("x/*")
            assert await events.fire("x/1", {}) == 1
            del forgotten
            opening = events.listen("x/*")
        assert opened.closed
        assert opening.closed
        assert await opened.next() is await opening.next() is None
        assert asyncio.all_tasks() == before

    asyncio.run(_in_time(main()))
    gc.collect()
    assert caplog.text == ""


@pytest.mark.filterwarnings("error")
def test_an_error_of_a_listener_that_is_not_used_is_nobodys(caplog):
    """It keeps nobody from firing, and asyncio says nothing of it."""

    async def main():
        async with MemoryBus().aconnect() as events:
            stream = events.listen("x/*", match_type="none such")
            assert await events.fire("x/1", {}) == 1
            with pytest.raises(ValueError, match="none such"):
                await anext(stream)
            unused = events.listen("x/*", match_type="none such")
            await unused.aclose()
            events.listen("x/*", match_type="none such")

    asyncio.run(_in_time(main()))
    gc.collect()
    assert caplog.text == ""


def test_a_cancelled_opening_goes_on(bus_process):
    """Who asks next has a listener that began at the call."""

    async def main():
        async with bus.aconnect("master", bus_process.opts, timeout=5) as events:
            stream = events.listen("x/*")
            entering = asyncio.ensure_future(stream.__aenter__())
            await asyncio.sleep(0)
            entering.cancel()
            with pytest.raises(asyncio.CancelledError):
                await entering
            assert await events.fire("x/1", {}) == 1
            assert (await anext(stream)).seq == 1

    asyncio.run(_in_time(main()))


def test_a_listener_made_while_no_loop_runs(bus_process):
    """It begins at its first use."""
    with asyncio.Runner() as runner:
        events = runner.run(bus.aconnect("master", bus_process.opts, timeout=5).__aenter__())
        stream = events.listen("x/*")

        async def main():
            assert await events.fire("x/1", {}) == 1
            async with stream:
                assert await events.fire("x/2", {}) == 2
                assert (await anext(stream)).seq == 2
            await events.__aexit__(None, None, None)

        runner.run(_in_time(main()))


def test_a_cursor_by_hand(bus_process):
    """With ``auto_commit=False`` only what was committed is done."""

    async def main():
        async with bus.aconnect("master", bus_process.opts, timeout=5) as events:
            await events.fire_events((f"t/{number}", {}) for number in range(3))
            async with events.listen("t/*", 0, cursor="c", auto_commit=False) as stream:
                assert (await stream.next(SECONDS)).seq == 1
                assert await stream.commit() == 1
                assert (await stream.next(SECONDS)).seq == 2
            async with events.listen("t/*", cursor="c") as stream:
                assert (await stream.next(SECONDS)).seq == 2
            with pytest.raises(DataError, match="cursor"):
                await events.listen("t/*").commit()

    asyncio.run(_in_time(main()))


def test_a_bus_that_comes_back_is_heard_again(bus_process):
    """Nothing is missed with ``since``, though the descriptor it waited on is gone."""

    async def main():
        async with bus.aconnect("master", bus_process.opts, timeout=5) as events:
            stream = events.listen("t/*", since=0)
            waiting = asyncio.ensure_future(stream.next())
            await asyncio.sleep(0)
            await asyncio.to_thread(bus_process.restart)
            await events.fire("t/1", {}, timeout=SECONDS)
            assert (await waiting).tag == "t/1"

    asyncio.run(_in_time(main()))


def test_what_cannot_be_opened_can_be_tried_again(bus_process):
    """The error of the first try is not kept for the second."""

    async def main():
        async with bus.aconnect("master", bus_process.opts, timeout=0.2) as events:
            await asyncio.to_thread(bus_process.stop)
            stream = events.listen("t")
            with pytest.raises(NotRunningError):
                await stream.next()
            await asyncio.to_thread(bus_process.start)
            assert await stream.next(0.05) is None

    asyncio.run(_in_time(main()))


def test_ports_wake_the_loop_too(place, master_opts):
    """With ``ipc_mode: tcp`` it is ZeroMQ's descriptor that is waited for."""
    opts = on_ports(master_opts)

    async def main():
        async with bus.aconnect("master", opts, timeout=5) as events, events.listen("t") as stream:
            waiting = asyncio.ensure_future(stream.next())
            await _all_wait(1)
            assert await events.fire("t", {}) == 1
            assert (await waiting).seq == 1

    with running_bus(opts), _waiting():
        asyncio.run(_in_time(main()))


def test_memory_has_an_asyncio_twin():
    """The same interface, in the loop's own thread; it never waits."""

    async def main():
        memory, threads = MemoryBus(), threading.active_count()
        async with memory.aconnect() as events:
            stream = events.listen("t/*", 0, cursor="c")
            assert await events.fire("t/1", {}) == 1
            assert await events.fire_events([("t/2", {}), ("u", {})]) == 2
            assert [event.seq async for event in stream] == [1, 2]
            await stream.aclose()
            assert await events.fire("t/4", {}) == 4
            found = events.listen("t/*", cursor="c")
            assert [event.seq async for event in found] == [4]
        memory.running = False
        with pytest.raises(NotRunningError):
            async with memory.aconnect():
                pass
        assert threading.active_count() == threads

    asyncio.run(main())


def test_a_wait_leaves_no_descriptor():
    """Neither when it ends by its time nor when it is cancelled."""

    async def main():
        before = open_descriptors()
        reading, writing = os.pipe()
        try:
            await wait_for_input(reading, 0.001)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(wait_for_input(reading, SECONDS), 0.001)
            os.write(writing, b"x")
            await _in_time(wait_for_input(reading, 2 * SECONDS))
        finally:
            os.close(reading)
            os.close(writing)
        assert open_descriptors() == before

    asyncio.run(main())


def test_a_wait_on_what_is_closed_ends_at_once():
    """Another thread may have closed it a moment ago."""
    closed = zmq.Context.instance().socket(zmq.SUB)
    closed.close()

    async def main():
        for source in (closed, -1):
            await _in_time(wait_for_input(source, 2 * SECONDS))

    asyncio.run(main())
