"""Looking for what is wrong in a journal, and saving what is whole in its damaged files."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bus.errors import AlreadyRunningError, JournalError
from bus.journal import segments
from bus.journal.salvage import Salvaged, events_of, is_event, salvage, skipped_in
from bus.lock import DirectoryLock

OnProgress = Callable[[int], None]
"""Told now and then how many events were looked at."""

_FIRES = "SELECT first_seq, count, body FROM fires ORDER BY first_seq"
_TELL_EVERY = 1000


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in a journal that is not as it was written.

    Attributes:
        file: the segment.
        what: what was found, with the numbers of the events.
        is_damage: it can be repaired or has to be looked at; else it is what an earlier repair
            could not bring back.
        in_file: the file itself is damaged, so salvage may help.
    """

    file: Path
    what: str
    is_damage: bool = True
    in_file: bool = True

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


def check(path: Path, progress: OnProgress = lambda _: None) -> Iterator[Finding]:
    """Yield what is wrong in a journal; a bus may be writing it.

    Each file is checked by SQLite, each event is taken apart, and the numbers have to follow
    each other within the files and from one to the next.

    Args:
        path: the journal's directory.
        progress: told how many events were looked at.

    Raises:
        JournalError: there is no journal.
    """
    firsts = segments.first_seqs(path)
    if not firsts:
        raise JournalError(f"there is no journal in {path} yet: has the master run here?")
    examined = 0
    for place, first in enumerate(firsts):
        file = segments.segment_file(path, first)
        upto = firsts[place + 1] - 1 if place + 1 < len(firsts) else None
        segment = _Segment(file, first, upto, _adding(examined, progress))
        try:
            yield from segment.check()
        except (sqlite3.Error, OSError) as error:
            if file.exists():  # else retention took it away
                yield Finding(file, f"it cannot be read: {error}")
        examined += segment.examined
    progress(examined)


def repair(state_dir: Path) -> Iterator[Salvaged | Finding]:
    """Save what is whole in the damaged files of a journal; yield what was done, or cannot be.

    Raises:
        AlreadyRunningError: the bus is running.
        JournalError: there is no journal.
    """
    path = segments.journal_path(state_dir)
    firsts = segments.first_seqs(path)
    try:
        lock = DirectoryLock(state_dir / "journal.lock")
    except AlreadyRunningError as error:
        raise AlreadyRunningError(
            f"the bus is running and writes {path}: stop it, then repair the journal"
        ) from error
    try:
        findings = [finding for finding in check(path) if finding.is_damage]
        damaged = {finding.file for finding in findings if finding.in_file}
        for first in firsts:
            file = segments.segment_file(path, first)
            if file in damaged:
                yield salvage(file, segments.meta(_bus_id(path)), _end_of(firsts, first))
        yield from (finding for finding in findings if not finding.in_file)
    finally:
        lock.release()


def _adding(base: int, progress: OnProgress) -> OnProgress:
    return lambda count: progress(base + count)


def _end_of(firsts: list[int], first: int) -> int | None:
    place = firsts.index(first)
    return firsts[place + 1] - 1 if place + 1 < len(firsts) else None


def _bus_id(path: Path) -> str:
    """Return the name of the journal's numbering as the newest file that can be read has it."""
    found = segments.known_bus_id(path)
    if found is None:
        raise JournalError(
            f"no file in {path} says which journal it is: move the directory away to start a new "
            "one"
        )
    return found


class _Segment:
    """One file while it is looked at.

    Args:
        file: the segment.
        first: the number that it begins with.
        upto: the number before the next file, or None for the one that is written now.
        progress: told how many events were looked at in it.
    """

    def __init__(self, file: Path, first: int, upto: int | None, progress: OnProgress) -> None:
        self.file = file
        self.examined = 0
        self._first = first
        self._wanted = first
        self._upto = upto
        self._progress = progress
        self._skipped: list[tuple[int, int]] = []

    def check(self) -> Iterator[Finding]:
        """Yield what is wrong.

        Raises:
            sqlite3.Error: it cannot be read any further.
        """
        with contextlib.closing(segments.open_reader(self.file)) as db:
            found = db.execute("PRAGMA quick_check(1)").fetchone()
            if found != ("ok",):
                yield Finding(self.file, f"SQLite says: {' '.join(str(found[0]).split())}")
            self._skipped = skipped_in(db)
            for first, last in self._skipped:
                what = f"{_numbers(first, last)} could not be saved when it was repaired"
                yield Finding(self.file, what, is_damage=False)
            for first, count, body in db.execute(_FIRES):
                yield from self._check_fire(first, count, body)
            yield from self._check_end()

    def _check_fire(self, first: int, count: int, body: object) -> Iterator[Finding]:
        if first > self._wanted:
            yield from self._missing(self._wanted, first - 1)
        elif first < self._wanted:
            what = f"the numbers from {first} on are there twice"
            yield Finding(self.file, what, in_file=False)
        self._wanted = max(self._wanted, first + count)
        events = events_of(body, count)
        if events is None:
            yield Finding(self.file, f"{_numbers(first, first + count - 1)} cannot be read")
        for seq, event in enumerate(events or (), first):
            if not is_event(event):
                yield Finding(self.file, f"{_numbers(seq, seq)} cannot be read")
        self._count(count)

    def _check_end(self) -> Iterator[Finding]:
        if self._upto is None:
            return
        if self._wanted <= self._upto:
            yield from self._missing(self._wanted, self._upto, in_file=False)
        elif self._wanted > self._upto + 1:
            what = f"the next file has the numbers {self._upto + 1} to {self._wanted - 1} too"
            yield Finding(self.file, what, in_file=False)

    def _missing(self, first: int, last: int, *, in_file: bool = True) -> Iterator[Finding]:
        """Yield what is missing, save what the file itself says of it."""
        for known_first, known_last in self._skipped:
            if known_first <= first <= known_last:
                first = known_last + 1
        if first <= last:
            is_one = "is" if first == last else "are"
            yield Finding(self.file, f"{_numbers(first, last)} {is_one} missing", in_file=in_file)

    def _count(self, events: int) -> None:
        before = self.examined // _TELL_EVERY
        self.examined += events
        if self.examined // _TELL_EVERY > before:
            self._progress(self.examined)


def _numbers(first: int, last: int) -> str:
    return f"the event {first}" if first == last else f"the events {first} to {last}"
