"""Events that the engine fires: gathered during a turn, sent together, acknowledged each."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from bus import wire
from bus.errors import BusError, JournalError
from bus.publisher import BATCH_BYTES, BATCH_EVENTS, WINDOW, Publisher

OnFired = Callable[[int | None, BusError | None], None]
"""Told the event's number once it is in the journal, or the error."""

RETRY_AFTER = 0.5
"""Seconds before what a full or failing disk has refused is sent again."""


def nobody(_seq: int | None, _error: BusError | None) -> None:
    """Nobody waits for this event."""


class Outbox:
    """Fires events through one publisher without ever waiting.

    Args:
        publisher: the connection to the bus.
        max_size: the limit of an event in bytes.
        clock: seconds that never run backwards.
    """

    def __init__(
        self, publisher: Publisher, max_size: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._publisher = publisher
        self._max_size = max_size
        self._packer = wire.EventPacker(time.time_ns, max_size)
        self._clock = clock
        self._held_until = 0.0
        self._waiting: deque[tuple[bytes, OnFired]] = deque()

    def __len__(self) -> int:
        return len(self._waiting) + self._publisher.pending

    def pack(self, tag: str, data: Mapping[str, Any]) -> bytes:
        """Return an event ready for `add`. Safe from any thread.

        Raises:
            ValueError: it cannot go onto a bus.
        """
        return wire.pack_event(tag, data, self._max_size)

    def add(self, event: bytes, on_fired: OnFired = nobody) -> None:
        """Put a packed event into the box."""
        self._waiting.append((event, on_fired))

    def fire(self, tag: str, data: Mapping[str, Any], on_fired: OnFired = nobody) -> None:
        """Put an event into the box. In the loop's thread.

        Raises:
            ValueError: it cannot go onto a bus.
        """
        self.add(self._packer.pack(tag, data), on_fired)

    def flush(self) -> None:
        """Send what waits, as far as the window allows."""
        if self._held_until and self._clock() < self._held_until:
            return
        while self._waiting and self._publisher.pending < WINDOW:
            self._send(self._next_batch())

    def _next_batch(self) -> list[tuple[bytes, OnFired]]:
        batch: list[tuple[bytes, OnFired]] = []
        size = 0
        while self._waiting and len(batch) < BATCH_EVENTS and size < BATCH_BYTES:
            batch.append(self._waiting.popleft())
            size += len(batch[-1][0])
        return batch

    def _send(self, batch: list[tuple[bytes, OnFired]]) -> None:
        def done(first_seq: int | None, error: BusError | None) -> None:
            if isinstance(error, JournalError):
                # Nothing is wrong with the events, so they wait until the disk takes them.
                self._waiting.extendleft(reversed(batch))
                self._held_until = self._clock() + RETRY_AFTER
                return
            if error and len(batch) > 1:
                # The bus refuses a fire as a whole: one at a time, only the culprit is refused.
                for item in batch:
                    self._send([item])
                return
            for place, (_, on_fired) in enumerate(batch):
                on_fired(None if first_seq is None else first_seq + place, error)

        self._publisher.send([event for event, _ in batch], on_done=done)
