"""``every``, ``cron``, and ``none_of`` by itself: rules that time alone makes act.

When the time has come, an event is announced (``reactor/schedule/<rule>``), and once that is in
the journal the rule acts on it. The time it was for stands in the event, so that one which is
announced twice, because the engine was killed in between, acts once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bus.record import MINION_EVENT
from bus.tags import Matcher
from reactor.rules.memory import Table
from reactor.rules.policies import PASS, Announce, Case, Verdict, shown, stop

SCHEDULE, ABSENCE = "reactor/schedule/", "reactor/absence/"

Next = Callable[[float, float], float]
"""Returns the first time after the second argument; the first is a time of before."""

_ONLY = ""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Announces its own event at its times, and lets each pass once. The cell: the next time.

    Attributes:
        tag: of the rule's own event.
        source: the rule's file, since two files may have a rule of one name.
        next_after: the times.
        mark: see `Policy.mark`.
    """

    tag: str
    source: str
    next_after: Next
    mark: str
    name: str = "schedule"

    def judge(self, case: Case, table: Table) -> Verdict:
        """Let the rule's own event pass once, and any other as it is."""
        event = case.event
        if event.tag != self.tag:
            return PASS
        due = table.get(_ONLY)
        data = event.data
        if data.get("cmd") == MINION_EVENT or data.get("source") != self.source:
            return stop("schedule: the event is another's")
        if due is None or data.get("due") != _text(due):
            return stop(f"schedule: what was due at {data.get('due')} is done")
        following = self._following(due, data.get("missed"), case.now)
        table.put(_ONLY, following)
        return Verdict(True, f"schedule: due at {_text(due)}", following)

    def timers(self, table: Table, now: float) -> Iterable[tuple[float, str]]:
        """Return the next time; the first is counted from ``now``."""
        if table.get(_ONLY) is None:
            table.put(_ONLY, self.next_after(now, now))
        return [(table.get(_ONLY), _ONLY)]

    def ripe(self, key: str, table: Table, now: float) -> Announce | None:
        """Announce the event, once for each time."""
        due = table.get(key)
        if due is None or due > now or table.announced.get(key) == due:
            return None
        table.announced[key] = due
        return Announce(
            self.tag, {"source": self.source, "due": _text(due), "missed": self._missed(due, now)}
        )

    def _following(self, due: float, missed: Any, now: float) -> float:
        """Return the first time that the event, which may be read late, does not account for."""
        if not isinstance(missed, int) or not 0 <= missed < _MOST_COUNTED:
            return self.next_after(due, now)
        for _ in range(missed + 1):
            due = self.next_after(due, due)
        return due

    def _missed(self, due: float, now: float) -> int:
        """Return how many further times have passed: while nothing ran they were not announced."""
        missed = 0
        while missed < _MOST_COUNTED and (due := self.next_after(due, due)) <= now:
            missed += 1
        return missed


_MOST_COUNTED = 1_000


@dataclass(frozen=True, slots=True)
class Absence:
    """``none_of`` without any other pattern. The cell: until when one has to come."""

    tag: str
    source: str
    matches: tuple[Matcher, ...]
    within: float
    mark: str
    name: str = "correlate"

    def judge(self, case: Case, table: Table) -> Verdict:
        """Put the time off when one comes; pass when none came in time."""
        event, due = case.event, table.get(_ONLY)
        following = case.now + self.within
        if event.tag != self.tag:
            table.put(_ONLY, following)
            return stop(f"none_of: {event.tag} came, {shown(self.within)} left", following)
        data = event.data
        if data.get("cmd") == MINION_EVENT or data.get("source") != self.source:
            return stop("none_of: the event is another's")
        if due is None or data.get("due") != _text(due):
            return stop("none_of: one came in the meantime")
        table.put(_ONLY, following)
        return Verdict(True, f"none_of: none came within {shown(self.within)}", following)

    def timers(self, table: Table, now: float) -> Iterable[tuple[float, str]]:
        """Return until when one has to come; the first time is counted from ``now``."""
        if table.get(_ONLY) is None:
            table.put(_ONLY, now + self.within)
        return [(table.get(_ONLY), _ONLY)]

    def ripe(self, key: str, table: Table, now: float) -> Announce | None:
        """Announce that none came, once for each time."""
        due = table.get(key)
        if due is None or due > now or table.announced.get(key) == due:
            return None
        table.announced[key] = due
        return Announce(self.tag, {"source": self.source, "due": _text(due)})


def every(seconds: float) -> Next:
    """Return the times of ``every``."""
    return lambda before, after: before + seconds * (math.floor((after - before) / seconds) + 1)


def _text(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")
