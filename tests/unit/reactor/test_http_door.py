"""Connections are let in while there is room, and wait while there is none."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import socket
from collections.abc import AsyncIterator, Callable

import pytest

from bus.complaints import Complaints
from reactor.http import door as module
from reactor.http.door import RESERVE, Door, has_room


class Greeting(asyncio.Protocol):
    """Says hello to whoever is let in, and notes when he goes."""

    def __init__(self, gone: list[int]) -> None:
        self._gone = gone

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(b"hello")

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone.append(1)


class House:
    """A door with a listening socket, in the loop that runs."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.complaints = Complaints()
        self.gone: list[int] = []
        self.door = Door(
            self.listener,
            lambda: Greeting(self.gone),
            context=None,
            handshake_seconds=1.0,
            complaints=self.complaints,
        )

    async def greeting(self) -> bytes:
        """Connect, and return what is heard."""
        reader, writer = await asyncio.open_connection(*self.listener.getsockname())
        with contextlib.closing(writer):
            return await reader.readexactly(5)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[House]:
    house = House()
    house.door.open()
    try:
        yield house
    finally:
        house.door.close()
        house.listener.close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.01)


def test_many_are_let_in() -> None:
    """More than in one turn."""

    async def scenario() -> None:
        async with opened() as house:
            heard = await asyncio.gather(*(house.greeting() for _ in range(150)))
            assert heard == [b"hello"] * 150
            await house.until(lambda: len(house.gone) == 150)
            assert not house.complaints.counters

    asyncio.run(scenario())


@pytest.mark.parametrize("error", [None, OSError(errno.EMFILE, os.strerror(errno.EMFILE))], ids=str)
def test_without_room_they_wait(
    error: OSError | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody is turned away, it is said once, and they are let in when there is room."""
    rooms = []

    def none(_listener: socket.socket) -> bool:
        rooms.append(1)
        if error:
            raise error
        return False

    async def scenario() -> None:
        async with opened() as house:
            monkeypatch.setattr(module, "has_room", none)
            waiting = asyncio.create_task(house.greeting())
            await house.until(lambda: len(rooms) > 3)
            assert not waiting.done()
            monkeypatch.setattr(module, "has_room", lambda _: True)
            assert await waiting == b"hello"
            assert house.complaints.counters["connections_wait"] == len(rooms)

    asyncio.run(scenario())
    (text,) = caplog.messages
    assert "LimitNOFILE" in text
    assert (error.strerror if error else "too few are left") in text


def test_a_door_that_is_closed_while_they_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not open again by itself."""
    monkeypatch.setattr(module, "has_room", lambda _: False)

    async def scenario() -> None:
        house = House()
        house.door.open()
        waiting = asyncio.create_task(house.greeting())
        await house.until(lambda: house.complaints.counters)
        house.door.close()
        seen = house.complaints.counters["connections_wait"]
        house.listener.close()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await waiting
        assert house.complaints.counters["connections_wait"] == seen

    asyncio.run(scenario())


def test_room_is_what_is_left_above_the_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the number that the system gives next; of a small limit a quarter is kept."""
    with socket.socket() as any_socket:
        lowest = os.dup(any_socket.fileno())
        os.close(lowest)
        large = 4 * RESERVE + lowest
        for limit, room in (
            (large, True),
            (lowest + RESERVE if lowest > 3 * RESERVE else lowest + lowest // 3, False),
            (resource.RLIM_INFINITY, True),
        ):
            monkeypatch.setattr(resource, "getrlimit", lambda _, now=limit: (now, now))
            assert has_room(any_socket) is room, limit
