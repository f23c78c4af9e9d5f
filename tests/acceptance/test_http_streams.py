"""Many streams of events at once, slow ones among them, WebSockets, and what ends a stream."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.parse

import pytest

import bus
from bus.config import master_config
from tests.web import answer, ask, new_token, serving, stream, url_of, websocket

STREAMS = 200
EVENTS = 1_500
READY = "websocket client ready"
LAG = "http_stream_lag: 1000\nhttp_self_signed: false\n"


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    """A running system that serves HTTP without encryption, and tells slow clients soon."""
    with serving(tmp_path_factory.mktemp("streams"), more=LAG) as running_system:
        yield running_system


class Client:
    """A stream of events, read when the test says so."""

    def __init__(self, reader, writer):
        self._reader = reader
        self._writer = writer
        self._text = b""

    @classmethod
    async def open(cls, url, path):
        where = urllib.parse.urlsplit(url)
        # Little room, so that one who does not read is soon noticed.
        reader, writer = await asyncio.open_connection(where.hostname, where.port, limit=4096)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head, head
        client = cls(reader, writer)
        assert await client._line() == "retry: 400"
        return client

    async def event(self):
        """Return the next event's fields, without comments."""
        found = {}
        while not found:
            while line := await self._line():
                name, _, value = line.partition(": ")
                if name:
                    found[name] = value
        return found

    async def _line(self):
        while b"\n" not in self._text:
            size = int(await self._reader.readuntil(b"\r\n"), 16)
            assert size, "the stream has ended"
            self._text += (await self._reader.readexactly(size + 2))[:-2]
        line, _, self._text = self._text.partition(b"\n")
        return line.decode()

    def close(self):
        self._writer.close()


def test_many_streams_and_a_slow_one(system, url, token):
    """Two hundred get every event; one that stops reading is told exactly what it lost."""
    asyncio.run(_many_and_a_slow_one(system, url, token))


async def _many_and_a_slow_one(system, url, token):
    async with asyncio.timeout(90):
        await _many(system, url, token)


async def _many(system, url, token):
    first = await asyncio.to_thread(system.fire, "load/first", {})
    slow = await Client.open(url, f"/events?token={token}&tag=slow/*")
    # They ask for a place: however busy this host is, they are not told of gaps.
    load = f"/events?token={token}&tag=load/small&since={first}"
    opened = [await Client.open(url, load) for _ in range(STREAMS)]
    fired = asyncio.to_thread(_fire_all, master_config(system.config))
    big, small = await asyncio.gather(fired, _read_all(opened))
    assert all(numbers == small[0] for numbers in small)
    assert len(small[0]) == EVENTS
    assert small[0] == sorted(small[0])
    got, gap = [], None
    while gap is None:
        event = await slow.event()
        if event["tag"] == "reactor/http/gap":
            gap = json.loads(event["data"])["data"]
        else:
            got.append(int(event["id"]))
    last = await asyncio.to_thread(system.fire, "slow/last", {})
    got.append(int((await slow.event())["id"]))
    # What it did not get is exactly what it was told of; what it got came once, in order.
    assert gap["lost"] == gap["last"] - gap["first"] + 1
    assert got == [seq for seq in (*big, last) if not gap["first"] <= seq <= gap["last"]]
    assert len(got) <= len(big)
    described = json.loads(system.run("status", "--json").stdout)["parts"]["http"]["details"]
    assert described["dropped"] == gap["lost"]
    for client in (slow, *opened):
        client.close()


def _fire_all(opts):
    """Fill what lies between server and slow client, and far more; return those numbers."""
    with bus.connect("master", opts) as events:
        big = [events.fire("slow/big", {"text": "x" * 200_000}) for _ in range(150)]
        pairs = (("load/small", {"n": number}) for number in range(EVENTS))
        assert events.fire_events(pairs) == EVENTS
        big += [events.fire("slow/more", {}) for _ in range(3)]
    return big


async def _read_all(clients):
    async def read(client):
        return [int((await client.event())["id"]) for _ in range(EVENTS)]

    return await asyncio.gather(*map(read, clients))


