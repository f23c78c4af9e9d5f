"""What became of each event that a rule matched: the newest of each rule, and of each kind.

Kept as cheap references and made into something to show only when somebody asks. A busy rule
does not push out a rare one, nor do the events that a rule turned away push out its firings.
No I/O, no clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

from bus.record import CAUSE
from reactor.engine.firing import REPEAT, Firing, Reaction, name_in_key
from reactor.rules.deciding import Asked
from reactor.rules.model import Rule
from reactor.rules.redaction import redact, redact_text
from reactor.rules.rehearsing import describe_call
from reactor.rules.wording import Words

MAX_KEPT = 20_000
"""Traces of all rules together: with more rules than this allows, each has fewer."""

MAX_SIZE = 8_192
"""Bytes of an event beyond which what came of it is cut at once, not when somebody asks."""

_WHEN = "when"

Kind = Literal["fired", "failed", "skipped"]
KINDS: tuple[Kind, ...] = ("fired", "failed", "skipped")


class Skip(NamedTuple):
    """An event that a rule matched and did nothing about.

    Attributes:
        seq: the event's number.
        tag: its tag.
        stamp: when it was fired.
        rule: the rule.
        why: what stopped it.
        policy: which part of the rule did.
        steps: (policy, whether it passed, why) of each part that was asked.
    """

    seq: int
    tag: str
    stamp: str
    rule: Rule
    why: Words
    policy: str = "when"
    steps: tuple[Asked, ...] = ()


_Entry = Skip | Firing | dict[str, Any]


class _Kept:
    """The traces of one rule, by kind; each is a ring."""

    __slots__ = ("failed", "fired", "skipped")

    def __init__(self, keep: int) -> None:
        self.fired: deque[_Entry] = deque(maxlen=keep)
        self.failed: deque[_Entry] = deque(maxlen=keep)
        self.skipped: deque[_Entry] = deque(maxlen=keep)

    def of(self, kind: Kind) -> deque[_Entry]:
        found: deque[_Entry] = getattr(self, kind)
        return found


class Traces:
    """The traces of all rules.

    Args:
        keep: traces of each kind for each rule; 0 keeps none.
        epoch: seconds from 1970 to the zero of the clock that firings have.
    """

    def __init__(self, keep: int, epoch: float = 0.0) -> None:
        self._keep = keep
        self._epoch = epoch
        self._limit = keep
        self._rules: dict[str, _Kept] = {}
        self._dirty: set[str] = set()
        self._unended: set[str] = set()

    @property
    def is_on(self) -> bool:
        """Whether anything is kept."""
        return self._keep > 0

    def began(self, key: str, firing: Firing) -> None:
        """Note a reaction; it is looked at when somebody asks, so nothing is noted at its end."""
        self._of(key).fired.append(firing)

    def failed(self, key: str, firing: Firing) -> None:
        """Note that a reaction ended with an error."""
        kept = self._of(key)
        for entry in kept.fired:
            if entry is firing:
                others = [other for other in kept.fired if other is not firing]
                kept.fired = deque(others, maxlen=self._limit)
                break
        kept.failed.append(firing)

    def condense(self, key: str, firing: Firing) -> None:
        """Cut what an ended reaction to a large event refers to, so that memory stays bounded."""
        kept = self._of(key)
        for kind in KINDS:
            ring = kept.of(kind)
            for place, entry in enumerate(ring):
                if entry is firing:
                    ring[place] = self._shown(key, kind, entry)
                    return

    def skipped(self, key: str, skip: Skip) -> None:
        """Note an event that a rule did nothing about."""
        self._of(key).skipped.append(skip)

    def _of(self, key: str) -> _Kept:
        if REPEAT in key:
            key = key.partition(REPEAT)[0]
        self._dirty.add(key)
        kept = self._rules.get(key)
        if kept is None:
            kept = self._rules[key] = _Kept(self._limit)
        return kept

    def keep_only(self, keys: set[str]) -> None:
        """Forget rules that are no more, and give the others their share of the room."""
        share = max(1, MAX_KEPT // (len(KINDS) * max(1, len(keys))))
        limit = min(self._keep, share)
        for gone in self._rules.keys() - keys:
            del self._rules[gone]
            self._dirty.add(gone)
        if limit != self._limit:
            self._limit = limit
            self._rules = {key: _resized(kept, limit) for key, kept in self._rules.items()}

    # -- asking ---------------------------------------------------------------------------

    def find(
        self,
        *,
        rule: str = "",
        reaction: str = "",
        seq: int | None = None,
        failed: bool = False,
        fired: bool = False,
        limit: int = 0,
    ) -> list[dict[str, Any]]:
        """Return traces, the newest first.

        Args:
            rule: of this rule only.
            reaction: the one of this id only.
            seq: of this event only.
            failed: only those that failed.
            fired: only reactions, failed ones too; nothing that a rule turned away.
            limit: at most so many; 0 for all.
        """
        kinds: tuple[Kind, ...] = ("failed",) if failed else ("fired", "failed") if fired else KINDS
        found = []
        for key, kind, entry in self._entries(kinds):
            if rule and name_in_key(key) != rule:
                continue
            about = _about(entry)
            if (seq is None or about[0] == seq) and (not reaction or about[1] == reaction):
                found.append((about[0], self._shown(key, kind, entry)))
        found.sort(key=lambda pair: pair[0], reverse=True)
        traces = [trace for _, trace in found]
        return traces[:limit] if limit else traces

    def _entries(self, kinds: Iterable[Kind]) -> Iterator[tuple[str, Kind, _Entry]]:
        for key, kept in self._rules.items():
            for kind in kinds:
                for entry in kept.of(kind):
                    yield key, kind, entry

    # -- over a restart -------------------------------------------------------------------

    @property
    def has_changes(self) -> bool:
        """Whether something was noted that `take_changes` has not given out."""
        return bool(self._dirty)

    def take_changes(self, most: int) -> dict[str, list[dict[str, Any]]]:
        """Return all traces of at most ``most`` rules that have new ones."""
        taken = [self._dirty.pop() for _ in range(min(most, len(self._dirty)))]
        changes = {
            key: [
                self._shown(key, kind, entry)
                for kind in KINDS
                for entry in (self._rules[key].of(kind) if key in self._rules else ())
            ]
            for key in taken
        }
        self._unended.update(
            key
            for key, traces in changes.items()
            if any(trace["state"] == "under way" for trace in traces)
        )
        return changes

    def look_again(self) -> None:
        """Have rules whose reactions were under way count as changed: they may have ended."""
        self._dirty |= self._unended
        self._unended.clear()

    def _shown(self, key: str, kind: Kind, entry: _Entry) -> dict[str, Any]:
        return shown(key, kind, entry, self._epoch)

    def load(self, traces: Iterable[dict[str, Any]]) -> None:
        """Take what was written down before a restart."""
        if not self.is_on:
            return
        for trace in traces:
            kind: Kind = trace["state"] if trace["state"] in ("failed", "skipped") else "fired"
            self._of(trace["key"]).of(kind).append(trace)
        self._dirty.clear()


def _resized(kept: _Kept, limit: int) -> _Kept:
    made = _Kept(limit)
    for kind in KINDS:
        made.of(kind).extend(kept.of(kind))
    return made


def _about(entry: _Entry) -> tuple[int, str]:
    """Return an entry's event and reaction."""
    if isinstance(entry, Firing):
        return entry.reaction.seq, entry.reaction.id
    if isinstance(entry, Skip):
        return entry.seq, ""
    return int(entry["event"]["seq"]), str(entry.get("id", ""))


