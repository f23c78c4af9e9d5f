"""What a minion still has to bring to its master, in order. No I/O: the spool is passed in.

Three places, from old to new: the *spool* (batches on disk), the *sealed* batches in memory, and
the *queue* of items that are in no batch yet. A batch never changes once it is sealed: its
lineage and number are what the master knows a repeated one by.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bus.complaints import Complaints
from bus.errors import BusError
from bus.link.protocol import BATCH_BYTES, MAX_ITEMS, Batch, Item, decode_up, encode, max_message

log = logging.getLogger(__name__)

Done = Callable[[bool, str], None]
"""Told whether an item is safe, and in words where it is or why it is not."""

Key = tuple[int, int]
"""The place of a batch in the order: the run of the minion, and the number within it."""

_START: Key = (0, 0)

WINDOW_ITEMS = 4096
WINDOW_BATCHES = 64
WINDOW_BYTES = 8 << 20
"""What may be on the way without an answer; a master stops reading long before it suffers."""

MAX_QUEUE_BYTES = 64 << 20
"""What may wait in memory while the link is up but slow; beyond it goes to the spool."""

GRACE_SECONDS = 1.0
"""A master that restarts is back within this time, and nothing was written to the disk."""

HOLD_SECONDS = 1.0
"""The pause after the master could not keep a batch, such as with its disk full."""

_ITEM_COST = 64
_PREFETCH = 16
_REMOVE_AT = 64


@dataclass(slots=True)
class Sealed:
    """A batch as it goes over the wire, and who waits for it."""

    key: Key
    lineage: bytes
    frame: bytes
    count: int
    dones: list[Done | None] = field(default_factory=list)

    @property
    def name(self) -> tuple[bytes, int]:
        """What the master calls it."""
        return self.lineage, self.key[1]

    def done(self, good: bool, text: str) -> None:
        """Tell all who wait, once."""
        waiting, self.dones = self.dones, []
        for done in waiting:
            if done is not None:
                done(good, text)


class Spool(Protocol):
    """Keeps batches across restarts. Errors are a `BusError`."""

    @property
    def run(self) -> int:
        """The number of this run of the minion, above that of every batch kept."""
        ...

    @property
    def size(self) -> int:
        """The bytes kept."""
        ...

    @property
    def events(self) -> int:
        """How many events are kept."""
        ...

    @property
    def dropped(self) -> int:
        """How many events made room for newer ones."""
        ...

    @property
    def unreported(self) -> int:
        """How many of them the master does not know of."""
        ...

    def append(self, batches: Sequence[Sealed], spare: Key = _START) -> int:
        """Keep batches, as many from the first as there is room for; return how many.

        To make room, nothing up to ``spare`` is dropped.
        """
        ...

    def reported(self, events: int) -> None:
        """The master was told of so many dropped events."""
        ...

    def after(self, key: Key, limit: int) -> list[Sealed]:
        """Return the oldest batches that come after ``key``."""
        ...

    def remove(self, keys: Iterable[Key]) -> None:
        """Forget batches."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


