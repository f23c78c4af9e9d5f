"""A TCP proxy of the tests' own, for what networks do to connections.

It runs in a thread of the test and stands between minions and their master::

    with Proxy(master_port) as proxy:
        ...                      # minions connect to proxy.port
        proxy.stall()            # nothing passes, nothing is lost: a cable that is pulled
        proxy.heal()
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, Self

_CHUNK = 65_536
_RESET = struct.pack("ii", 1, 0)
_SECONDS = 10.0

Alter = Callable[[bytes, bool], bytes]
"""Given a piece of a stream, and whether it goes up to the master: what goes on instead."""


class _Pair:
    """One connection through the proxy."""

    def __init__(self, writers: list[asyncio.StreamWriter]) -> None:
        self.writers = writers
        self.swallowed = False
        self.up = bytearray()

    def reset(self) -> None:
        """End both halves with an RST, as a host does that knows nothing of a connection."""
        for writer in self.writers:
            sock = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()


class Proxy:
    """Passes TCP on, and can do to it what networks do.

    Args:
        target: the port to pass connections on to.
        host: the address to listen on.
        port: the port to listen on; 0 for a free one.

    Attributes:
        alter: changes what passes.
        delay: seconds that each piece is held up, each way.
        accepted: how many connections there were.
    """

    def __init__(self, target: int, host: str = "127.0.0.1", port: int = 0) -> None:
        self.target = target
        self.alter: Alter | None = None
        self.delay = 0.0
        self.accepted = 0
        self._mode = "pass"
        self._pairs: list[_Pair] = []
        self._all: list[_Pair] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._socket = socket.create_server((host, port))
        self.port: int = self._socket.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._open.set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._server = self._do(self._serve())

    # -- what a test does -----------------------------------------------------------------

    def heal(self) -> None:
        """Pass everything on from now; what `stall` held goes first, what was swallowed is gone."""
        self._do(self._set("pass"))

    def cut(self) -> None:
        """Reset all connections, and each new one at once."""
        self._do(self._set("cut"))

    def reset(self) -> None:
        """Reset all connections that there are; new ones pass."""
        self._do(self._reset())

    def stall(self) -> None:
        """Hold everything, in both directions, without losing it."""
        self._do(self._set("stall"))

    def swallow(self) -> None:
        """Take everything and pass nothing on: connections stay open, half dead, for good."""
        self._do(self._set("swallow"))

    def recorded(self) -> list[bytes]:
        """Return what each connection so far has sent up to the master."""
        return [bytes(pair.up) for pair in list(self._all)]

    @property
    def open(self) -> int:
        """How many connections there are now."""
        return len(self._pairs)

    def close(self) -> None:
        """End all connections and listen no longer."""
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_SECONDS)
        assert not self._thread.is_alive()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the thread -----------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_SECONDS)

    async def _serve(self) -> asyncio.Server:
        return await asyncio.start_server(self._take, sock=self._socket)

    async def _set(self, mode: str) -> None:
        self._mode = mode
        if mode == "swallow":
            for pair in self._pairs:
                pair.swallowed = True
        if mode == "stall":
            self._open.clear()
        else:
            self._open.set()
        if mode == "cut":
            await self._reset()

    async def _reset(self) -> None:
        for pair in list(self._pairs):
            pair.reset()

    async def _end(self) -> None:
        self._server.close()
        self._open.set()
        await self._reset()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        pair = _Pair([writer])
        self.accepted += 1
        self._all.append(pair)
        self._pairs.append(pair)
        try:
            # A host that is cut off is not reached, and hangs up on nobody either.
            await self._open.wait()
            if self._mode == "cut":
                pair.reset()
                return
            pair.swallowed = self._mode == "swallow"
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._pass_on(pair, reader, writer)
        finally:
            pair.reset()
            self._pairs.remove(pair)

    async def _pass_on(
        self, pair: _Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        back, onward = await asyncio.open_connection("127.0.0.1", self.target)
        pair.writers.append(onward)
        ways = [
            asyncio.ensure_future(self._pump(pair, reader, onward, up=True)),
            asyncio.ensure_future(self._pump(pair, back, writer, up=False)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _pump(
        self,
        pair: _Pair,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        up: bool,
    ) -> None:
        while data := await reader.read(_CHUNK):
            if up:
                pair.up += data
            if self.delay:
                await asyncio.sleep(self.delay)
            await self._open.wait()
            if pair.swallowed:
                continue
            if self.alter is not None:
                data = self.alter(data, up)
            writer.write(data)
            await writer.drain()
        if pair.swallowed:
            await asyncio.Event().wait()  # nobody hears that the other has hung up


def say(port: int, raw: bytes, *, wait: float = 0.0) -> bytes:
    """Send bytes to a port of this host, and return what comes back within ``wait`` seconds.

    Args:
        port: where.
        raw: what.
        wait: how long to listen; the answer ends when the other hangs up.
    """
    heard = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=_SECONDS) as plain:
        with contextlib.suppress(OSError):  # it may hang up before all was said
            plain.sendall(raw)
        deadline = time.monotonic() + wait
        while (left := deadline - time.monotonic()) > 0:
            plain.settimeout(left)
            try:
                more = plain.recv(_CHUNK)
            except OSError:
                break
            if not more:
                break
            heard += more
    return bytes(heard)