def shown(key: str, kind: Kind, entry: _Entry, epoch: float = 0.0) -> dict[str, Any]:
    """Return a trace as it is shown: plain data, without secrets."""
    if isinstance(entry, dict):
        return entry
    if isinstance(entry, Skip):
        return {
            "key": key,
            "state": "skipped",
            "rule": entry.rule.name,
            "source": str(entry.rule.source),
            "event": {"tag": entry.tag, "seq": entry.seq, "stamp": entry.stamp},
            "policy": entry.policy,
            "why": redact_text(str(entry.why)),
            "steps": _shown_steps(entry.steps),
        }
    return _shown_firing(key, kind, entry, epoch)


def _shown_steps(steps: Iterable[Asked]) -> list[dict[str, Any]]:
    return [
        {"policy": name, "passed": passed, "why": redact_text(str(why))}
        for name, passed, why in steps
    ]


def _steps_of(firing: Firing) -> Iterator[Asked]:
    """Yield what each part of the rule said; conditions are asked again, for what they saw."""
    conditions = list(_conditions_of(firing))
    if not any(name == _WHEN for name, _, _ in firing.steps):
        yield from conditions
    for step in firing.steps:
        if step[0] == _WHEN:
            yield from conditions or [step]
        else:
            yield step


def _conditions_of(firing: Firing) -> Iterator[Asked]:
    rule, event = firing.rule, firing.event
    if rule is None or event is None:
        return
    try:
        values = {**rule.values(event), "window": firing.window or {}}
        for condition in getattr(rule, "conditions", ()):
            if "window" not in condition.names:  # whose events are in the journal, not here
                yield (_WHEN, *condition.verdict(values))
    except Exception:  # the boundary of a rule: what is shown of it must not fail with it
        return


def _shown_firing(key: str, kind: Kind, firing: Firing, epoch: float) -> dict[str, Any]:
    reaction, event, ended = firing.reaction, firing.event, firing.reported
    cause = event.data.get(CAUSE) if event else None
    trace: dict[str, Any] = {
        "key": key,
        "state": "cancelled"
        if firing.cancelled
        else kind
        if kind == "failed"
        else "done"
        if ended
        else "under way",
        "id": reaction.id,
        "rule": reaction.rule,
        "source": reaction.source,
        "event": _event(reaction, event.stamp if event else ""),
        "cause": redact(cause) if isinstance(cause, dict) else {},
        "began": firing.begun_at + epoch,
        "seconds": round(firing.seconds, 6) if ended else None,
        "steps": _shown_steps(_steps_of(firing)),
        "calls": [_shown_call(firing, number) for number in range(len(firing.calls))],
    }
    if firing.failed or firing.cancelled:
        trace["error"] = redact_text(firing.cancelled or firing.error)
    return trace


def _event(reaction: Reaction, stamp: str) -> dict[str, Any]:
    return {"tag": reaction.tag, "seq": reaction.seq, "id": reaction.event_id, "stamp": stamp}


def _shown_call(firing: Firing, number: int) -> dict[str, Any]:
    call = firing.calls[number]
    about = describe_call(call)
    if number in firing.errors:
        about["error"] = redact_text(firing.errors[number])
    elif number in firing.results:
        about["result"] = redact(firing.results[number])
    return about
