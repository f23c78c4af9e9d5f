"""Events of before, by their numbers: what rules waited upon, read from the journal again."""

from __future__ import annotations

import logging

from bus.errors import BusError
from bus.journal import JournalReader, journal_path
from bus.record import Event

log = logging.getLogger(__name__)


class Recalling:
    """Reads single events; the journal is opened for the first of them.

    Args:
        state_dir: where the journal is.
    """

    def __init__(self, state_dir: str) -> None:
        self._state_dir = state_dir
        self._journal: JournalReader | None = None

    def event(self, seq: int) -> Event | None:
        """Return an event, or None if it is not kept any more."""
        try:
            if self._journal is None:
                self._journal = JournalReader(journal_path(self._state_dir))
            rows = self._journal.read(seq - 1, 1, seq)
            return Event.from_wire(rows[0][1], seq, self._journal.bus_id) if rows else None
        except BusError as error:
            log.warning("the event %d cannot be read again: %s", seq, error)
            self.close()
            return None

    def close(self) -> None:
        """Close the journal; the next event opens it again."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None
