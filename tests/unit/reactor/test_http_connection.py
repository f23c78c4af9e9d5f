"""What a stranger may do on a connection before anybody knows who he is: little, and not for long."""

import asyncio
import contextlib

import pytest
import uvicorn
from uvicorn.server import ServerState

from reactor.http import connection as module
from reactor.http import guard
from reactor.http.connection import MOST_HEAD, Connection
from reactor.http.guard import Guard

SECONDS = 30
END = b"\r\n\r\n"


async def app(scope, receive, send):
    """Answer with the size of the body."""
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-n", b"%d" % size)]})
    await send({"type": "http.response.body", "body": b""})


def talk(work, application=app):
    """Do ``work(reader, writer)`` on a connection to a server with ``application``."""

    async def main():
        loop = asyncio.get_running_loop()
        config = uvicorn.Config(application, log_config=None, lifespan="off", interface="asgi3")
        config.load()
        state = ServerState()
        server = await loop.create_server(
            lambda: Connection(config=config, server_state=state, app_state={}), "127.0.0.1", 0
        )
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        try:
            async with asyncio.timeout(SECONDS):
                return await work(reader, writer)
        finally:
            writer.close()
            server.close()

    return asyncio.run(main())


async def send(writer, *parts):
    with contextlib.suppress(ConnectionError):  # it may hang up before all is sent
        for part in parts:
            writer.write(part)
            await writer.drain()


async def read_all(reader):
    """Read until the server hangs up."""
    found = b""
    with contextlib.suppress(ConnectionError):
        while more := await reader.read(65536):
            found += more
    return found


def test_requests_one_after_the_other():
    """Also pipelined, and with bodies of any form."""

    async def work(reader, writer):
        await send(
            writer,
            b"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello",
            b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
            b"1\r\nx\r\n" * 50_000 + b"0\r\n\r\n",
            b"GET / HTTP/1.1\r\nx-long: " + b"a" * 60_000 + b"\r\nconnection: close\r\n\r\n",
        )
        return await read_all(reader)

    found = talk(work)
    assert found.count(b"HTTP/1.1 200") == 3
    assert [b"x-n: %d" % size in found for size in (5, 50_000, 0)] == [True] * 3


@pytest.mark.parametrize(
    "head",
    [
        [b"GET / HTTP/1.1\r\nx-long: ", b"a" * 200_000],
        [b"GET / HTTP/1.1\r\n", b"x: y\r\n" * 40_000],
        [b"GET /", b"a" * 200_000],
        [b"\r\n" * 100_000],
    ],
    ids=["one line", "many lines", "address", "blank lines"],
)
def test_a_head_without_end(head):
    """The connection is ended, and nothing of it is kept."""

    async def work(reader, writer):
        await send(writer, *head, *[head[-1]] * 20)
        return await read_all(reader)

    found = talk(work)
    assert found == b"" or found.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))


def test_trailers_without_end():
    """They come after the body, and count as well."""

    async def work(reader, writer):
        begin = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
        await send(writer, begin, *[b"x-trailer: " + b"a" * 1_000 + b"\r\n"] * 500)
        return await read_all(reader)

    assert b"200" not in talk(work)


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nhost"])
def test_one_that_says_nothing_more(said, monkeypatch):
    """It has some time, and is told."""
    monkeypatch.setattr(module, "HEAD_SECONDS", 0.05)

    async def work(reader, writer):
        await send(writer, said)
        return await read_all(reader)

    assert talk(work).startswith(b"HTTP/1.1 408 ")


def test_a_second_request_that_is_never_whole(monkeypatch):
    """As with the first; a request whose head is there may take longer than that."""
    monkeypatch.setattr(module, "HEAD_SECONDS", 0.2)

    async def slow(scope, receive, send_):
        await asyncio.sleep(0.5)
        await app(scope, receive, send_)

    async def work(reader, writer):
        await send(writer, b"GET / HTTP/1.1\r\n\r\n")
        first = await reader.readuntil(END)
        await send(writer, b"GET / HT")
        return first, await read_all(reader)

    first, second = talk(work, slow)
    assert first.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 408 " in second


def test_a_body_that_does_not_come(monkeypatch):
    """It is refused after a while; one that has come may be worked at for longer."""
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.1)
    seen = []

    async def waiting(scope, receive, send_):
        try:
            await app(scope, receive, send_)
            await receive()  # until the client goes
        except guard.HTTPException as error:
            seen.append((error.status_code, error.detail))
            raise

    async def late(reader, writer):
        await send(writer, b"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nhel")
        return await reader.readuntil(END)

    async def whole(reader, writer):
        await send(writer, b"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello")
        found = await reader.readuntil(END)
        await asyncio.sleep(0.3)
        return found

    guarded = Guard(waiting, 1_000, lambda _status: None)
    assert b"200 OK" in talk(whole, guarded)
    assert seen == []
    assert b"500" in talk(late, guarded)  # what FastAPI would answer with the error's own status
    assert seen == [(408, "the request did not come in time")]


def test_the_limit_is_for_the_head_alone():
    """A body may be larger."""

    async def work(reader, writer):
        size = 4 * MOST_HEAD
        await send(writer, b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % size, b"x" * size)
        return await reader.readuntil(END)

    assert b"x-n: 262144" in talk(work)
