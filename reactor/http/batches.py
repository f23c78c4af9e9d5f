"""Events as streams get them: decoded and encoded once, in batches that are not large. Pure."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bus import wire
from bus.errors import WireError
from bus.feed import Numbered
from reactor.http import jsonout
from reactor.http.filters import Filter

log = logging.getLogger(__name__)

BATCH_BYTES = 64 << 10
"""Bytes of encoded events of one batch, or one event: a slow client has about this many on the
way, and so much besides what its connection holds."""

_MOST_SHARED = 4
"""Filters that a batch keeps its chunks for: what more there are is made for each stream."""

_OVERHEAD = 200
"""Bytes of an event in the ring besides its text."""


class Row(NamedTuple):
    """One event: its number, its tag, and ``{"tag": ..., "data": ...}`` as JSON."""

    seq: int
    tag: str
    json: str


@dataclass(slots=True)
class Batch:
    """Events that follow each other.

    Attributes:
        before: the number before the first one.
        last: the number of the last one.
        rows: those that could be read.
        size: bytes of them.
    """

    before: int
    last: int
    rows: list[Row]
    size: int = 0
    _chunks: dict[tuple[Any, ...], bytes] = field(default_factory=dict)

    def chunk(self, wanted: Filter, encode: Callable[[Row], str]) -> bytes:
        """Return what a stream gets of it; made once for all with the same filter and form."""
        key = (wanted, encode)
        found = self._chunks.get(key)
        if found is None:
            chosen = self.rows if wanted.is_all else [r for r in self.rows if wanted(r.tag)]
            found = "".join(map(encode, chosen)).encode()
            if len(self._chunks) < _MOST_SHARED:
                self._chunks[key] = found
        return found

    def since(self, after: int) -> Batch:
        """Return the part of it behind ``after``."""
        if after <= self.before:
            return self
        return Batch(after, self.last, [row for row in self.rows if row.seq > after])


def rows_of(events: Iterable[Numbered]) -> list[Row]:
    """Decode events; what cannot be decoded is left out."""
    rows = []
    for seq, raw in events:
        try:
            tag, data = wire.unpack_event(raw)
        except WireError as error:
            log.warning("the event %d cannot be read: %s", seq, error)
            continue
        rows.append(Row(seq, tag, jsonout.dumps({"tag": tag, "data": data})))
    return rows


def batches_of(before: int, events: Iterable[Numbered]) -> Iterator[Batch]:
    """Decode events that come behind ``before``, and yield them in batches that are not large."""
    batch = Batch(before, before, [])
    for seq, raw in events:
        batch.last = seq
        for row in rows_of([(seq, raw)]):
            batch.rows.append(row)
            batch.size += len(row.json) + _OVERHEAD
        if batch.size >= BATCH_BYTES:
            yield batch
            batch = Batch(seq, seq, [])
    if batch.last > batch.before:
        yield batch
