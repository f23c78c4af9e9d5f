"""The durable journal: every event of a master's bus, numbered without gaps.

One process writes (the broker), any number read. The journal is a directory of segments; see
`bus.journal.segments` for what they are, and docs/explanation/journal.md for what it survives.
"""

from __future__ import annotations

from bus.journal.reader import JournalReader
from bus.journal.retention import Retention
from bus.journal.segments import journal_path, microseconds
from bus.journal.writer import Journal

__all__ = ["Journal", "JournalReader", "Retention", "journal_path", "microseconds"]
