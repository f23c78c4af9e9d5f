"""A firing: one rule's reaction to one event, from its plan to its end. No I/O, no clock."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from bus.record import CAUSE, Event
from reactor.rules.model import Call, Rule

REPEAT = "\x1f"
"""Marks the key of a rule that reacts to the same event once more: it stands in the map twice."""


def rule_key(rule: Rule) -> str:
    """Return the name under which a rule's reactions are remembered.

    A native rule is known by its file and its name. A Salt file may stand in the map under
    several globs, and reacts once for each.
    """
    glob = f"::{rule.patterns[0]}" if rule.style == "salt" else ""
    return f"{rule.source.path}{glob}::{rule.name}"


def name_in_key(key: str) -> str:
    """Return the rule's name that a key ends with."""
    return key.rpartition("::")[2].partition(REPEAT)[0]


def reaction_id(event_id: str, key: str) -> str:
    """Return the id of a rule's reaction to an event: the same whenever it is made."""
    return f"{event_id}-{_short(key)}"


@functools.lru_cache(maxsize=10_000)
def _short(key: str) -> str:
    # Names are unique in one file only, so the key's digest tells rules of one name apart.
    digest = hashlib.blake2s(key.encode(errors="replace"), digest_size=4).hexdigest()
    return f"{name_in_key(key)}-{digest}"


@dataclass(frozen=True, slots=True)
class Reaction:
    """Who acts, and because of what: handed to every action.

    Attributes:
        id: the same again when it has to run again after a crash.
        rule: the rule's name.
        source: the rule's file and line.
        tag: the event's tag.
        seq: the event's number.
        event_id: the event's id.
        hops: how many reactions stand in the chain up to this one, it included.
    """

    id: str
    rule: str
    source: str
    tag: str
    seq: int
    event_id: str
    hops: int

    @classmethod
    def of(cls, rule: Rule, key: str, event: Event) -> Reaction:
        """Return the reaction of ``rule``, remembered as ``key``, to ``event``."""
        return cls(
            id=reaction_id(event.id, key),
            rule=rule.name,
            source=str(rule.source),
            tag=event.tag,
            seq=event.seq,
            event_id=event.id,
            hops=hops_of(event) + 1,
        )

    def cause(self) -> dict[str, Any]:
        """Return what is put into an event that this reaction fires."""
        return {
            "rule": self.rule,
            "event": self.event_id,
            "tag": self.tag,
            "seq": self.seq,
            "hops": self.hops,
        }


def hops_of(event: Event) -> int:
    """Return how many reactions led to this event."""
    cause = event.data.get(CAUSE)
    hops = cause.get("hops") if isinstance(cause, dict) else 0
    return hops if isinstance(hops, int) and hops > 0 else 0


@dataclass(slots=True)
class Firing:
    """The calls of one reaction and how far they are.

    A native rule's calls run one after the other and stop at the first that fails. Those of a
    Salt file are all begun in order; none waits for another.
    """

    reaction: Reaction
    key: tuple[int, str]
    calls: tuple[Call, ...]
    in_sequence: bool
    begun_at: float
    done: set[int] = field(default_factory=set)
    results: dict[int, Any] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)
    reported: bool = False
    seconds: float = 0.0
    is_large: bool = False
    is_retry: bool = False
    event: Event | None = None
    _started: set[int] = field(default_factory=set)

    def startable(self) -> Iterator[int]:
        """Yield the numbers of the calls that may begin now, and count them as begun."""
        for number in range(len(self.calls)):
            if number in self.done or number in self._started:
                continue
            if self.in_sequence and (self.errors or len(self.done) < number):
                return
            self._started.add(number)
            yield number

    def finish(self, number: int, result: Any, error: str | None) -> None:
        """Note how a call ended."""
        self.done.add(number)
        if error is None:
            self.results[number] = result
        else:
            self.errors[number] = error

    @property
    def ended(self) -> bool:
        """Whether nothing more will run."""
        if self.in_sequence and self.errors:
            return self._started <= self.done
        return len(self.done) == len(self.calls)

    @property
    def error(self) -> str:
        """The first error, or an empty text."""
        return self.errors[min(self.errors)] if self.errors else ""

    def report(self, seconds: float) -> dict[str, Any]:
        """Return the data of the event that says how it ended."""
        reaction = self.reaction
        data: dict[str, Any] = {
            "id": reaction.id,
            "rule": reaction.rule,
            "source": reaction.source,
            "event": {"tag": reaction.tag, "seq": reaction.seq, "id": reaction.event_id},
            "calls": [self._describe(number) for number in range(len(self.calls))],
            "seconds": round(seconds, 6),
        }
        if self.errors:
            data["error"] = self.error
        return data

    def _describe(self, number: int) -> dict[str, Any]:
        call = self.calls[number]
        about: dict[str, Any] = {"kind": call.kind, "function": call.function, "id": call.ident}
        if call.kind == "local":
            about["target"] = call.target
        if number in self.errors:
            about["error"] = self.errors[number]
        elif number in self.results:
            about["result"] = self.results[number]
        return about
