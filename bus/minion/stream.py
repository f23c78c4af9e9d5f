"""Values over a stream socket, each after its length: how the minion and its workers talk."""

from __future__ import annotations

import socket
import struct
from typing import Any

from bus import wire
from bus.errors import WireError

_LENGTH = struct.Struct("!I")
_CHUNK = 262_144
"""Bytes a read: a whole return in most cases, and small enough to lie about for each worker."""


def frame(value: Any) -> bytes:
    """Return ``value`` packed, with its length in front.

    Raises:
        DataError: msgpack cannot carry it.
    """
    body = wire.pack(value)
    return _LENGTH.pack(len(body)) + body


class Decoder:
    """Takes bytes as they come and gives whole values."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Any]:
        """Return the values that are complete with ``data``.

        Raises:
            WireError: a length beyond the limit, or bytes that are no msgpack.
        """
        self._buffer += data
        values = []
        start = 0
        while (end := self._end(start)) is not None:
            values.append(wire.unpack(bytes(self._buffer[start + _LENGTH.size : end])))
            start = end
        del self._buffer[:start]
        return values

    def _end(self, start: int) -> int | None:
        if len(self._buffer) - start < _LENGTH.size:
            return None
        (size,) = _LENGTH.unpack_from(self._buffer, start)
        if size > self._limit:
            raise WireError(f"a message of {size} bytes, at most {self._limit} are allowed")
        end = start + _LENGTH.size + int(size)
        return end if end <= len(self._buffer) else None


class Stream:
    """The minion's end of the connection to a worker: never blocks, buffers both ways."""

    def __init__(self, sock: socket.socket, limit: int) -> None:
        self._sock = sock
        self._decoder = Decoder(limit)
        self._out = bytearray()
        self.ended = False
        sock.setblocking(False)

    def fileno(self) -> int:
        """The descriptor to poll, or -1 when closed."""
        return self._sock.fileno()

    @property
    def wants_write(self) -> bool:
        """Whether bytes wait for room in the socket."""
        return bool(self._out) and not self.ended

    def send(self, value: Any) -> None:
        """Send a value, or what of it goes now; `flush` sends the rest.

        Raises:
            DataError: msgpack cannot carry it.
        """
        self._out += frame(value)
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the socket takes it."""
        try:
            while self._out:
                del self._out[: self._sock.send(self._out)]
        except BlockingIOError:
            return
        except OSError:
            self.ended = True

    def receive(self) -> list[Any]:
        """Return the whole values that are there; `ended` says whether the other end is gone.

        Raises:
            WireError: the other end sent what is no message.
        """
        values: list[Any] = []
        while not self.ended:
            try:
                data = self._sock.recv(_CHUNK)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            self.ended = not data
            values += self._decoder.feed(data)
            if len(data) < _CHUNK:
                break
        return values

    def close(self) -> None:
        """Close the socket: the worker ends when it reads that."""
        self.ended = True
        self._sock.close()


class BlockingStream:
    """The worker's end: waits for a job, and sends a result whole."""

    def __init__(self, sock: socket.socket, limit: int) -> None:
        self._sock = sock
        self._decoder = Decoder(limit)
        self._ready: list[Any] = []
        sock.setblocking(True)

    def receive(self) -> Any:
        """Wait for the next value.

        Raises:
            EOFError: the other end is gone.
            WireError: the other end sent what is no message.
        """
        while not self._ready:
            try:
                data = self._sock.recv(_CHUNK)
            except OSError as error:
                raise EOFError from error
            if not data:
                raise EOFError
            self._ready = self._decoder.feed(data)
        return self._ready.pop(0)

    def send(self, value: Any) -> None:
        """Send a value.

        Raises:
            DataError: msgpack cannot carry it.
            EOFError: the other end is gone.
        """
        try:
            self._sock.sendall(frame(value))
        except OSError as error:
            raise EOFError from error
