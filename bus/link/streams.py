"""The batches of minions on their way into the master's journal, once each. No I/O of its own."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from bus.errors import AnswerTimeoutError, BusError, JournalError, NotRunningError
from bus.link.protocol import Ack, Batch, Refused
from bus.sockets import Socket

MAX_STREAMS = 20_000
"""Runs of minions that are remembered while nothing of them is on the way."""

_PASSING = (JournalError, NotRunningError, AnswerTimeoutError)
"""Errors after which the same events may well be taken."""

OnDone = Callable[[int | None, BusError | None], None]


class PublisherLike(Protocol):
    """What is needed of `bus.publisher.Publisher` here."""

    def send(
        self,
        events: Sequence[bytes],
        *,
        on_done: OnDone,
        producer: bytes | None = None,
        number: int | None = None,
    ) -> object:
        """Send a fire without waiting."""
        ...


class FullPublisher(PublisherLike, Protocol):
    """What the server needs of `bus.publisher.Publisher`."""

    @property
    def inputs(self) -> Sequence[Socket | int]:
        """What to poll."""
        ...

    @property
    def pending(self) -> int:
        """How many fires have no answer yet."""
        ...

    def handle(self) -> None:
        """Read the answers that wait."""
        ...

    def tick(self) -> None:
        """Send again what has waited too long."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


@dataclass(slots=True)
class _Pending:
    """A batch whose answer is awaited, and the connections that want to hear it."""

    refused: dict[int, str]
    waiting: set[bytes]


@dataclass(slots=True)
class _Stream:
    """One run of one minion."""

    kept: int = 0
    newest: int = 0
    sent: int = 0
    flying: int = 0
    failed: set[int] = field(default_factory=set)
    held: deque[tuple[Batch, Sequence[bytes]]] = field(default_factory=deque)
    pending: dict[int, _Pending] = field(default_factory=dict)


Answer = Callable[[bytes, Ack | Refused], None]
"""Tells a connection, by its routing id, what became of a batch."""


class Streams:
    """Hands batches to the publisher, and the answers back to who waits for them.

    Args:
        publisher: of the master's bus.
        answer: tells a connection.

    Attributes:
        held: batches that wait for the answer to one before them.
    """

    def __init__(self, publisher: PublisherLike, answer: Answer) -> None:
        self.held = 0
        self._publisher = publisher
        self._answer = answer
        self._streams: OrderedDict[bytes, _Stream] = OrderedDict()

    def is_repeat(self, producer: bytes, batch: Batch, routing: bytes) -> bool:
        """Say whether a batch came before; then its sender is told what became of it.

        Args:
            producer: the name of the stream.
            batch: what came.
            routing: who sent it.
        """
        stream = self._streams.get(producer)
        if stream is None:
            return False
        pending = stream.pending.get(batch.number)
        if pending is not None:
            pending.waiting.add(routing)
        elif batch.number in stream.failed:
            # Never under this number: a later one may be in the journal already.
            self._answer(routing, Refused(batch.lineage, batch.number, "not kept before"))
        elif batch.number <= stream.kept:
            self._answer(routing, Ack(batch.lineage, batch.number))
        # A lower number than one that is on the way is none of ours: it gets no answer.
        return batch.number <= stream.newest

    def forward(
        self,
        producer: bytes,
        batch: Batch,
        routing: bytes,
        wires: Sequence[bytes],
        refused: dict[int, str],
    ) -> None:
        """Send a batch to the bus; its sender is told when it is in the journal.

        Args:
            producer: the name of the stream.
            batch: what came.
            routing: who sent it.
            wires: the events to fire.
            refused: why the others are not, by their place.
        """
        stream = self._stream(producer)
        stream.newest = max(stream.newest, batch.number)
        if not wires:
            self._answer(routing, Ack(batch.lineage, batch.number, refused))
            return
        stream.pending[batch.number] = _Pending(refused, {routing})
        stream.held.append((batch, wires))
        self.held += 1
        self._release(stream, producer)

    def _release(self, stream: _Stream, producer: bytes) -> None:
        """Send what may be sent: without a gap in the numbers while an answer is awaited.

        The bus would have a gap explained by sending everything before it once more.
        """
        while stream.held:
            batch, wires = stream.held[0]
            if stream.flying and batch.number != stream.sent + 1:
                return
            stream.held.popleft()
            self.held -= 1
            stream.flying += 1
            stream.sent = batch.number
            done = partial(self._done, stream, producer, batch)
            self._publisher.send(wires, on_done=done, producer=producer, number=batch.number)

    def _stream(self, producer: bytes) -> _Stream:
        stream = self._streams.setdefault(producer, _Stream())
        self._streams.move_to_end(producer)
        if len(self._streams) > MAX_STREAMS:
            self._forget_silent()
        return stream

    def _forget_silent(self) -> None:
        for producer, stream in list(self._streams.items())[: MAX_STREAMS // 10]:
            if not stream.pending:
                del self._streams[producer]

    def _done(
        self,
        stream: _Stream,
        producer: bytes,
        batch: Batch,
        _seq: int | None,
        error: BusError | None,
    ) -> None:
        pending = stream.pending.pop(batch.number)
        answer: Ack | Refused
        if error is None:
            stream.kept = max(stream.kept, batch.number)
            answer = Ack(batch.lineage, batch.number, pending.refused)
        elif isinstance(error, _PASSING):
            stream.failed.add(batch.number)
            answer = Refused(batch.lineage, batch.number, str(error)[:1000])
        else:
            why = str(error)[:1000]
            answer = Ack(batch.lineage, batch.number, dict.fromkeys(range(len(batch.items)), why))
        for routing in pending.waiting:
            self._answer(routing, answer)
        stream.flying -= 1
        self._release(stream, producer)