class TestWebSockets:
    """The same events, in Salt's frames."""

    def test_salts_handshake(self, system, url, token):
        """Nothing before the client says that it is ready; the token stands in the address."""
        seq = system.fire("ws/first", {"n": 1})
        with websocket(url, f"/ws/{token}?tag=ws/*&since={seq - 1}") as client:
            assert client.receive() == "accepted"
            client.send("something else")
            client.send(READY)
            seen = client.event()
            assert set(seen) == {"tag", "data"}
            assert (seen["tag"], seen["data"]["n"]) == ("ws/first", 1)
            system.fire("ws/live", {"n": 2})
            assert client.event()["tag"] == "ws/live"
        with websocket(url, f"/ws?tag=ws/*&since={seq - 1}&seq=true&token={token}") as client:
            assert client.receive() == "accepted"
            client.send(READY)
            assert [client.event()["seq"], client.event()["tag"]] == [seq, "ws/live"]

    def test_a_token_in_a_header(self, system, url, token):
        """Which other programs than browsers can send."""
        seq = system.fire("ws/header", {})
        header = (b"x-auth-token", token.encode())
        with websocket(url, f"/ws?since={seq - 1}", [header]) as client:
            assert client.receive() == "accepted"
            client.send(READY)
            assert client.event()["tag"] == "ws/header"

    def test_who_may_not(self, system, url, token):
        """Refused before it is a WebSocket, or told by a code of policy."""
        for path in ("/ws", "/ws/nonsense", "/ws?token=nonsense"):
            with websocket(url, path) as client:
                assert client.receive() == 403
        blind = new_token(system, "blind", "--fire", "x")
        for path in (f"/ws/{blind}", f"/ws/{token}?since=yesterday"):
            with websocket(url, path) as client:
                assert client.receive() == "accepted"
                client.send(READY)
                assert client.receive() == 1008

    def test_a_page_of_another_site(self, system, url, token):
        """The cookie that a browser adds by itself opens nothing for others."""
        host = urllib.parse.urlsplit(url).netloc
        cookie = (b"cookie", f"session_id={token}".encode())
        for origin, said in (("https://other.example", 403), (f"http://{host}", "accepted")):
            with websocket(url, "/ws", [cookie, (b"origin", origin.encode())]) as client:
                assert client.receive() == said

    def test_it_ends_with_its_token(self, system, url):
        """As a stream does; the code says that the server went away."""
        secret = new_token(system, "ws-short", "--read", "*")
        with websocket(url, f"/ws/{secret}?since=0&tag=ws/ended") as client:
            assert client.receive() == "accepted"
            client.send(READY)
            system.fire("ws/ended", {})
            assert client.event()["tag"] == "ws/ended"
            system.run("token", "revoke", "ws-short")
            assert client.receive() == 1001


class TestEnds:
    """What ends a stream, and that it does so by itself."""

    def test_a_token_that_expires(self, system, url):
        """Without anybody's asking."""
        secret = new_token(system, "soon", "--expires", "2s")
        with stream(url, f"/events?token={secret}") as opened:
            opened.response.read()
        assert answer(url, f"/events?token={secret}")[0] == 401

    def test_a_user_who_goes(self, system, url):
        """Or whose permissions change: the logins end, and so do their streams."""
        for change in (("set", "leaver", "--fire", "x"), ("remove", "leaver")):
            _user(system, "set", "leaver", "--read", "*")
            login = {"username": "leaver", "password": "a good password"}
            (said,) = answer(url, "/login", login)[1]["return"]
            with stream(url, f"/events?token={said['token']}") as opened:
                _user(system, *change)
                opened.response.read()
            assert answer(url, "/events/recent", token=said["token"])[0] == 401

    def test_a_logout(self, system, url):
        """It ends the streams of that login."""
        _user(system, "set", "stays", "--read", "*")
        login = {"username": "stays", "password": "a good password"}
        (said,) = answer(url, "/login", login)[1]["return"]
        with stream(url, f"/events?token={said['token']}") as opened:
            assert ask(url, "/logout", b"", said["token"])[0] == 200
            opened.response.read()


def _user(system, *arguments):
    line = [sys.executable, "-m", "reactor", "user", arguments[0], "--config", str(system.config)]
    subprocess.run(
        [*line, *arguments[1:]],
        input="a good password\n",
        text=True,
        check=True,
        capture_output=True,
        env=system.environ,
    )


def test_all_ends_promptly_with_the_master(tmp_path):
    """Readers, one who does not read, and a WebSocket: nothing has to be killed."""
    with serving(tmp_path) as system:
        url, token = url_of(system), new_token(system, "t", "--all")
        with (
            stream(url, f"/events?token={token}&tag=end/*&since=0") as read,
            stream(url, f"/events?token={token}&since=0"),
            websocket(url, f"/ws/{token}?since=0&tag=end/*") as client,
        ):
            assert client.receive() == "accepted"
            client.send(READY)
            system.fire("end/now", {})
            assert client.event()["tag"] == read.event()["tag"] == "end/now"
            for _ in range(40):
                system.fire("big", {"text": "x" * 200_000})
            system.stop()
            assert client.receive() == 1001
            assert read.response.read() == b""
        assert "did not end in time" not in system.log.read_text()
