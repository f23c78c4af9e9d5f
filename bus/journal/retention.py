"""Which segments may go: a policy over numbers, without files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """What retention needs to know of a segment.

    Attributes:
        first_seq: the number of its first event.
        size: its bytes.
        newest_at: when its last event was journaled, in microseconds since 1970.
    """

    first_seq: int
    size: int
    newest_at: int


@dataclass(frozen=True, slots=True)
class Retention:
    """How much is kept.

    Attributes:
        keep: seconds; 0 keeps for ever. Option ``journal_keep``.
        max_size: bytes of the whole journal; 0 for no limit. Option ``journal_max_size``.
        segment_size: bytes after which a new segment begins.
    """

    keep: float = 0.0
    max_size: int = 0
    segment_size: int = 64 << 20

    def must_rotate(self, size: int, oldest_at: int, now: int) -> bool:
        """Say whether a new segment has to begin.

        Args:
            size: bytes of the present one.
            oldest_at: when its first event was journaled, or 0 if it has none.
            now: microseconds since 1970.
        """
        limit = min(self.segment_size, self.max_size // 4) if self.max_size else self.segment_size
        # Only whole segments go, so one must not span much of the time that is kept.
        is_old = bool(self.keep and oldest_at) and now - oldest_at > self.keep * 1_000_000 / 8
        return size >= limit or is_old

    def expired(self, segments: Sequence[SegmentInfo], size: int, now: int) -> list[SegmentInfo]:
        """Return the segments that may go, oldest first.

        Args:
            segments: those that are no longer written, oldest first.
            size: bytes of the one that is.
            now: microseconds since 1970.
        """
        total = size + sum(segment.size for segment in segments)
        gone = []
        for segment in segments:
            too_old = self.keep and now - segment.newest_at > self.keep * 1_000_000
            too_much = self.max_size and total > self.max_size
            if not (too_old or too_much):
                break
            gone.append(segment)
            total -= segment.size
        return gone
