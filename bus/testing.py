"""A bus in memory with the interface of the real one, for tests of your own.

No process, no socket, no thread, and nothing ever waits.

>>> from bus.testing import MemoryBus
>>> bus = MemoryBus()
>>> with bus.connect() as events:
...     heard = events.listen("myco/*")
...     seq = events.fire("myco/deploy/done", {"version": "1.2"})
...     [event.payload for event in heard]
[{'version': '1.2'}]
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from bus import frames, timeouts, wire
from bus.anative import AsyncConnection
from bus.broker.cursors import Cursors
from bus.errors import BusError, DataError, NotRunningError, RemoteError, WireError
from bus.event import SaltEvent
from bus.journal import JournalReader
from bus.listener import Heard, Listener
from bus.listening import Listening
from bus.native import Connection
from bus.publisher import OnDone, Publisher
from bus.record import Event
from bus.sockets import Socket

__all__ = ["MemoryBus", "MemoryConnection", "MemoryEvent"]

T = TypeVar("T")

_ADDRESS = "memory"
_Numbered = tuple[int, bytes]


class MemoryBus:
    """A master's bus, its journal and its cursors, in this process and thread.

    Who listens hears what was fired before it asks, in order, and is told that nothing is there
    instead of being made to wait, whatever its time-out: with one thread nothing could come.

    Args:
        clock: returns nanoseconds since 1970; a test that must know its time stamps gives one.
        max_event_size: the limit of an event in bytes.

    Attributes:
        running: whether the bus answers; set it to False to test what your code does without.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], int] = time.time_ns,
        max_event_size: int = wire.DEFAULT_MAX_EVENT_SIZE,
    ) -> None:
        self.running = True
        self.bus_id = "memory"
        self.clock = clock
        self.opts: Mapping[str, Any] = {
            "max_event_size": max_event_size,
            "event_match_type": "startswith",
        }
        self._raw: list[bytes] = []
        self._times: list[int] = []
        self._cursors = Cursors(":memory:", clock=lambda: clock() // 1000)

    @property
    def events(self) -> list[Event]:
        """All that was fired, decoded, oldest first."""
        numbered = enumerate(self._raw, 1)
        return [Event.from_wire(raw, seq, self.bus_id) for seq, raw in numbered]

    @property
    def tags(self) -> list[str]:
        """The tags of all that was fired."""
        return [wire.tag_of(raw) for raw in self._raw]

    def connect(self, *, timeout: float = 1.0) -> MemoryConnection:
        """Return what `bus.connect` returns of a real bus.

        Raises:
            NotRunningError: `running` is False.
        """
        return MemoryConnection(self, timeout=timeout)

    def aconnect(self, *, timeout: float = 1.0) -> AsyncConnection:
        """Return what `bus.aconnect` returns of a real bus; entering it raises as `connect`."""
        return _AsyncMemoryConnection(self, timeout=timeout)

    def get_event(self, *, listen: bool = True, raise_errors: bool = False) -> MemoryEvent:
        """Return what `bus.event.get_event` returns of a real bus."""
        return MemoryEvent(self, listen=listen, raise_errors=raise_errors)

    # -- what the connections use ---------------------------------------------------------

    @property
    def last_seq(self) -> int:
        """The number of the newest event, or 0."""
        return len(self._raw)

    def append(self, events: Sequence[bytes]) -> int:
        """Keep packed events together and return the number of the first.

        Raises:
            NotRunningError: `running` is False.
            DataError: one of them could not be read again.
        """
        self.check_running()
        for event in events:
            try:
                frames.check_event(event)
            except WireError as error:
                raise DataError(str(error)) from error
        first = len(self._raw) + 1
        at = max(self.clock() // 1000, self._times[-1] if self._times else 0)
        self._raw.extend(events)
        self._times.extend(at for _ in events)
        return first

    def read(self, after: int, limit: int, upto: int | None = None) -> list[_Numbered]:
        """Return at most ``limit`` packed events after a number, with theirs."""
        after = max(0, after)
        end = min(after + limit, len(self._raw) if upto is None else upto)
        return list(enumerate(self._raw[after:end], after + 1))

    def seq_before(self, at: int) -> int:
        """Return the number of the last event fired before ``at`` (microseconds), or 0."""
        return bisect_left(self._times, at)

    def ask(self, method: str, params: Mapping[str, Any]) -> Any:
        """Answer what the real bus is asked over its socket.

        Raises:
            NotRunningError: `running` is False.
            RemoteError: there is no such method.
        """
        self.check_running()
        found = self._cursors.methods().get(method)
        if found is None:
            raise RemoteError(f"no method {method!r}")
        return found(dict(params))

    def check_running(self) -> None:
        """Raise NotRunningError unless the bus is running."""
        if not self.running:
            raise NotRunningError("no bus answers: the MemoryBus of this test is not running")


class _Listening(Listening):
    """Returns at once: see `MemoryBus`."""

    may_wait = False

    def next(self, timeout: float | None = None) -> Event | None:
        """Return the next event that matches, or None if there is none."""
        timeouts.seconds(timeout, "timeout")
        while self._feed:
            before = self._feed.after
            event = super().next(0)
            if event is not None or self._feed.after == before:
                return event
        return None


class MemoryConnection(Connection):
    """`bus.Connection` to a `MemoryBus`; an iteration ends when nothing more is there."""

    _listening_kind = _Listening

    def __init__(self, bus: MemoryBus, *, timeout: float = 1.0) -> None:
        self._bus = bus
        super().__init__("master", bus.opts, timeout=timeout)
        self._packer = wire.EventPacker(bus.clock, int(bus.opts["max_event_size"]))

    def _check_running(self) -> None:
        self._bus.check_running()

    def _firing(self) -> Publisher:
        self._after_fork()
        return _Publisher(self._bus)

    def now(self) -> float:
        """Return the time of the bus's clock, in seconds since 1970."""
        return self._bus.clock() / 1_000_000_000

    def open_calls(self) -> _Calls:
        """Return what asks the bus."""
        return _Calls(self._bus)

    def open_listener(self, prefix: str) -> Listener:
        """Return a listener to what begins with ``prefix``."""
        return _Listener(self._bus, prefix)

    def open_journal(self) -> JournalReader:
        """Return a reader of all that was fired."""
        return _Journal(self._bus)


class _AsyncMemoryConnection(AsyncConnection):
    """`MemoryConnection` for asyncio: in the loop's own thread, as nothing waits."""

    def __init__(self, bus: MemoryBus, *, timeout: float) -> None:
        super().__init__("master", bus.opts, timeout=timeout)
        self._bus = bus

    def _connect(self) -> MemoryConnection:
        return self._bus.connect(timeout=self._timeout)

    async def _run(self, turn: Callable[[], T]) -> T:
        return turn()


class MemoryEvent(SaltEvent):
    """`bus.event.SaltEvent` on a `MemoryBus`: a wait returns at once when nothing is there."""

    def __init__(self, bus: MemoryBus, *, listen: bool = True, raise_errors: bool = False) -> None:
        self._bus = bus
        super().__init__("master", None, bus.opts, listen, raise_errors=raise_errors)
        self._packer = wire.EventPacker(bus.clock, self._limit)

    def connect_pub(self, timeout: float | None = None) -> bool:
        """Begin to listen; return whether the bus is running."""
        if self._listener is None and self._bus.running:
            self._listener = _Listener(self._bus)
        return super().connect_pub(timeout) if self._bus.running else self._no_bus()

    def _no_bus(self) -> bool:
        if self.raise_errors:
            self._bus.check_running()
        return False

    def _listening(self) -> Listener:
        self._after_fork()
        if self._listener is None:
            self._listener = _Listener(self._bus)
        return self._listener

    def _firing(self) -> Publisher:
        self._after_fork()
        return _Publisher(self._bus)

    def _receive(
        self, matches: Callable[[str], bool], seconds: float | None
    ) -> tuple[str, dict[str, Any]] | None:
        del seconds
        return super()._receive(matches, 0.0)

    def get_event_block(self) -> dict[str, Any] | None:
        """Return the next event, or None: there is nothing to wait for."""
        return self.get_event_noblock()

    def iter_events(
        self,
        tag: str = "",
        full: bool = False,
        match_type: str | None = None,
        auto_reconnect: bool = False,
    ) -> Iterator[Any]:
        """Yield the events that are there."""
        del auto_reconnect
        while (event := self.get_event(0, tag, full, match_type)) is not None:
            yield event

    async def iter_events_async(
        self,
        tag: str = "",
        full: bool = False,
        match_type: str | None = None,
        auto_reconnect: bool = False,
    ) -> AsyncIterator[Any]:
        """Yield the events that are there."""
        del auto_reconnect
        for event in self.iter_events(tag, full, match_type):
            yield event


class _Publisher(Publisher):
    """Puts packed events into the memory of a bus."""

    def __init__(self, bus: MemoryBus) -> None:
        self.address = _ADDRESS
        self._bus = bus

    def fire(self, events: Sequence[bytes], timeout: float | None = 1.0) -> int:
        del timeout
        return self._bus.append(events)

    def fire_all(self, events: Iterable[bytes], timeout: float | None = 10.0) -> int:
        del timeout
        kept = 0
        try:
            for event in events:
                if not self._bus.running:
                    break
                self._bus.append([event])
                kept += 1
        except BusError as error:
            error.kept = kept
            raise
        return kept

    def send(
        self,
        events: Sequence[bytes],
        *,
        on_done: OnDone,
        producer: bytes | None = None,
        number: int | None = None,
    ) -> tuple[bytes, int]:
        on_done(self._bus.append(events), None)
        return producer or b"", number or 0

    def reachable(self) -> bool:
        return self._bus.running

    def close(self) -> None:
        pass


class _Listener(Listener):
    """Walks along the memory of a bus from where it stood."""

    def __init__(self, bus: MemoryBus, prefix: str = "") -> None:
        self.address = _ADDRESS
        self.bus_id = bus.bus_id
        self._bus = bus
        self._wanted = prefix.encode()
        self._after = bus.last_seq

    @property
    def socket(self) -> Socket:
        raise DataError("a MemoryBus has no sockets to poll: ask its listeners, they never wait")

    def wait_ready(self, timeout: float = 1.0) -> int:
        del timeout
        self._bus.check_running()
        return self._after

    def receive(self, timeout: float | None = None) -> Heard | None:
        del timeout  # nothing comes while one waits
        return self.read()

    def wait(self, seconds: float) -> None:
        pass

    def read(self) -> Heard | None:
        while found := self._bus.read(self._after, 1):
            ((seq, raw),) = found
            self._after = seq
            if raw.startswith(self._wanted):
                return Heard((raw,), (seq,), seq, self.bus_id)
        return None

    def close(self) -> None:
        pass


class _Journal(JournalReader):
    """Reads the memory of a bus as if it were its journal."""

    def __init__(self, bus: MemoryBus) -> None:
        self.path = Path(_ADDRESS)
        self.bus_id = bus.bus_id
        self._bus = bus

    def read(self, after: int, limit: int = 1000, upto: int | None = None) -> list[_Numbered]:
        return self._bus.read(after, limit, upto)

    def last_seq(self) -> int:
        return self._bus.last_seq

    def first_seq(self) -> int:
        return 1

    def seq_before(self, at: int) -> int:
        return self._bus.seq_before(at)

    def close(self) -> None:
        pass


class _Calls:
    """Asks the bus in memory."""

    def __init__(self, bus: MemoryBus) -> None:
        self._bus = bus

    def call(self, method: str, params: Mapping[str, Any] | None = None) -> Any:
        return self._bus.ask(method, params or {})

    def close(self) -> None:
        pass
