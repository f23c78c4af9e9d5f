"""The clients for asyncio, against servers that are stood in for."""

import asyncio
import subprocess
import sys
import threading

import pytest

import bus
from bus.aclient import AsyncCaller, AsyncLocalClient, AsyncRunnerClient, AsyncWheelClient
from bus.client import LocalClient
from bus.errors import FunctionNotFoundError, NotRunningError, TargetError
from tests.support import wait_for
from tests.unit.bus.test_client import FIRST, master  # noqa: F401 - a fixture

LONG = 3600.0


@pytest.fixture
def client(master_opts, master):  # noqa: F811 - the fixture
    return AsyncLocalClient(mopts=master_opts)


@pytest.fixture
def closed(monkeypatch):
    """The clients that were closed, and those that are open."""
    counts = {"made": 0, "closed": 0}
    make, close = LocalClient.__init__, LocalClient.close

    def counted_init(self, *args, **kwargs):
        counts["made"] += 1
        make(self, *args, **kwargs)

    def counted_close(self):
        counts["closed"] += 1
        close(self)

    monkeypatch.setattr(LocalClient, "__init__", counted_init)
    monkeypatch.setattr(LocalClient, "close", counted_close)
    return counts


async def collect(answers):
    return [answer async for answer in answers]


class TestAsyncLocalClient:
    """As the other, but awaited."""

    def test_cmd(self, client, master):  # noqa: F811
        """Arguments and returns are the same."""

        async def run():
            assert await client.cmd("*", "test.ping", [1], kwarg={"k": 2}) == dict.fromkeys(
                "abc", True
            )
            return await client.cmd("a", "test.ping", full_return=True)

        assert asyncio.run(run())["a"]["ret"] is True
        assert master.jobs[0]["arg"] == [1, {"__kwarg__": True, "k": 2}]

    def test_many_at_once(self, client, closed):
        """Each has a connection of its own, and lets go of it."""

        async def run():
            return await asyncio.gather(*(client.cmd("*", "test.ping") for _ in range(20)))

        assert asyncio.run(run()) == [dict.fromkeys("abc", True)] * 20
        assert closed == {"made": 20, "closed": 20}

    def test_the_others(self, client, master):  # noqa: F811
        """One after another, as their twins."""
        master.missing = ["c"]

        async def run():
            jid = await client.cmd_async("a", "test.ping")
            assert await client.get_cache_returns(jid) == {"a": {"ret": True}}
            assert (await client.get_full_returns(jid))["a"]["jid"] == jid
            assert [list(one) for one in await collect(client.get_cli_returns(jid))] == [["a"]]
            assert (await client.run_job("a", "test.ping"))["minions"] == ["a"]
            assert await client.match("*") == ["a", "b", "c"]
            assert await client.cmd_subset("*", "test.ping", sub=5) == {"a": True, "b": True}
            batch = await collect(client.cmd_batch("*", "test.ping", batch=1))
            assert batch == [{"a": True}, {"b": True}]
            raw = await collect(client.cmd_batch("a", "test.ping", batch=1, raw=True))
            assert raw[0]["a"]["fun"] == "test.ping"
            assert len(await collect(client.cmd_iter("*", "test.ping"))) == 2
            cli = await collect(client.cmd_cli("*", "test.ping"))
            assert cli[2]["c"]["out"] == "no_return"
            assert (await client.cmd_full_return("*", "test.ping"))["c"]["out"] == "no_return"

        asyncio.run(run())

    def test_errors(self, client, master_opts, tmp_path):
        """They are raised as they are."""
        away = {**master_opts, "sock_dir": str(tmp_path)}

        async def run():
            with pytest.raises(TargetError):
                await collect(client.cmd_batch("*", "test.ping", batch="x"))
            with pytest.raises(NotRunningError):
                await AsyncLocalClient(mopts=away).cmd("*", "test.ping")

        asyncio.run(run())

    def test_a_cancelled_call_leaves_nothing_behind(self, client, master, closed):  # noqa: F811
        """No connection, no thread that waits, no task."""
        begun = threading.Event()

        def quiet(_minion):
            begun.set()
            return master.QUIET

        master.answers["x.y"] = quiet

        async def run():
            task = asyncio.create_task(client.cmd("a", "x.y", timeout=LONG))
            await asyncio.to_thread(begun.wait, 20)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert closed == {"made": 1, "closed": 1}
            assert asyncio.all_tasks() == {asyncio.current_task()}

        asyncio.run(run())

    def test_an_iteration_that_is_left(self, client, closed):
        """Its connection is closed when the generator is."""

        async def run():
            answers = client.cmd_iter("*", "test.ping")
            assert list(await anext(answers)) == ["a"]
            await answers.aclose()
            assert closed == {"made": 1, "closed": 1}

        asyncio.run(run())

    def test_the_loop_goes_on_meanwhile(self, client, master):  # noqa: F811
        """A wait for a return does not stand in the way of another's."""
        master.answers["x.y"] = lambda _: master.QUIET

        async def run():
            slow = asyncio.create_task(client.cmd("a", "x.y", timeout=LONG))
            await asyncio.to_thread(wait_for, lambda: master.jobs)
            assert await client.cmd("b", "test.ping") == {"b": True}
            master.give(str(FIRST), "x.y", "a", "late")
            assert await slow == {"a": "late"}

        asyncio.run(run())


