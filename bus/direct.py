"""The direct line to a bus: a plain UNIX stream, for who fires one thing and waits for its answer.

It carries the frames of `bus.frames`, and saves the two threads that ZeroMQ has between a caller
and a socket: half of the time of a round trip. A message is the lengths of its two parts, and
these parts. Without ZeroMQ's import, so that `reactor fire` starts fast.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bus import frames
from bus.errors import BusError, WireError
from bus.frames import Answer

log = logging.getLogger(__name__)

_LENGTHS = struct.Struct(">HI")
MAX_HEAD_BYTES: Final = 1024
MAX_ANSWER_BYTES: Final = 1 << 20
RECEIVE_BYTES: Final = 65_536

SLOWER_SECONDS: Final = 0.25
"""How long one waits who was told that he fires too fast."""
_FIRST_LOOK, _LAST_LOOK = 0.005, 0.1
"""Seconds between two looks whether a bus that went away is back: doubling."""


def message(head: bytes, body: bytes = b"") -> bytes:
    """Return two parts as one message."""
    return _LENGTHS.pack(len(head), len(body)) + head + body


def answer_message(parts: list[bytes]) -> bytes:
    """Return the frames of an answer, see `frames.parse_answer`, as one message."""
    return message(parts[0], b"\0".join(parts[1:]))


def answer_parts(head: bytes, body: bytes) -> list[bytes]:
    """Return the frames in an `answer_message`."""
    return [head, *body.split(b"\0", 1)] if body else [head]


class Inbox:
    """Puts the messages of a stream together.

    Args:
        limit: the longest second part in bytes.

    Attributes:
        error: why nothing that comes now can be read: a part was too long.
    """

    __slots__ = ("_limit", "_waiting", "error")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting = bytearray()
        self.error: WireError | None = None

    def add(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """Return the messages that ``data`` completes."""
        if not self._waiting:
            head, body = self._lengths(data, 0)
            end = _LENGTHS.size + head
            if head and len(data) == end + body:  # nearly always: one message by itself
                return [(data[_LENGTHS.size : end], data[end:])]
        self._waiting += data
        return self._whole()

    def _whole(self) -> list[tuple[bytes, bytes]]:
        found: list[tuple[bytes, bytes]] = []
        waiting, at = self._waiting, 0
        while True:
            head, body = self._lengths(waiting, at)
            begin = at + _LENGTHS.size
            end = begin + head + body
            if not head or len(waiting) < end:
                break
            found.append((bytes(waiting[begin : begin + head]), bytes(waiting[begin + head : end])))
            at = end
        del waiting[:at]
        return found

    def _lengths(self, data: bytes | bytearray, at: int) -> tuple[int, int]:
        """Return the lengths of the parts of the message at ``at``; zeros if there is none."""
        if len(data) < at + _LENGTHS.size:
            return 0, 0
        head, body = _LENGTHS.unpack_from(data, at)
        if not 1 <= head <= MAX_HEAD_BYTES or body > self._limit:
            self.error = WireError(f"a message of {head} and {body} bytes on the direct line")
            return 0, 0
        return head, body


class DirectLine:
    """A connection to a bus for one fire at a time. For one thread at a time.

    Args:
        path: the bus's socket.
        clock: seconds, monotonic.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._number = 0
        self._socket: socket.socket | None = None
        self._inbox = Inbox(MAX_ANSWER_BYTES)
        self._poll = select.poll()

    def open(self) -> bool:
        """Connect if that is still to be done; say whether a bus is there."""
        if self._socket is not None:
            return True
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(str(self._path))
        except OSError:
            sock.close()
            return False
        sock.setblocking(False)
        self._inbox = Inbox(MAX_ANSWER_BYTES)
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._socket = sock
        return True

    def close(self) -> None:
        """Close the connection; what was not sent whole is not fired."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def fire(self, producer: bytes, number: int, body: bytes, timeout: float | None) -> int | None:
        """Fire events together and wait until they are kept; connect again if that is needed.

        Args:
            producer: in whose name; no other fire of his may be without an answer.
            number: the fire's number in that name.
            body: the events, packed as an array.
            timeout: seconds; None waits for ever.

        Returns:
            The number of the first one; None if there was no answer within ``timeout``.

        Raises:
            FireRateError: the bus did not take them within that time, since they came too fast.
            BusError: the bus refused them.
        """
        self._number = number
        head, body = frames.fire(producer, number, number, body)
        deadline = None if timeout is None else self._clock() + timeout
        try:
            answer = self._ask(message(head, body), deadline)
        except BaseException:
            self.close()  # a message may have been sent in part
            raise
        if answer is None:
            self.close()
            return None
        if answer.error:
            raise answer.error
        return answer.first_seq

    def _ask(self, question: bytes, deadline: float | None) -> Answer | None:
        slower: BusError | None = None
        look = _FIRST_LOOK
        while True:
            answer = None
            if self.open():
                look = _FIRST_LOOK
                answer = self._exchange(question, deadline)
            if answer and answer.kind in (frames.ACKNOWLEDGED, frames.REFUSED):
                return answer
            if answer and answer.kind == frames.SLOWER:
                slower = answer.error
            if self._is_over(deadline):
                break
            if answer or self._socket is None:
                self._rest(SLOWER_SECONDS if answer else look, deadline)
                look = min(2 * look, _LAST_LOOK)
        if slower:
            raise slower
        return None

    def _exchange(self, question: bytes, deadline: float | None) -> Answer | None:
        """Send and receive once; None if the time is over or the bus has gone away."""
        try:
            return self._receive(deadline) if self._send(question, deadline) else None
        except (OSError, WireError) as error:
            log.debug("the direct line to %s is cut: %s", self._path, error)
            self.close()
            return None

    def _send(self, data: bytes, deadline: float | None) -> bool:
        assert self._socket is not None
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        if sent == len(data):
            return True
        left = memoryview(data)[sent:]
        writable = select.poll()
        writable.register(self._socket, select.POLLOUT)
        while left:
            if not writable.poll(self._wait(deadline)):
                self.close()  # the rest would be taken for the next message
                return False
            left = left[self._socket.send(left) :]
        return True

    def _receive(self, deadline: float | None) -> Answer | None:
        """Return the answer to the newest fire; those to earlier ones came too late."""
        assert self._socket is not None
        while self._poll.poll(self._wait(deadline)):
            data = self._socket.recv(RECEIVE_BYTES)
            if not data:
                self.close()
                return None
            for head, body in self._inbox.add(data):
                answer = frames.parse_answer(answer_parts(head, body))
                if answer.number == self._number:
                    return answer
            if self._inbox.error:
                raise self._inbox.error
        return None

    def _wait(self, deadline: float | None) -> int | None:
        """Return the milliseconds until the deadline, as `select.poll` takes them."""
        if deadline is None:
            return None
        return max(0, int((deadline - self._clock()) * 1000) + 1)

    def _is_over(self, deadline: float | None) -> bool:
        return deadline is not None and self._clock() >= deadline

    def _rest(self, seconds: float, deadline: float | None) -> None:
        left = seconds if deadline is None else min(seconds, deadline - self._clock())
        with contextlib.suppress(ValueError):  # the deadline is over
            time.sleep(left)
