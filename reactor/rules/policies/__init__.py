"""Policies: what decides whether an event that a rule is about makes the rule act.

A rule has a chain of them, in the order of `ORDER`; each is one class in one file of this
package. A policy is pure: it has no clock and does no I/O. It is given a `Case` (the event, the
time, the values that expressions see) and the `reactor.rules.memory.Table` with what it
remembers for this rule, and returns a `Verdict`: go on, or stop, and in one short text why.
Both are what ``reactor why`` shows, and all that ``reactor test`` needs.

**Time** is seconds since 1970, and comes from the events: that of an event is its stamp, but never
later than the clock of whoever runs the policies and never earlier than that of the event before
it. So events that waited while nothing ran are judged as if they had been read at once. Only
when there are no more events to read does the clock itself move the time on.

A policy that waits (``throttle: {once_after}``, ``none_of``, ``every``) gives its verdict a time
(``due``). When it has come, `Policy.ripe` says what is to happen: `Ripe`, the chain goes on with
an event of before, or `Announce`, an event is fired, which the rule itself is about.

`reactor.rules.deciding.Decider` runs the chains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from bus import durations
from bus.record import Event
from reactor.rules.memory import Table
from reactor.rules.wording import Words

ORDER = (
    "match",
    "schedule",
    "expires",
    "when",
    "dedupe",
    "correlate",
    "count",
    "throttle",
)
"""The order in which a rule's policies are asked. ``mode`` comes after all of them, and is asked
by whoever runs the actions: see `reactor.rules.policies.mode`."""


@dataclass(slots=True)
class Case:
    """One event before one rule.

    Attributes:
        event: the event.
        now: the time, in seconds since 1970.
        values: what the rule's expressions see.
        rule: the rule's name.
        window: what policies found out, which expressions see as ``window``.
        clock: the time of whoever runs the policies, which may be later than ``now``.
    """

    event: Event
    now: float
    values: dict[str, Any]
    rule: str = ""
    window: dict[str, Any] = field(default_factory=dict)
    clock: float = 0.0


class Verdict(NamedTuple):
    """What a policy says about a case.

    Attributes:
        passes: whether the next policy is asked.
        why: in one short text, why it stopped the case, or what it saw.
        due: when the policy wants to be asked again (`Policy.ripe`), or None.
        key: for which key.
        branch: ``else``: stop, but the rule's ``else`` is done.
        others: (due, key) of further keys for which it wants to be asked again.
    """

    passes: bool
    why: Words = ""
    due: float | None = None
    key: str = ""
    branch: str = ""
    others: tuple[tuple[float, str], ...] = ()


PASS = Verdict(passes=True)


def stop(why: Words, due: float | None = None, key: str = "") -> Verdict:
    """Return the verdict that ends a case."""
    return Verdict(False, why, due, key)


class Ripe(NamedTuple):
    """What has waited goes on.

    Attributes:
        seq: the number of the event that the rule acts on.
        window: what ``window`` shows.
        why: in one short text, what was waited for.
    """

    seq: int
    window: dict[str, Any]
    why: Words


class Announce(NamedTuple):
    """An event is to be fired, on which the rule then acts."""

    tag: str
    data: dict[str, Any]


class Policy(Protocol):
    """One policy of one rule, with its settings; immutable."""

    @property
    def name(self) -> str:
        """The policy's name: one of `ORDER`."""
        ...

    @property
    def mark(self) -> str:
        """Name and digest of the settings: what was remembered under others does not count.

        Empty for a policy that remembers nothing.
        """
        ...

    def judge(self, case: Case, table: Table) -> Verdict:
        """Say whether the case goes on."""
        ...

    def timers(self, table: Table, now: float) -> Iterable[tuple[float, str]]:
        """Return (due, key) of all that waits, after a start or a reload at ``now``."""
        ...

    def ripe(self, key: str, table: Table, now: float) -> Ripe | Announce | None:
        """Say what happens now that ``key`` is due; None if it no longer waits."""
        ...


class Remembers:
    """The half of a policy that most have in common: no timers."""

    def timers(self, table: Table, now: float) -> Iterable[tuple[float, str]]:  # noqa: ARG002
        """Nothing waits."""
        return ()

    def ripe(self, key: str, table: Table, now: float) -> Ripe | Announce | None:  # noqa: ARG002
        """Nothing waits."""
        return None


Key = Callable[[Mapping[str, Any]], str]
"""Works out a policy's ``by`` for an event; an empty text where there is none."""


def no_key(_values: Mapping[str, Any]) -> str:
    """Return the one key of a policy without ``by``."""
    return ""


def for_key(key: str) -> str:
    """Return the words on a key that end a reason."""
    return f" for key {key}" if key else ""


def shown(seconds: float) -> str:
    """Return a duration as people write it, without needless precision.

    >>> shown(754.3217)
    '12m34s'
    """
    if seconds <= 0:
        return "0s"
    return durations.text(
        round(seconds) if seconds >= 10 else round(seconds, 1 if seconds >= 1 else 3)
    )
