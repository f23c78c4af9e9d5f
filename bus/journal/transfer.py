"""A journal as JSON lines and back: export, and an import that counts once."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any

from bus import jsonform, wire
from bus.errors import BusError, DataError
from bus.journal.reader import JournalReader
from bus.publisher import Publisher
from bus.tags import Matcher

_PAGE = 64
"""Events read at once: a bounded number, since each may be a MiB."""

# A producer's numbers must mean the same events whenever a file is imported, so these stay as
# they are, or the version in the producer's name changes with them.
_BATCH_EVENTS = 200
_BATCH_BYTES = 200_000
_PRODUCER = b"import/1/"

_WINDOW = 16
"""Fires on the way at once."""

OnProgress = Callable[[int], None]
"""Told how many events are done."""


def export_lines(
    reader: JournalReader,
    matches: Matcher,
    after: int = 0,
    upto: int | None = None,
    progress: OnProgress = lambda _: None,
) -> Iterator[str]:
    """Yield events as lines of JSON: ``seq``, ``at`` (when it was journaled), ``tag``, ``data``.

    Args:
        reader: of the journal.
        matches: which tags.
        after: the number before the first event.
        upto: the number of the last one, by default the newest at the call.
        progress: told how many events were looked at.

    Raises:
        JournalError: the journal cannot be read.
    """
    last = reader.last_seq() if upto is None else min(upto, reader.last_seq())
    times = _Times(reader)
    examined = 0
    while after < last and (page := reader.read(after, _PAGE, last)):
        for seq, raw in page:
            if matches(wire.tag_of(raw)):
                yield _line(seq, times.of(seq), raw)
        after = page[-1][0]
        examined += len(page)
        progress(examined)


def _line(seq: int, at: str, raw: bytes) -> str:
    tag, data = wire.unpack_event(raw)
    head = json.dumps({"seq": seq, "at": at, "tag": tag}, ensure_ascii=False)
    return f'{head[:-1]}, "data": {jsonform.dumps(data)}}}\n'


class _Times:
    """When events were journaled, asked of the journal once a fire."""

    def __init__(self, reader: JournalReader) -> None:
        self._reader = reader
        self._beyond = 0
        self._text = ""

    def of(self, seq: int) -> str:
        if seq >= self._beyond:
            fire = self._reader.fire_of(seq)
            if fire is None:  # retention took it away since it was read
                return self._text
            first, count, at = fire
            self._beyond = first + count
            self._text = wire.stamp(datetime.fromtimestamp(at / 1_000_000, UTC))
        return self._text


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of an import.

    Attributes:
        events: how many the file has.
        fresh: how many of them are new on the bus.
    """

    events: int
    fresh: int


def producer_of(file: IO[bytes]) -> bytes:
    """Return the name under which a file is imported: what is in it decides."""
    file.seek(0)
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    file.seek(0)
    return _PRODUCER + digest.hexdigest().encode()


def import_lines(
    lines: Iterable[bytes],
    publisher: Publisher,
    last_seq: int,
    *,
    name: str,
    max_event_size: int,
    timeout: float = 10.0,
    progress: OnProgress = lambda _: None,
) -> Imported:
    """Fire exported events, pipelined, with their own data and time stamps.

    With a publisher of the name that `producer_of` gives, what came in before an interruption is
    not taken again.

    Args:
        lines: as `export_lines` writes them.
        publisher: a new one.
        last_seq: the number of the newest event on the bus now.
        name: of the file, for errors.
        max_event_size: the limit of an event in bytes.
        timeout: seconds without progress after which to give up.
        progress: told how many events are on the bus.

    Raises:
        DataError: a line is no exported event.
        BusError: the bus refused some; those before are kept.
    """
    sending = _Sending(publisher, last_seq, timeout, progress)
    try:
        for batch in _batches(_events(lines, name, max_event_size)):
            sending.push(batch)
        sending.finish()
    finally:
        sending.abandon()
    return Imported(sending.done, sending.fresh)


def check_lines(lines: Iterable[bytes], *, name: str, max_event_size: int) -> int:
    """Return how many events there are, if all of them can be imported.

    Raises:
        DataError: a line is no exported event.
    """
    return sum(1 for _ in _events(lines, name, max_event_size))


def _events(lines: Iterable[bytes], name: str, max_event_size: int) -> Iterator[bytes]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield _event(line, max_event_size)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{name}:{number}: no exported event: {error}") from error


def _event(line: bytes, max_event_size: int) -> bytes:
    value: Any = json.loads(line)
    if not isinstance(value, dict) or "tag" not in value or "data" not in value:
        raise DataError("it needs 'tag' and 'data'")
    return wire.pack_event(value["tag"], jsonform.decode(value["data"]), max_event_size)


def _batches(events: Iterable[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for event in events:
        if batch and (len(batch) >= _BATCH_EVENTS or size + len(event) > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(event)
        size += len(event)
    if batch:
        yield batch


class _Sending:
    """What an import has on the way."""

    def __init__(
        self, publisher: Publisher, last_seq: int, timeout: float, progress: OnProgress
    ) -> None:
        self._publisher = publisher
        self._last_seq = last_seq
        self._timeout = timeout
        self._progress = progress
        self._open: OrderedDict[int, tuple[bytes, int]] = OrderedDict()
        self._sent = 0
        self._error: BusError | None = None
        self.done = 0
        self.fresh = 0

    def push(self, batch: list[bytes]) -> None:
        self._wait_below(_WINDOW)
        self._sent += 1
        place, count = self._sent, len(batch)
        self._open[place] = self._publisher.send(
            batch, on_done=lambda seq, error: self._answered(place, count, seq, error)
        )

    def finish(self) -> None:
        self._wait_below(1)

    def abandon(self) -> None:
        while self._open:
            self._publisher.abandon(*self._open.popitem()[1])

    def _wait_below(self, limit: int) -> None:
        while len(self._open) >= limit:
            before = len(self._open)
            went_on = self._publisher.wait(lambda: len(self._open) < before, self._timeout)  # noqa: B023 - called before the next turn
            if self._error:
                raise self._error
            if not went_on:
                raise BusError(
                    f"the bus took {self.done} events and then none for {self._timeout:g} s: "
                    "import the same file again once it answers, and it goes on from there"
                )

    def _answered(self, place: int, count: int, seq: int | None, error: BusError | None) -> None:
        self._open.pop(place, None)
        if error:
            # Later fires must not be kept in spite of it: a repeated import would skip this one.
            self.abandon()
            self._error = error
            return
        self.done += count
        # A fire that was kept before is acknowledged with its old number, or with none.
        self.fresh += count if seq and seq > self._last_seq else 0
        self._progress(self.done)
