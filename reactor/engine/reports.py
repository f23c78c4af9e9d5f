"""The events ``reactor/reaction/<rule>/...``: how they are called, and what they prove."""

from __future__ import annotations

import contextlib

from bus.errors import WireError
from bus.journal import JournalReader
from bus.record import Event

_PREFIX = "reactor/reaction/"


def report_tag(rule: str, how: str) -> str:
    """Return the tag of a report; a rule's name may hold what a tag may not."""
    name = rule
    if not rule.isprintable():
        name = "".join(char if char.isprintable() else "?" for char in rule)
    return f"{_PREFIX}{name}/{how}"


def reported_since(journal: JournalReader, seq: int) -> frozenset[str]:
    """Return the ids of the reactions that the journal says are over, from a number on."""
    prefix = _PREFIX.encode()
    found = set()
    for number, raw in journal.scan(seq):
        if raw.startswith(prefix):
            with contextlib.suppress(WireError):
                found.add(Event.from_wire(raw, number).data.get("id", ""))
    return frozenset(found)
