"""Firing over the direct line: for who fires one thing and waits for its answer."""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bus import frames
from bus.direct.connecting import connect
from bus.direct.framing import MAX_ANSWER_BYTES, RECEIVE_BYTES, Inbox, answer_parts, message
from bus.errors import BusError, WireError
from bus.frames import Answer

log = logging.getLogger(__name__)

SLOWER_SECONDS: Final = 0.25
"""How long one waits who was told that he fires too fast."""
_FIRST_LOOK, _LAST_LOOK = 0.005, 0.1
"""Seconds between two looks whether a bus that went away is back: doubling."""


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
        sock = connect(self._path)
        if sock is None:
            return False
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

    def __del__(self) -> None:
        self.close()  # who is forgotten, as in Salt's scripts, is worth no warning

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
        except BaseException:  # an interruption too: a message may have been sent in part
            self.close()
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
