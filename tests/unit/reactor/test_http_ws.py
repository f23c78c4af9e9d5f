"""What a WebSocket's client is told, whatever it does."""

import asyncio
import json
from types import SimpleNamespace

import pytest
from fastapi import WebSocketDisconnect

from bus.errors import DataError, NotRunningError
from reactor.http.errors import ForbiddenError, TooManyError, UnauthorizedError
from reactor.http.permissions import READ_ONLY, Permissions
from reactor.http.routes import ws as module
from reactor.http.routes.ws import READY, ws, ws_with_token
from tests.unit.reactor.test_http_serving import Hub, batch, run, streams_of

GONE = object()


class Socket:
    """A client that says what the test says, and notes what it is told."""

    def __init__(self, services, *says):
        self.app = SimpleNamespace(state=SimpleNamespace(services=services))
        self.scope = {"client": ("192.0.2.1", 5)}
        self._says = asyncio.Queue()
        for each in says:
            self._says.put_nowait(each)
        self.told, self.closed, self._news = [], None, asyncio.Event()
        self.sending = None

    def say(self, what):
        self._says.put_nowait(what)

    async def accept(self):
        self.told.append("accepted")

    async def receive_text(self):
        said = await self._says.get()
        if said is GONE:
            raise WebSocketDisconnect(1001)
        if isinstance(said, bytes):
            raise KeyError("text")  # as starlette does for a message of bytes
        return said

    async def send_text(self, text):
        if self.sending:
            raise self.sending
        self.told.append(json.loads(text.removeprefix("data: ")))
        self._news.set()

    async def is_told(self, count):
        while len(self.told) < count:
            await self._news.wait()
            self._news.clear()

    async def close(self, code, reason=""):
        self.closed = code, reason


class Services:
    """What a socket needs of them; the token ``right`` is of somebody."""

    def __init__(self, hub, may=READ_ONLY, most=5):
        self.hub, self.streams, self.holds = hub, streams_of(hub, most=most), True
        who = SimpleNamespace(may=may)

        def by_secret(secret, _address):
            if secret != "right":
                raise UnauthorizedError("nobody's")
            return who

        self.auth = SimpleNamespace(
            by_secret=by_secret,
            identify=lambda _socket: by_secret("right", ""),
            watch=lambda _who: lambda: self.holds,
        )


class Quiet(Hub):
    """Waits for ever once it has given what it has."""

    async def wait(self):
        await asyncio.Event().wait()

    async def place(self, since, _now):
        if since == "yesterday":
            raise DataError("'yesterday' is no place")
        return int(since)


async def served(socket, token="right", **asked):
    await ws_with_token(socket, token, **asked)
    return socket


def test_events_and_then_the_end_of_the_token():
    """The code says that the server went away."""

    async def main():
        services = Services(Quiet(batch(0, 2)))
        socket = Socket(services, "something else", READY)
        serving = asyncio.ensure_future(served(socket, since="0", seq=True))
        await socket.is_told(3)
        services.holds = False
        await serving
        assert [each["seq"] for each in socket.told[1:]] == [1, 2]
        assert socket.closed == (1001, "")
        assert services.hub.users == 0
        services.streams.end_all()

    run(main)


def test_a_client_that_goes():
    """Before it is ready, or later: nothing is left of it, and nothing said to it."""

    async def main():
        services = Services(Quiet(batch(0, 1)))
        assert (await served(Socket(services, GONE))).closed is None
        assert (await served(Socket(services, b"\0"))).closed is None
        socket = Socket(services, READY)
        serving = asyncio.ensure_future(served(socket, since="0"))
        await socket.is_told(2)
        socket.say("whatever")
        socket.say(GONE)
        await serving
        assert socket.closed is None
        assert (len(services.streams), services.hub.users) == (0, 0)
        services.streams.end_all()

    run(main)


@pytest.mark.parametrize("error", [WebSocketDisconnect(1006), RuntimeError("closed")])
def test_a_client_that_cannot_be_written_to(error):
    """It is let go."""

    async def main():
        services = Services(Quiet(batch(0, 1)))
        socket = Socket(services, READY)
        socket.sending = error
        await served(socket, since="0")
        assert (len(services.streams), services.hub.users) == (0, 0)
        services.streams.end_all()

    run(main)


def test_one_that_never_says_that_it_is_ready(monkeypatch):
    """It is closed, with the code for later."""
    monkeypatch.setattr(module, "_READY_SECONDS", 0.01)

    async def main():
        return await served(Socket(Services(Quiet())))

    assert run(main).closed[0] == 1013


def test_who_may_not():
    """Refused before it is a WebSocket; or told by a code whether to try again."""

    async def main():
        socket = await served(Socket(Services(Quiet())), token="wrong")
        assert (socket.told, socket.closed[0]) == ([], 1008)
        blind = Services(Quiet(), may=Permissions(fire=("*",)))
        socket = Socket(blind, READY)
        await ws(socket)
        assert socket.closed == (1008, "this token may not read events")
        socket = await served(Socket(Services(Quiet()), READY), since="yesterday")
        assert socket.closed[0] == 1008
        socket = await served(Socket(Services(Quiet(), most=0), READY))
        assert socket.closed[0] == 1013
        assert "http_max_streams" in socket.closed[1]
        away = Services(Quiet())
        away.hub.on_join = [NotRunningError("no bus answers")]
        socket = await served(Socket(away, READY))
        assert socket.closed == (1013, "no bus answers")

    run(main)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ForbiddenError("x"), 1008),
        (DataError("x"), 1008),
        (TooManyError("x"), 1013),
        (TimeoutError(), 1013),
    ],
)
def test_codes(error, code):
    """Whether it is worth to try again."""
    assert module._code_of(error) == code
