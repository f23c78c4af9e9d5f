"""``all_of``, ``any_of``, ``none_of``: several events within a time, for each key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bus.tags import Matcher
from reactor.rules.memory import Table
from reactor.rules.policies import Case, Key, Ripe, Verdict, for_key, shown, stop
from reactor.rules.policies.when import Condition
from reactor.rules.wording import Later

ALL, ANY, NONE = "all_of", "any_of", "none_of"


@dataclass(frozen=True, slots=True)
class Item:
    """One of the event patterns.

    Attributes:
        name: how ``window.events`` and reasons call it.
        role: ``all_of``, ``any_of`` or ``none_of``.
        matches: says whether a tag is meant.
        conditions: what must hold besides.
        by: works out the key.
    """

    name: str
    role: str
    matches: Matcher
    conditions: tuple[Condition, ...]
    by: Key

    def wants(self, case: Case) -> bool:
        """Say whether the event is one of these."""
        return self.matches(case.event.tag) and all(
            condition.holds(case.values) for condition in self.conditions
        )


@dataclass(frozen=True, slots=True)
class Correlate:
    """A window for each key, which its first event opens.

    The cell: when it ends, when it was opened, and the number of the newest event of each item.
    Without ``none_of`` the window acts as soon as it is complete; with it, at its end, unless
    one of those came.
    """

    items: tuple[Item, ...]
    within: float
    mark: str
    name: str = "correlate"

    @property
    def _waits(self) -> bool:
        return any(item.role == NONE for item in self.items)

    def judge(self, case: Case, table: Table) -> Verdict:
        """Note the event in the windows of its keys."""
        wanted = [(item, item.by(case.values)) for item in self.items if item.wants(case)]
        if not wanted:
            return stop(f"{self.items[0].role}: a condition of its pattern does not hold")
        ended = {key for item, key in wanted if item.role == NONE and table.get(key) is not None}
        for key in ended:
            table.drop(key)
        opening = [(item, key) for item, key in wanted if item.role != NONE]
        if not opening:
            item, key = wanted[0]
            came = "ended the window" if ended else "came, and no window was open"
            return stop(f"none_of: {item.name} {came}{for_key(key)}", key=key)
        passing: Verdict | None = None
        said: list[Verdict] = []
        # A window without a key goes first: only who passes at once may have the rule's own name.
        for key in sorted(dict.fromkeys(key for _, key in opening), key=bool):
            seen = [item.name for item, its_key in opening if its_key == key]
            said.append(self._note(case, key, seen, table, taken=passing is not None))
            passing = said[-1] if said[-1].passes else passing
        dues = tuple((one.due, one.key) for one in said if one.due is not None)
        return (passing or said[-1])._replace(due=None, others=dues)

    def _note(self, case: Case, key: str, seen: list[str], table: Table, *, taken: bool) -> Verdict:
        due, opened, events = table.get(key) or (0.0, 0.0, {})
        is_new = due <= case.now
        if is_new:
            due, opened, events = case.now + self.within, case.now, {}
        events = {**events, **dict.fromkeys(seen, case.event.seq)}
        missing = self._missing(events)
        if missing:
            table.put(key, (due, opened, events))
            why = Later(_incomplete, *missing, due - case.now, key)
            return stop(why, due if is_new else None, key)
        if self._waits or taken:
            # One event can complete the windows of several keys: the others' turns come at once.
            due = case.now if taken else due
            table.put(key, (due, opened, events))
            return stop(Later(_waits, due - case.now, key), due, key)
        table.drop(key)
        case.window |= _window(key, opened, events)
        return Verdict(True, Later(_complete, case.now - opened, key), key=key)

    def _missing(self, events: Mapping[str, int]) -> tuple[str, str] | None:
        for item in self.items:
            if item.role == ALL and item.name not in events:
                return ALL, item.name
        any_of = [item.name for item in self.items if item.role == ANY]
        if any_of and not any(name in events for name in any_of):
            return ANY, " or ".join(any_of)
        return None

    def timers(self, table: Table, now: float) -> Iterable[tuple[float, str]]:  # noqa: ARG002
        """Return the ends of all windows."""
        return [(cell[0], key) for key, cell in table.items()]

    def ripe(self, key: str, table: Table, now: float) -> Ripe | None:
        """End a window: act if it is complete, else forget it."""
        cell = table.get(key)
        if cell is None or cell[0] > now:
            return None
        table.drop(key)
        _, opened, events = cell
        if self._missing(events):
            return None
        names = ", ".join(item.name for item in self.items if item.role == NONE)
        said = f"none_of: {names} did not come" if names else "complete"
        why = f"{said} within {shown(self.within)}{for_key(key)}"
        return Ripe(max(events.values()), _window(key, opened, events), why)


def _incomplete(role: str, name: str, left: float, key: str) -> str:
    return f"{role}: {name} has not come, {shown(left)} left{for_key(key)}"


def _waits(left: float, key: str) -> str:
    return f"{NONE}: waits {shown(left)} for what must not come{for_key(key)}"


def _complete(within: float, key: str) -> str:
    return f"complete within {shown(within)}{for_key(key)}"


def _window(key: str, opened: float, events: Mapping[str, int]) -> dict[str, Any]:
    return {"key": key, "count": len(events), "first": opened, "events": dict(events)}