class TestOthers:
    """Functions in threads of this process."""

    @pytest.mark.parametrize("kind", [AsyncRunnerClient, AsyncWheelClient])
    def test_errors(self, kind, master_opts):
        """They are raised."""
        with pytest.raises(FunctionNotFoundError):
            asyncio.run(kind(master_opts).cmd("test.nothing"))

    def test_runner_and_wheel(self, master_opts):
        """What they return."""

        async def run():
            runner = AsyncRunnerClient(master_opts)
            both = await asyncio.gather(
                runner.cmd("test.arg", [1], kwarg={"a": 2}),
                runner.cmd_sync({"fun": "test.arg", "arg": [1], "a": 2}),
            )
            assert both == [{"args": [1], "kwargs": {"a": 2}}] * 2
            assert (await runner.cmd("test.ping", full_return=True))["success"]
            return await AsyncWheelClient(master_opts).cmd("key.list_all")

        assert "minions" in asyncio.run(run())

    def test_a_cancelled_function(self, master_opts, monkeypatch):
        """It cannot be stopped, so its end is waited for; then all is closed."""
        begun, go_on, ended = threading.Event(), threading.Event(), []

        def cmd(_self, *_args, **_kwargs):
            begun.set()
            go_on.wait(20)
            ended.append("function")

        monkeypatch.setattr("bus.client.RunnerClient.cmd", cmd)
        monkeypatch.setattr("bus.client.RunnerClient.close", lambda _: ended.append("closed"))

        async def run():
            task = asyncio.create_task(AsyncRunnerClient(master_opts).cmd("x"))
            await asyncio.to_thread(begun.wait, 20)
            task.cancel()
            await asyncio.sleep(0)
            go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(run())
        assert ended == ["function", "closed"]

    def test_caller(self, minion_opts):
        """It loads once, however many ask at the same time."""

        async def run():
            caller = AsyncCaller(mopts=minion_opts)
            found = await asyncio.gather(*(caller.cmd("test.arg", n) for n in range(3)))
            assert await caller.function("grains.get", "id") == "m1"
            return found

        assert [one["args"] for one in asyncio.run(run())] == [[0], [1], [2]]


def test_they_are_exported_and_import_bus_stays_cheap():
    """Nothing of ZeroMQ or asyncio is imported before something is used."""
    assert bus.AsyncLocalClient is AsyncLocalClient
    code = (
        "import sys, bus; print([n for n in ('zmq', 'asyncio', 'bus.client') if n in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "[]\n"
