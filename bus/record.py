"""The event as a listener gets it: frozen, decoded, with its place in the journal."""

from __future__ import annotations

from typing import Any, NamedTuple

from bus import wire

MINION_EVENT = "_minion_event"
"""The ``cmd`` of what ``event.send`` brings to the master: the user's data is one level down."""


CAUSE = "_cause"
"""The key in an event's data that says which reaction fired it."""

_OURS = frozenset({wire.STAMP, CAUSE})


class Event(NamedTuple):
    """One event of a bus. A named tuple: what is made for every event heard has to be cheap.

    Attributes:
        tag: what it is about, such as ``salt/job/20261122093000123456/ret/web1``.
        data: its data as Salt shapes it, ``_stamp`` included.
        seq: its number on its bus, from 1, without gaps.
        bus_id: which bus (and, without a journal, which run of it) counted ``seq``.
    """

    tag: str
    data: dict[str, Any]
    seq: int
    bus_id: str = ""

    @property
    def payload(self) -> dict[str, Any]:
        """What the user gave to ``fire`` or ``send``, whatever shape Salt put around it."""
        if self.data.get("cmd") == MINION_EVENT and isinstance(self.data.get("data"), dict):
            source: dict[str, Any] = self.data["data"]
        else:
            source = self.data
        return {key: value for key, value in source.items() if key not in _OURS}

    @property
    def stamp(self) -> str:
        """When it was fired: ISO 8601, UTC."""
        return str(self.data.get(wire.STAMP, ""))

    @property
    def id(self) -> str:
        """A name for this event that is unique among all buses: the bus and the number."""
        return f"{self.bus_id}-{self.seq}"

    @classmethod
    def from_wire(cls, raw: bytes, seq: int, bus_id: str = "") -> Event:
        """Decode an event.

        Raises:
            WireError: ``raw`` is no event.
        """
        tag, data = wire.unpack_event(raw)
        return cls(tag, data, seq, bus_id)

    @classmethod
    def from_parts(cls, tag: str, body: bytes, seq: int, bus_id: str) -> Event:
        """Decode an event that was taken apart by `bus.wire.parts_of`.

        Raises:
            WireError: ``body`` is no event's data.
        """
        # Half of what the constructor of a named tuple costs.
        return tuple.__new__(cls, (tag, wire.unpack_data(tag, body), seq, bus_id))
