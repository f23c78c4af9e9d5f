"""What is in a journal: how much, from when to when, and of what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from bus import wire
from bus.errors import JournalError
from bus.journal import segments
from bus.journal.reader import JournalReader

SAMPLE = 20_000
"""Events whose tags are looked at; of a larger journal, so many at equal distances."""

WORDS = 2


@dataclass(frozen=True, slots=True)
class Stats:
    """What is in a journal.

    Attributes:
        events: how many it has.
        first_seq: the number of the oldest event, or of the next one if there is none.
        last_seq: the number of the newest event, or 0.
        first_at: when the oldest was journaled, None if there is none.
        last_at: when the newest was.
        files: how many there are.
        size: their bytes.
        tags: events by the first two words of their tags, most frequent first.
        is_sampled: ``tags`` are estimates.
    """

    events: int
    first_seq: int
    last_seq: int
    first_at: datetime | None
    last_at: datetime | None
    files: int
    size: int
    tags: dict[str, int]
    is_sampled: bool


def stats(reader: JournalReader, top: int = 20, sample: int = SAMPLE) -> Stats:
    """Look through a journal.

    Args:
        reader: of the journal.
        top: how many tags to name.
        sample: how many events to look at for them.

    Raises:
        JournalError: it cannot be read.
    """
    first, last = reader.first_seq(), reader.last_seq()
    events = max(0, last - first + 1)
    step = max(1, -(-events // sample))
    counted = Counter(_words(raw) for raw in _every(reader, first, last, step))
    sizes = _sizes(reader)
    return Stats(
        events=events,
        first_seq=first,
        last_seq=last,
        first_at=reader.journaled_at(first),
        last_at=reader.journaled_at(last),
        files=len(sizes),
        size=sum(sizes),
        tags={tag: min(events, count * step) for tag, count in counted.most_common(top)},
        is_sampled=step > 1,
    )


def _words(raw: bytes) -> str:
    return "/".join(wire.tag_of(raw).split("/")[:WORDS])


def _every(reader: JournalReader, first: int, last: int, step: int) -> Iterator[bytes]:
    """Yield every ``step``-th event."""
    if step == 1:
        yield from (raw for _, raw in reader.scan(first - 1, last))
        return
    for seq in range(first, last + 1, step):
        yield from (raw for _, raw in reader.read(seq - 1, 1, seq))


def _sizes(reader: JournalReader) -> list[int]:
    """Return the bytes of each file; what SQLite keeps beside it belongs to it."""
    try:
        files = list(reader.path.iterdir())
        return [
            sum(file.stat().st_size for file in files if file.name.startswith(f"{first:020d}.db"))
            for first in segments.first_seqs(reader.path)
        ]
    except OSError as error:
        raise JournalError(f"cannot read the journal {reader.path}: {error.strerror}") from error