class Outbox:
    """The order in which things go up, and what is on the way.

    Args:
        lineage: a new random one for each run.
        spool: where to put what cannot be delivered now.
        max_event_size: the master's limit in bytes, once it is known.
    """

    def __init__(self, lineage: bytes, spool: Spool, max_event_size: int) -> None:
        self.max_event_size = max_event_size
        self.lost = 0
        self._complaints = Complaints()
        self._lineage = lineage
        self._spool = spool
        self._run = spool.run
        self._number = 0
        self._queue: deque[tuple[Item, Done | None]] = deque()
        self._queue_bytes = 0
        self._sealed: OrderedDict[Key, Sealed] = OrderedDict()
        self._flight: OrderedDict[tuple[bytes, int], Sealed] = OrderedDict()
        self._flight_bytes = 0
        self._flight_items = 0
        self._sent = _START
        self._spool_read: deque[Sealed] = deque()
        self._spool_ended = False
        self._removed: list[Key] = []
        self._up = False
        self._down_since: float | None = None
        self._held_until = 0.0

    # -- what comes in --------------------------------------------------------------------

    @property
    def queued(self) -> int:
        """How many items are in no batch yet."""
        return len(self._queue)

    @property
    def in_flight(self) -> int:
        """How many batches are on the way."""
        return len(self._flight)

    @property
    def idle(self) -> bool:
        """Whether nothing in memory waits for the master."""
        return not self._queue and not self._sealed and not self._flight

    @property
    def unreported(self) -> int:
        """How many events the spool dropped that the master does not know of."""
        return self._spool.unreported

    def reported(self, events: int) -> None:
        """The master was told of so many dropped events."""
        try:
            self._spool.reported(events)
        except BusError as error:
            log.warning("%s", error)  # it will be told again

    def status(self) -> dict[str, int]:
        """Return what waits where, and what became of the rest."""
        return {
            "events": self._spool.events,
            "bytes": self._spool.size,
            "dropped": self._spool.dropped,
            "queued": len(self._queue) + sum(batch.count for batch in self._sealed.values()),
            "in_flight": self._flight_items,
            "lost": self.lost,
        }

    def add(self, item: Item, done: Done | None) -> None:
        """Take an item that is to be delivered."""
        self._queue.append((item, done))
        self._queue_bytes += _cost(item)

    def link_up(self) -> None:
        """The master takes messages: begin with the oldest that it has not acknowledged."""
        self._flush_removed()
        self._forget_flight()
        self._up = True
        self._down_since = None
        self._sent = _START
        self._spool_read.clear()
        self._spool_ended = False

    def link_down(self, now: float) -> None:
        """Nothing can be delivered at present."""
        self._up = False
        if self._down_since is None:
            self._down_since = now
        self._forget_flight()

    def _forget_flight(self) -> None:
        self._flight.clear()
        self._flight_bytes = self._flight_items = 0

    # -- what goes out --------------------------------------------------------------------

    def next(self, now: float) -> Sealed | None:
        """Return the batch to send now, or None. It stays the next one until `sent`."""
        if not self._up or now < self._held_until or self._window_is_full():
            return None
        try:
            return self._next_that_fits()
        except BusError as error:
            # Nothing newer may overtake what is in the spool, so all of it waits.
            log.warning("%s", error)
            self._held_until = now + HOLD_SECONDS
            return None

    def _next_that_fits(self) -> Sealed | None:
        while True:
            found = self._oldest_unsent()
            if found is None or len(found.frame) <= max_message(self.max_event_size):
                return found
            self._drop_oversize(found)

    def _window_is_full(self) -> bool:
        return (
            len(self._flight) >= WINDOW_BATCHES
            or self._flight_items >= WINDOW_ITEMS
            or self._flight_bytes >= WINDOW_BYTES
        )

    def _oldest_unsent(self) -> Sealed | None:
        return self._from_spool() or self._from_sealed() or self._seal()

    def _from_spool(self) -> Sealed | None:
        if not self._spool_read and not self._spool_ended:
            self._read_spool()
        return self._spool_read[0] if self._spool_read else None

    def _read_spool(self) -> None:
        self._spool_read.extend(self._spool.after(self._sent, _PREFETCH))
        self._spool_ended = not self._spool_read

    def _from_sealed(self) -> Sealed | None:
        last = next(reversed(self._sealed), _START)
        if last <= self._sent:  # sent ones stay here until they are acknowledged
            return None
        return next(batch for key, batch in self._sealed.items() if key > self._sent)

    def _seal(self) -> Sealed | None:
        """Make a batch of what is at the head of the queue."""
        items: list[Item] = []
        dones: list[Done | None] = []
        size = 0
        while self._queue and len(items) < MAX_ITEMS:
            cost = _cost(self._queue[0][0])
            if items and size + cost > BATCH_BYTES:
                break
            item, done = self._queue.popleft()
            items.append(item)
            dones.append(done)
            size += cost
        self._queue_bytes -= size
        return self._make_batch(items, dones) if items else None

    def _make_batch(self, items: list[Item], dones: list[Done | None]) -> Sealed:
        self._number += 1
        key = (self._run, self._number)
        frame = encode(Batch(self._lineage, self._number, items))
        batch = Sealed(key, self._lineage, frame, len(items), dones)
        self._sealed[key] = batch
        return batch

    def _drop_oversize(self, batch: Sealed) -> None:
        """A master whose limit was lowered would cut the connection at every try."""
        text = (
            f"{len(batch.frame)} bytes are more than the master's max_event_size "
            f"of {self.max_event_size} allows"
        )
        log.error("dropped %d events: %s", batch.count, text)
        self.lost += batch.count
        self.sent(batch)
        self._finish(batch)
        batch.done(False, text)

    def sent(self, batch: Sealed) -> None:
        """The batch that `next` returned is on its way."""
        self._sent = batch.key
        if self._spool_read and self._spool_read[0] is batch:
            self._spool_read.popleft()
        self._flight[batch.name] = batch
        self._flight_bytes += len(batch.frame)
        self._flight_items += batch.count

    # -- what comes back ------------------------------------------------------------------

    def acknowledged(self, lineage: bytes, number: int, refused: dict[int, str]) -> None:
        """The master has a batch, but for the items that it refused for good."""
        batch = self._flight.get((lineage, number))
        if batch is None:
            return
        self._finish(batch)
        if refused:
            self._tell_refused(batch, refused)
        batch.done(True, "")

    def _tell_refused(self, batch: Sealed, refused: dict[int, str]) -> None:
        self.lost += len(refused)
        for index, text in refused.items():
            self._complaints.add("refused", f"the master refused an event: {text}")
            done = batch.dones[index] if index < len(batch.dones) else None
            if done is not None:
                batch.dones[index] = None
                done(False, text)

    def _finish(self, batch: Sealed) -> None:
        del self._flight[batch.name]
        self._flight_bytes -= len(batch.frame)
        self._flight_items -= batch.count
        if self._sealed.pop(batch.key, None) is None:
            self._removed.append(batch.key)
            if len(self._removed) >= _REMOVE_AT:
                self._flush_removed()

    def refused(self, lineage: bytes, number: int, now: float) -> None:
        """The master could not keep a batch: it goes again, later, under a new number.

        Not under the old one: the master may have taken later numbers meanwhile, and would
        take this one for a repetition.

        Args:
            lineage: of the batch.
            number: of the batch.
            now: on the client's clock.
        """
        batch = self._flight.get((lineage, number))
        if batch is None:
            return
        self._held_until = now + HOLD_SECONDS
        message = decode_up(batch.frame)
        assert isinstance(message, Batch)
        dones = batch.dones or [None] * batch.count
        batch.dones = []
        # Everything sealed is older than the new batch, and the spool comes before the sealed.
        self._spool_sealed()
        self._finish(batch)
        self._make_batch(message.items, dones)
        self._spool_sealed()

    # -- to the disk ----------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Do what time brings: write to the spool what has waited too long."""
        self._flush_removed()
        waited = self._down_since is not None and now - self._down_since >= GRACE_SECONDS
        if waited or self._queue_bytes > MAX_QUEUE_BYTES:
            self.spool_all()

    def spool_all(self) -> None:
        """Write everything in memory to the spool, and tell those who wait."""
        while self._seal():
            pass
        self._spool_sealed()

    def _spool_sealed(self) -> None:
        if not self._sealed:
            return
        batches = list(self._sealed.values())
        self._sealed.clear()
        self._flush_removed()  # what the master has is no room to be made by dropping
        dropped = self._spool.dropped
        try:
            kept = self._spool.append(batches, self._sent if self._up else _START)
            why = "the spool is full (option spool_max_size)"
        except BusError as error:
            kept, why = 0, str(error)
        self._spool_ended = False
        if self._spool.dropped > dropped:
            self._say_dropped(self._spool.dropped - dropped)
        for batch in batches[:kept]:
            batch.done(True, "spooled")
        if kept < len(batches):
            self._lose(batches[kept:], why)

    def _say_dropped(self, count: int) -> None:
        self._spool_read.clear()  # what was read ahead may be gone, and counts as gone
        self._complaints.add(
            "dropped",
            "the spool is full (options spool_max_size, spool_policy): "
            f"dropped the {count} oldest events for the master",
            count,
        )

    def _lose(self, batches: list[Sealed], why: str) -> None:
        count = sum(batch.count for batch in batches)
        self.lost += count
        log.error("%d events for the master are lost: %s", count, why)
        for batch in batches:
            batch.done(False, f"the master cannot be reached and {why}")

    def _flush_removed(self) -> None:
        if not self._removed:
            return
        keys, self._removed = self._removed, []
        try:
            self._spool.remove(keys)
        except BusError as error:
            # They will be sent again, and the master knows them by their numbers.
            log.warning("%s", error)

    def close(self) -> None:
        """Bring everything that is not acknowledged to the disk."""
        self.spool_all()
        self._flush_removed()
        self._spool.close()


def _cost(item: Item) -> int:
    return len(item.data) + len(item.name) + _ITEM_COST
