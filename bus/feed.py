"""The events of a bus in order, from any point on: live ones, and from the journal the rest."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable

from bus.errors import BusError
from bus.journal import JournalReader
from bus.listener import Heard, Listener
from bus.sockets import Socket

log = logging.getLogger(__name__)

PAGE = 1000
"""Events read from the journal, or taken from the socket, at once."""

LOOK_AFTER = 0.1
"""Seconds between two looks at the journal's end while nothing is heard: what was lost last shows
no gap, since nothing comes after it."""

MAX_GAPS = 1000
"""Gaps that are remembered; the oldest is forgotten first."""

Numbered = tuple[int, bytes]
"""A sequence number and an event as it goes over the wire."""

Gap = tuple[int, int]
"""The numbers of the first and the last event that were lost together."""

OnGap = Callable[[int, int], None]
"""Told the first and the last number of what was lost."""


class Feed(ABC):
    """Gives out what is heard, in order.

    Args:
        listener: hears what is new.
        timeout: seconds to wait for the bus.
        on_gap: told of each gap.

    Attributes:
        after: the number of the last event that was given out, or is not wanted.
        lost: how many events could not be had again.
        gaps: their numbers, the newest `MAX_GAPS` ranges.

    Raises:
        NotRunningError: no bus answers; the listener is closed then.
    """

    def __init__(
        self, listener: Listener, timeout: float = 1.0, *, on_gap: OnGap | None = None
    ) -> None:
        self._listener = listener
        self._on_gap = on_gap
        self._ready: deque[Numbered] = deque()
        self.lost = 0
        self.gaps: deque[Gap] = deque(maxlen=MAX_GAPS)
        try:
            self.after = listener.wait_ready(timeout)
        except BusError:
            self.close()
            raise
        self._last = self.after
        self._bus_id = listener.bus_id

    @property
    def socket(self) -> Socket | int:
        """What to poll, if `behind` is false; see also `Listener.socket`."""
        return self._listener.socket

    @property
    def bus_id(self) -> str:
        """Which numbering the events have."""
        return self._listener.bus_id

    @property
    def upto(self) -> int:
        """The number of the newest event that is known of."""
        return self._last

    @property
    def behind(self) -> bool:
        """Whether there is more to take without waiting for the socket."""
        return bool(self._ready) or self._listener.has_read

    def wait(self, seconds: float) -> None:
        """Wait until there may be something to take, at most so long."""
        self._listener.wait(seconds)

    def start_after(self, seq: int) -> None:
        """Begin with the event after ``seq``."""
        self.after = self._last = seq
        self._ready.clear()

    @abstractmethod
    def take(self, limit: int = PAGE, *, drain: bool = True) -> deque[Numbered]:
        """Return the next events, at most ``limit``, without waiting.

        Args:
            limit: how many.
            drain: read all that waits in the socket, not only what came together: to look for
                more costs as much as to read one, which is long for who waits for that one.

        Raises:
            JournalError: the journal cannot be read.
        """

    def close(self) -> None:
        """Stop hearing."""
        self._listener.close()

    def _give_out(self, limit: int) -> deque[Numbered]:
        if len(self._ready) <= limit:
            batch, self._ready = self._ready, deque()
        else:
            batch = deque(self._ready.popleft() for _ in range(limit))
        if batch and batch[-1][0] > self.after:
            self.after = batch[-1][0]
        return batch

    def _lose(self, first: int, last: int) -> None:
        self.lost += last - first + 1
        self.gaps.append((first, last))
        if self._on_gap:
            self._on_gap(first, last)


class LiveFeed(Feed):
    """What a listener hears from now on; what it loses is counted.

    Args:
        listener: hears all tags, or those that are wanted.
        timeout: seconds to wait for the bus.
        hears_all: the listener hears all tags, so that gaps are known by their numbers.
        on_gap: told of each gap.
    """

    def __init__(
        self,
        listener: Listener,
        timeout: float = 1.0,
        *,
        hears_all: bool = False,
        on_gap: OnGap | None = None,
    ) -> None:
        super().__init__(listener, timeout, on_gap=on_gap)
        self._hears_all = hears_all
        self._renumbered = False

    def take(self, limit: int = PAGE, *, drain: bool = True) -> deque[Numbered]:
        """See `Feed.take`."""
        while len(self._ready) < PAGE:
            if self._ready and not drain:
                break
            heard = self._listener.read()
            if heard is None:
                break
            self._take(heard)
        batch = self._give_out(limit)
        if not self._ready and self._last > self.after:
            self.after = self._last
        return batch

    def _take(self, heard: Heard) -> None:
        if heard.bus_id != self._bus_id:
            self._follow_bus(heard)
        if self._hears_all:
            self._look_for_gap(heard)
        if heard.events:
            self._ready.extend(zip(heard.numbers, heard.events, strict=True))
            self._last = max(self._last, heard.seq)
        if heard.lost:
            # Which ones is not known: the numbers in between belong to others too.
            self.lost += heard.lost
            log.warning("%d events lost: this listener was too slow", heard.lost)

    def _look_for_gap(self, heard: Heard) -> None:
        before = heard.before
        if heard.events and before < self._last:
            self._renumbered, self._last = True, 0
        if before > self._last:
            self._lose(self._last + 1, before)
            self._last = before

    def _follow_bus(self, heard: Heard) -> None:
        """Begin at the start of a bus that counts anew."""
        self._bus_id = heard.bus_id
        # Events may have come before the mark that names their bus: they are not lost.
        self._last = self._last if self._renumbered else 0
        self.after = self._last
        self._renumbered = False


class JournalFeed(Feed):
    """Everything that a bus publishes: each gap in the numbers is filled from the journal.

    Args:
        listener: hears all tags: a gap in the numbers is then exactly what was lost.
        journal: where older and lost events are; closed with the feed.
        timeout: seconds to wait for the bus.
        on_gap: told of what the journal no longer has.
    """

    def __init__(
        self,
        listener: Listener,
        journal: JournalReader,
        timeout: float = 1.0,
        *,
        on_gap: OnGap | None = None,
    ) -> None:
        self._journal = journal
        super().__init__(listener, timeout, on_gap=on_gap)
        self._upto = self.after
        self._looked_at = time.monotonic()

    @property
    def upto(self) -> int:
        """See `Feed.upto`."""
        return max(self._upto, self._last)

    @property
    def behind(self) -> bool:
        """See `Feed.behind`."""
        return super().behind or self._is_lagging()

    def take(self, limit: int = PAGE, *, drain: bool = True) -> deque[Numbered]:
        """See `Feed.take`."""
        if not self._ready:
            self._fill(drain)
        return self._give_out(limit)

    def close(self) -> None:
        """See `Feed.close`."""
        super().close()
        self._journal.close()

    def _is_lagging(self) -> bool:
        return self._last < self._upto

    def _fill(self, drain: bool) -> None:
        while not self._is_lagging() and len(self._ready) < PAGE:
            heard = self._listener.read()
            if heard is None:
                break
            self._take(heard)
            if self._ready and not drain:
                break
        if not self._ready and not self._is_lagging():
            self._look_at_the_end()
        if not self._ready and self._is_lagging():
            self._read_journal()

    def _look_at_the_end(self) -> None:
        now = time.monotonic()
        if now - self._looked_at >= LOOK_AFTER:
            self._looked_at = now
            self._upto = max(self._upto, self._journal.last_seq())

    def _follow_bus(self, heard: Heard) -> None:
        """Begin at the start of a bus with a new journal."""
        self._bus_id = heard.bus_id
        log.warning("the bus has another journal than before: reading it from its start")
        journal = JournalReader(self._journal.path)
        self._journal.close()
        self._journal = journal
        dropped = list(self._ready)
        self._ready.clear()
        self._last = self._upto = self.after = 0
        if dropped:
            self._lose(dropped[0][0], dropped[-1][0])

    def _take(self, heard: Heard) -> None:
        if heard.bus_id != self._bus_id:
            self._follow_bus(heard)
        if heard.before <= self._last < heard.seq and heard.events:
            # Some of them may have come from the journal before.
            known = self._last - heard.before
            self._ready.extend(zip(heard.numbers[known:], heard.events[known:], strict=True))
            self._last = heard.seq
        elif heard.seq > self._last:
            self._upto = max(self._upto, heard.seq)

    def _read_journal(self) -> None:
        page = self._journal.read(self._last, PAGE, self._upto)
        if not page:
            # Retention took the rest away: it is counted, and not awaited for ever.
            expected, self._last = self._last + 1, self._upto
            self.after = self._upto
            self._lose(expected, self._upto)
            return
        expected, self._last = self._last + 1, page[-1][0]
        self._ready.extend(page)
        if page[0][0] > expected:
            self._lose(expected, page[0][0] - 1)
