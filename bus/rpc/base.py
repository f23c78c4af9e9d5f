"""What asks and what answers, whatever lies between."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from bus import frames, wire
from bus.errors import AnswerTimeoutError, BusError, WireError
from bus.sockets import Socket, not_running, shown

MAX_CALL_BYTES: Final = 8 << 20
"""The largest question that a server takes."""

GRACE_SECONDS: Final = 0.5
"""What a server has to come back after it was killed, before it is said to be gone."""

MAX_CALLS_PER_TURN: Final = 1000
"""So that a flood of calls does not keep a server's loop."""

OnReply = Callable[[Any, BusError | None], None]
"""Told the answer of a call, or what went wrong."""


class Server(ABC):
    """Answers calls, for a loop that polls its socket."""

    @property
    @abstractmethod
    def socket(self) -> Socket | int:
        """What to poll for input."""

    @abstractmethod
    def handle(self) -> None:
        """Answer what waits, a bounded number so that a flood does not keep the loop here."""

    @abstractmethod
    def close(self) -> None:
        """Close the socket and let another server have it."""


class Connection(ABC):
    """A connection that is kept from call to call. For one thread; a forked child connects anew."""

    @abstractmethod
    def call(
        self, method: str, params: Mapping[str, Any] | None = None, timeout: float = 5.0
    ) -> Any:
        """Ask the server and return its answer.

        Args:
            method: the method's name.
            params: what it needs.
            timeout: seconds to wait.

        Raises:
            NotRunningError: nothing listens there, or it went away before it answered.
            AnswerTimeoutError: no answer within ``timeout``.
            BusError: what the server says went wrong.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the connection; a call opens it again."""


class Caller(ABC):
    """Asks one server many things without waiting, for a loop that polls its socket.

    A call without an answer is asked again with the same id until it is answered or abandoned:
    a server that restarts is waited for, and methods that must not run twice take a ``key``.
    """

    RESEND_AFTER = 1.0
    """Seconds without an answer after which a call is asked again."""

    def __init__(self) -> None:
        self._open: dict[bytes, tuple[list[bytes], OnReply]] = {}
        self._asked: dict[bytes, float] = {}

    @property
    @abstractmethod
    def socket(self) -> Socket | int:
        """What to poll for input."""

    @property
    def pending(self) -> int:
        """How many calls have no answer yet."""
        return len(self._open)

    def call(self, method: str, params: Mapping[str, Any], on_reply: OnReply) -> None:
        """Ask without waiting; `handle` tells ``on_reply``."""
        ident = os.urandom(8)
        self._open[ident] = (frames.call(ident, method, dict(params)), on_reply)
        self._ask(ident)

    def handle(self) -> None:
        """Read the answers that wait."""
        for parts in self._receive():
            if len(parts) > 2 and parts[1] in self._open:
                self._finish(parts)

    def tick(self) -> None:
        """Ask again what has waited too long. To be called every now and then."""
        due = time.monotonic() - self.RESEND_AFTER
        for ident in [ident for ident, asked in self._asked.items() if asked < due]:
            self._ask(ident)

    def close(self) -> None:
        """Close the connection."""
        self._open.clear()
        self._asked.clear()

    @abstractmethod
    def _send(self, parts: list[bytes]) -> None:
        """Send a call's frames, or let them be sent again later."""

    @abstractmethod
    def _receive(self) -> Iterable[list[bytes]]:
        """Return the frames of the answers that are there."""

    def _ask(self, ident: bytes) -> None:
        self._asked[ident] = time.monotonic()
        self._send(self._open[ident][0])

    def _finish(self, parts: list[bytes]) -> None:
        kind, ident, value, *more = parts
        _, on_reply = self._open.pop(ident)
        self._asked.pop(ident, None)
        if kind == frames.FAILED and more:
            on_reply(None, frames.parse_error(value, more[0]))
            return
        try:
            result = wire.unpack(value)
        except WireError as error:
            on_reply(None, error)
        else:
            on_reply(result, None)


def value_of(parts: list[bytes]) -> Any:
    """Return what an answer says.

    Raises:
        BusError: what the server says went wrong.
    """
    kind, _, value, *more = parts
    if kind == frames.FAILED and more:
        raise frames.parse_error(value, more[0])
    return wire.unpack(value)


def too_late(address: str, timeout: float) -> BusError:
    """Return the error that says that no answer came within ``timeout`` seconds."""
    if timeout < 1:
        return not_running(address)
    return AnswerTimeoutError(
        f"no answer from {shown(address)} within {timeout:g} s: "
        "is the server running and not overloaded? see 'reactor status'"
    )
