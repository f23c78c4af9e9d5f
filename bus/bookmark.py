"""A listener's side of a named cursor: how far it is, and when the master is told."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Protocol

from bus.errors import BusError

log = logging.getLogger(__name__)

SAVE_EVERY = 1000
"""Events after which a busy listener's place is saved: the most that come again after a kill."""


class Asks(Protocol):
    """Asks the bus; `bus.rpc.Connection` is one."""

    def call(self, method: str, params: Mapping[str, Any] | None = None) -> Any:
        """Ask and return the answer."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


class Bookmark:
    """A named cursor while one listener goes on from it.

    Args:
        bus: where the cursor is kept.
        name: the cursor's name.
    """

    def __init__(self, bus: Asks, name: str) -> None:
        self.name = name
        self._bus = bus
        self._saved = ("", -1)
        self._done = ("", -1)

    def find(self, bus_id: str) -> int | None:
        """Return the number of the last event that is done, or None if the cursor is new.

        Raises:
            NotRunningError: no bus answers.
        """
        place = self._bus.call("cursors.get", {"name": self.name})
        if place is None:
            return None
        if place["bus_id"] != bus_id:
            log.warning(
                "the cursor %s belongs to another journal: reading this one from its start",
                self.name,
            )
            return 0
        self._saved = self._done = (bus_id, int(place["seq"]))
        return int(place["seq"])

    def done(self, bus_id: str, seq: int) -> None:
        """Take note that all is done up to ``seq``; save it if it is much."""
        self._done = (bus_id, seq)
        saved_bus, saved = self._saved
        if saved_bus != bus_id or seq - saved >= SAVE_EVERY:
            self.try_to_save()

    def try_to_save(self) -> None:
        """Save what is done; if that fails it is said, and tried again with the next event."""
        try:
            self.save()
        except BusError as error:
            log.warning("the cursor %s could not be saved: %s", self.name, error)

    def save(self) -> None:
        """Save what is done.

        Raises:
            NotRunningError: no bus answers.
            BusError: the bus could not keep it.
        """
        if self._done == self._saved:
            return
        bus_id, seq = self._done
        self._bus.call(
            "cursors.set", {"name": self.name, "bus_id": bus_id, "seq": seq, "only_forward": True}
        )
        self._saved = self._done

    def put_back(self, bus_id: str, seq: int) -> None:
        """Save that all is done up to ``seq`` only, though more was said to be.

        Raises:
            NotRunningError: no bus answers.
            BusError: the bus could not keep it.
        """
        self._bus.call("cursors.set", {"name": self.name, "bus_id": bus_id, "seq": seq})
        self._done = self._saved = (bus_id, seq)

    def close(self) -> None:
        """Let go of the connection."""
        self._bus.close()
