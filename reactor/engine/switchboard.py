"""Switches rules off and on while the reactor runs, and remembers it over restarts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from reactor.engine.state import State
from reactor.rules.snapshot import OWN_TAGS, Snapshot
from reactor.rules.switches import Switch, named


@dataclass(frozen=True, slots=True)
class Switched:
    """What became of one rule that was to be switched.

    Attributes:
        rule: its name.
        on: whether it is on now; one that its own file switches off is not.
        changed: whether it was not so before.
        why: why it is off, or an empty text.
    """

    rule: str
    on: bool
    changed: bool
    why: str = ""

    def describe(self) -> dict[str, Any]:
        """Return what JSON says of it."""
        state = "on" if self.on else "off"
        return {"rule": self.rule, "state": state, "changed": self.changed, "why": self.why}


class Switchboard:
    """The rules as they were loaded, less those that are switched off. In the loop's thread.

    A switch outlives its rule: a file that is away for a moment, as during a checkout, would
    otherwise come back with a rule that somebody had stopped.

    Args:
        state: where it is remembered.
        clock: seconds since 1970.
    """

    def __init__(self, state: State, clock: Callable[[], float] = time.time) -> None:
        self._state = state
        self._clock = clock
        self._off: dict[str, Switch] = {each.rule: each for each in state.switches()}
        self._loaded = Snapshot()

    @property
    def off(self) -> Mapping[str, Switch]:
        """What is switched off, by name."""
        return self._off

    @property
    def loaded(self) -> Snapshot:
        """The rules as they were loaded."""
        return self._loaded

    def use(self, loaded: Snapshot) -> Snapshot:
        """Take rules as they were loaded, and return those that are to be in force."""
        self._loaded = loaded
        return self.in_force()

    def in_force(self) -> Snapshot:
        """Return the rules that are to be in force now."""
        return self._loaded.switched(self._off)

    def switch(self, patterns: Sequence[str], user: str, *, on: bool) -> list[Switched]:
        """Switch rules on or off, all of them or none; `in_force` tells the rules from then on.

        Args:
            patterns: names and globs.
            user: who asks.
            on: what they are to be.

        Raises:
            UnknownRuleError: there is no such rule.
            ReactorError: it cannot be remembered; nothing is switched then.
            DeposedError: another reactor took over.
        """
        names = self.named(patterns, on=on)
        changed = [name for name in names if (name in self._off) is on]
        now = self._clock()
        off = [] if on else [Switch(name, user, now) for name in changed]
        self._state.write_switches(off, changed if on else ())
        if on:
            self._off = {name: each for name, each in self._off.items() if name not in changed}
        else:
            self._off = {**self._off, **{each.rule: each for each in off}}
        return [self._switched(name, changed=name in changed) for name in names]

    def named(self, patterns: Sequence[str], *, on: bool) -> list[str]:
        """Return the names that are meant; one that is switched off and gone can be switched on.

        Raises:
            UnknownRuleError: there is no such rule.
        """
        loaded = {rule.name for rule in (*self._loaded.rules, *self._loaded.disabled)}
        return named(patterns, loaded | self._off.keys() if on else loaded)

    def _switched(self, name: str, *, changed: bool) -> Switched:
        if name in self._off:
            return Switched(name, False, changed, self._off[name].why)
        if any(rule.name == name for rule in self._loaded.rules):
            return Switched(name, True, changed)
        by_file = any(rule.name == name for rule in self._loaded.disabled)
        return Switched(name, False, changed, "enabled: false" if by_file else "its file is gone")

    def event(self, switched: Switched, user: str) -> tuple[str, dict[str, Any]]:
        """Return the tag and the data of the event that tells of a change."""
        how = "enabled" if switched.rule not in self._off else "disabled"
        rules = (*self._loaded.rules, *self._loaded.disabled)
        data = {
            "rule": switched.rule,
            "user": user,
            "at": datetime.fromtimestamp(self._clock(), UTC).isoformat(),
            "sources": [str(rule.source) for rule in rules if rule.name == switched.rule],
        }
        # A rule's name may hold what a tag may not.
        name = "".join(char if char.isprintable() else "?" for char in switched.rule)
        return f"{OWN_TAGS}rule/{name}/{how}", data
