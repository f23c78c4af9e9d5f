"""The engine's loop: take events in order, plan, write down, act, report.

One thread owns everything here. Worker threads and the reloader come back through the mailbox,
answers of the bus and the link server through their sockets.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from bus import wire
from bus.errors import BusError, WireError
from bus.feed import Feed, Numbered
from bus.journal import JournalReader
from bus.record import CAUSE, Event
from reactor.engine.actions import Actions
from reactor.engine.actions.functions import USER
from reactor.engine.deadletters import DeadLetters, Letter
from reactor.engine.firing import (
    REPEAT,
    Firing,
    Reaction,
    hops_of,
    name_in_key,
    reaction_id,
    rule_key,
)
from reactor.engine.loops import MAX_CHAIN, SelfFeeding
from reactor.engine.outbox import OnFired, Outbox, nobody
from reactor.engine.state import State, Unfinished
from reactor.engine.statistics import Statistics
from reactor.engine.traces import MAX_SIZE, Skip, Traces
from reactor.errors import ReactorError, RuleError
from reactor.rules.model import Call, Functions, Rule
from reactor.rules.snapshot import Snapshot

log = logging.getLogger(__name__)

TURN = 500
"""Events of one turn, which is one transaction of the state."""

MAX_UNDER_WAY = 20_000
"""Firings under way before the engine reads no further: the journal holds what waits."""

_CURSOR_EVERY = 0.5
"""Seconds after which a cursor that moved past events without rules is written down."""

_OWN = "reactor/"

_ANY_SIZE = 1 << 62
"""An event that was read from the bus is within its limit."""


class Engine:
    """Turns events into reactions.

    Args:
        feed: the events, from the state's cursor on.
        state: the engine's database.
        actions: what a call can do.
        outbox: where events of the engine go.
        functions: those that templates may call.
        snapshot: the rules to begin with.
        is_full: says whether reading has to wait.
        clock: seconds, monotonic.
        traces: keeps what became of events; by default nothing does.
        dead: keeps reactions that failed; by default nothing does.
        max_chain: reactions in one chain before it is stopped.
        self_feeding: stops rules that feed themselves.
        wall_clock: seconds since 1970, for traces.
    """

    def __init__(
        self,
        *,
        feed: Feed,
        state: State,
        actions: Actions,
        outbox: Outbox,
        functions: Functions,
        snapshot: Snapshot,
        is_full: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
        traces: Traces | None = None,
        dead: DeadLetters | None = None,
        max_chain: int = MAX_CHAIN,
        self_feeding: SelfFeeding | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._feed = feed
        self._state = state
        self._actions = actions
        self._outbox = outbox
        self._functions = functions
        self.snapshot = snapshot
        self._keys = _keys_of(snapshot)
        self._is_full = is_full
        self._clock = clock
        self.statistics = Statistics()
        self.traces = traces or Traces(0)
        self.traces.keep_only(set(self._keys.values()))
        self.dead = dead
        self._dying: list[Letter] = []
        self._retried: list[str] = []
        self._max_chain = max_chain
        self._self_feeding = self_feeding or SelfFeeding(0)
        self._wall_clock = wall_clock
        self._under_way: dict[tuple[int, str], Firing] = {}
        self._reported: list[tuple[int, str]] = []
        self._progressed: set[tuple[int, str]] = set()
        self._saved_seq = feed.after
        self._saved_at = clock()

    # -- the loop's turn ------------------------------------------------------------------

    @property
    def under_way(self) -> int:
        """How many firings have not ended."""
        return len(self._under_way)

    @property
    def behind(self) -> int:
        """How many events the bus has that were not read yet."""
        return max(0, self._feed.upto - self._feed.after)

    @property
    def can_read(self) -> bool:
        """Whether another turn would take events that wait."""
        return len(self._under_way) < MAX_UNDER_WAY and not self._is_full()

    @property
    def has_work(self) -> bool:
        """Whether another turn would do something without waiting."""
        return self._feed.behind and self.can_read

    def turn(self) -> bool:
        """Take some events, write down what begins and what was reported, then act.

        Returns:
            False if the state could not be written: the caller should wait a little.
        """
        begun = self._read() if self.can_read else []
        try:
            self._save(begun)
        except ReactorError as error:
            self._put_back(begun, error)
            return False
        for firing in begun:
            self._advance(firing)
        self._outbox.flush()
        return True

    def swap(self, snapshot: Snapshot) -> None:
        """Put other rules in force, between events."""
        self.snapshot = snapshot
        self._keys = _keys_of(snapshot)
        self.statistics.keep_only(set(self._keys.values()))
        self.traces.keep_only(set(self._keys.values()))

    def announce(self, tag: str, data: dict[str, Any]) -> None:
        """Fire an event of the engine's own at once."""
        self._put(tag, data)
        self._outbox.flush()

    def _put(self, tag: str, data: dict[str, Any], on_fired: OnFired = nobody) -> bool:
        try:
            self._outbox.fire(tag, data, on_fired)
        except BusError as error:
            log.warning("the event %s was not fired: %s", tag, error)
            return False
        return True

    def resume(self, journal: JournalReader) -> None:
        """Begin again what was under way when the engine ended.

        The report in the journal is what makes a reaction finished: one whose report is there
        is only crossed off.
        """
        unfinished = self._state.unfinished()
        reported = _reports_since(journal, unfinished[0].seq) if unfinished else frozenset()
        rules = {rule_key(rule): rule for rule in self.snapshot.rules}
        for left in unfinished:
            if reaction_id(f"{journal.bus_id}-{left.seq}", left.rule) in reported:
                self._reported.append((left.seq, left.rule))
                continue
            firing = self._revive(left, rules.get(left.rule.partition(REPEAT)[0]), journal)
            if firing:
                self._advance(firing)
        self._save([])
        self._outbox.flush()

    # -- reading and planning -------------------------------------------------------------

    def _read(self) -> list[Firing]:
        begun: list[Firing] = []
        for numbered in self._feed.take(TURN):
            begun += self._react(numbered)
        return begun

    def _react(self, numbered: Numbered) -> list[Firing]:
        seq, raw = numbered
        self.statistics.total["events"] += 1
        rules = self.snapshot.match(wire.tag_of(raw))
        if not rules:
            return []
        try:
            event = Event.from_wire(raw, seq, self._feed.bus_id)
        except WireError as error:
            log.warning("the event %d cannot be read: %s", seq, error)
            return []
        if event.data.get("user") == USER or self._is_loop(event):
            return []
        caused = CAUSE in event.data
        planned = [
            self._plan(rule, key, event)
            for key, rule in self._keyed(rules)
            if not (caused and self._feeds_itself(rule, key, event))
        ]
        begun = [firing for firing in planned if firing]
        if len(raw) > MAX_SIZE:
            for firing in begun:
                firing.is_large = True
        return begun

    def _keyed(self, rules: tuple[Rule, ...]) -> Iterable[tuple[str, Rule]]:
        """Return rules with keys that differ, also for one that stands in the map twice."""
        keys = [self._keys[id(rule)] for rule in rules]
        if len(set(keys)) < len(keys):
            times = [keys[:place].count(key) for place, key in enumerate(keys)]
            keys = [f"{key}{REPEAT}{n}" if n else key for key, n in zip(keys, times, strict=True)]
        return zip(keys, rules, strict=True)

    def _is_loop(self, event: Event) -> bool:
        if hops_of(event) < self._max_chain:
            return False
        cause = event.data.get(CAUSE, {})
        self.statistics.total["loops"] += 1
        log.error(
            "stopped a loop: %s came from a chain of %d reactions, the last of rule %s",
            event.tag,
            hops_of(event),
            cause.get("rule"),
        )
        if not event.tag.startswith(_OWN):
            self.announce(
                "reactor/loop",
                {
                    "rule": cause.get("rule"),
                    "tag": event.tag,
                    "seq": event.seq,
                    "cause": cause,
                    "why": f"the chain has {hops_of(event)} reactions, and reactor_max_chain "
                    f"is {self._max_chain}",
                },
            )
        return True

    def _feeds_itself(self, rule: Rule, key: str, event: Event) -> bool:
        """Say whether a rule is stopped because it feeds itself; the first time, announce it."""
        cause = event.data.get(CAUSE)
        if not isinstance(cause, dict) or cause.get("rule") != rule.name:
            return False
        stops, is_news = self._self_feeding.stops(key, self._clock())
        if not stops:
            return False
        why = (
            f"loop limit: it reacted more than {self._self_feeding.limit} times within 10 s to "
            "events that it fired itself, and takes none of them for 60 s"
        )
        self.statistics.total["loops"] += 1
        if self.traces.is_on:
            self.traces.skipped(key, Skip(event.seq, event.tag, event.stamp, rule, why, "loop"))
        if is_news:
            log.error("stopped a loop: rule %s (%s): %s", rule.name, rule.source, why)
            if not event.tag.startswith(_OWN):
                data = {"rule": rule.name, "tag": event.tag, "seq": event.seq}
                self.announce("reactor/loop", {**data, "cause": cause, "why": why})
        return True

    def _plan(self, rule: Rule, key: str, event: Event) -> Firing | None:
        counters = self.statistics.of(key.partition(REPEAT)[0])
        counters.matched += 1
        try:
            plan = rule.plan(event, self._functions)
        except RuleError as error:
            return self._begin(rule, key, event, error=str(error))
        except Exception as error:  # the boundary of a rule: no event may end the engine
            log.exception("the rule %s (%s) failed on %s", rule.name, rule.source, event.tag)
            text = f"{rule.source}: {type(error).__name__}: {error}"
            return self._begin(rule, key, event, error=text)
        if not plan.calls:
            counters.skipped += 1
            counters.last_skip = plan.skipped
            if self.traces.is_on:
                self.traces.skipped(
                    key, Skip(event.seq, event.tag, event.stamp, rule, plan.skipped)
                )
            return None
        counters.last_fired = event.stamp
        return self._begin(rule, key, event, plan.calls)

    def _begin(
        self, rule: Rule, key: str, event: Event, calls: tuple[Call, ...] = (), error: str = ""
    ) -> Firing:
        """Return a firing; one whose plan failed has an error and no calls, and ends at once."""
        firing = Firing(
            reaction=Reaction.of(rule, key, event),
            key=(event.seq, key),
            calls=calls,
            in_sequence=rule.style == "native",
            begun_at=self._clock(),
            errors={0: error} if error else {},
            event=event,
        )
        self._under_way[firing.key] = firing
        if self.traces.is_on:
            self.traces.began(key, firing)
        return firing

    def _revive(self, left: Unfinished, rule: Rule | None, journal: JournalReader) -> Firing | None:
        rows = journal.read(left.seq - 1, 1, left.seq)
        why = "its event is no longer in the journal" if not rows else "its rule is gone"
        if rows and rule:
            firing = self._plan(
                rule, left.rule, Event.from_wire(rows[0][1], left.seq, journal.bus_id)
            )
            if firing:
                firing.done |= {number for number in left.done if number < len(firing.calls)}
                return firing
            why = "its rule no longer applies"
        log.warning("the reaction of %s to event %d is dropped: %s", left.rule, left.seq, why)
        name = name_in_key(left.rule)
        self._dying.append(
            Letter(
                id=reaction_id(f"{journal.bus_id}-{left.seq}", left.rule),
                at=self._wall_clock(),
                key=left.rule,
                rule=name,
                source=str(rule.source) if rule else left.rule.partition("::")[0],
                bus_id=journal.bus_id,
                seq=left.seq,
                tag=wire.tag_of(rows[0][1]) if rows else "",
                error=why,
                event=rows[0][1] if rows else None,
                done=left.done,
            )
        )
        self._put(_tag(name, "dead"), {"rule": name, "event": {"seq": left.seq}, "error": why})
        self._reported.append((left.seq, left.rule))
        return None

    # -- acting ---------------------------------------------------------------------------

    def _advance(self, firing: Firing) -> None:
        for number in firing.startable():
            self._start(firing, number)
        if firing.ended and not firing.reported:
            firing.reported = True
            self._report(firing)

    def _start(self, firing: Firing, number: int) -> None:
        def done(result: Any, error: str | None) -> None:
            if number in firing.done:
                return
            firing.finish(number, result, error)
            if len(firing.calls) > 1:
                self._progressed.add(firing.key)
            self._advance(firing)

        self._actions.start(firing.calls[number], firing.reaction, done)

    # -- writing down and reporting -------------------------------------------------------

    def _save(self, begun: list[Firing], *, cursor_too: bool = False) -> None:
        seq, now = self._feed.after, self._clock()
        progress = {
            key: self._under_way[key].done for key in self._progressed if key in self._under_way
        }
        due = cursor_too or now - self._saved_at > _CURSOR_EVERY
        moved = seq != self._saved_seq and due
        self._bury()
        if not (begun or progress or moved or self._reported):
            return
        self._state.save(
            bus_id=self._feed.bus_id,
            seq=seq,
            begun=[firing.key for firing in begun],
            finished=self._reported,
            progress=progress,
        )
        self._reported = []
        self._progressed.clear()
        self._saved_seq, self._saved_at = seq, now

    def _bury(self) -> None:
        """Keep what failed, before the state forgets that it was under way."""
        if self.dead is None:
            self._dying.clear()
            return
        if self._dying:
            gone = self.dead.add(self._dying)
            self._dying = []
            if gone:
                self.statistics.total["dead_dropped"] += gone
                log.warning(
                    "%d dead letters were dropped: more than reactor_dead_keep have failed", gone
                )
        if self._retried:
            self.dead.drop(self._retried)
            self._retried = []

    def _letter(self, firing: Firing) -> Letter | None:
        reaction, event = firing.reaction, firing.event
        if event is None:
            return None
        failed = set(firing.errors)
        return Letter(
            id=reaction.id,
            at=self._wall_clock(),
            key=firing.key[1],
            rule=reaction.rule,
            source=reaction.source,
            bus_id=event.bus_id,
            seq=reaction.seq,
            tag=reaction.tag,
            error=firing.error,
            event=wire.pack_event(event.tag, event.data, _ANY_SIZE),
            done=frozenset(firing.done - failed),
        )

    def again(
        self, rule: Rule, key: str, event: Event, done: frozenset[int] = frozenset()
    ) -> Firing | None:
        """Have a rule react to an event of before: a retry, or a replay under a key of its own.

        Args:
            rule: the rule.
            key: the key under which this reaction is remembered; it gives the reaction's id.
            event: the event.
            done: the numbers of the calls that are left out.

        Returns:
            The reaction; None if the rule does nothing about the event.

        Raises:
            ReactorError: it is under way already, or the state cannot be written.
        """
        if (event.seq, key) in self._under_way:
            raise ReactorError(f"{reaction_id(event.id, key)} is under way already")
        firing = self._plan(rule, key, event)
        if firing is None:
            return None
        if not firing.errors:
            firing.done |= {number for number in done if number < len(firing.calls)}
        firing.is_retry = True
        try:
            self._save([firing])
        except ReactorError:
            self._under_way.pop(firing.key, None)
            raise
        self._advance(firing)
        self._outbox.flush()
        return firing

    def save_cursor(self) -> None:
        """Write down how far the engine has read and what was reported: before it stops."""
        self._save([], cursor_too=True)

    def _put_back(self, begun: list[Firing], error: ReactorError) -> None:
        """Without a state nothing may begin: read these events again when it can be written."""
        log.error("%s; the reactor waits", error)
        for firing in begun:
            self._under_way.pop(firing.key, None)
        self._feed.start_after(self._saved_seq)

    def _report(self, firing: Firing) -> None:
        counters = self.statistics.of(firing.key[1].partition(REPEAT)[0])
        firing.seconds = self._clock() - firing.begun_at
        if self.traces.is_on:
            if firing.errors:
                self.traces.failed(firing.key[1], firing)
            if firing.is_large:
                self.traces.condense(firing.key[1], firing)
        if firing.errors:
            counters.failed += 1
            counters.last_error = firing.error
            counters.last_error_at = self._wall_clock()
            if self.dead is not None and (letter := self._letter(firing)):
                self._dying.append(letter)
            log.error("rule %s: %s", firing.reaction.rule, firing.error)
            self._fire_report(firing, "failed")
        else:
            counters.fired += 1
            counters.last_error = ""
            if firing.is_retry:
                self._retried.append(firing.reaction.id)
            self._fire_report(firing, "done")

    def _fire_report(self, firing: Firing, how: str) -> None:
        def reported(_seq: int | None, error: BusError | None) -> None:
            if error:
                log.error("the report on %s was refused: %s", firing.reaction.id, error)
            if self._under_way.pop(firing.key, None):
                self._reported.append(firing.key)

        self.statistics.total[how] += 1
        data = firing.report(firing.seconds)
        data[CAUSE] = firing.reaction.cause()
        tag = _tag(firing.reaction.rule, how)
        if not self._put(tag, data, reported):
            self._put(tag, {**data, "calls": []}, reported)


def _reports_since(journal: JournalReader, seq: int) -> frozenset[str]:
    """Return the ids of the reactions that the journal says are done or failed."""
    prefix = f"{_OWN}reaction/".encode()
    found = set()
    for number, raw in journal.scan(seq):
        if raw.startswith(prefix):
            with contextlib.suppress(WireError):
                found.add(Event.from_wire(raw, number).data.get("id", ""))
    return frozenset(found)


def _keys_of(snapshot: Snapshot) -> dict[int, str]:
    """Return the key of each rule in force, by the rule's identity."""
    return {id(rule): rule_key(rule) for rule in snapshot.rules}


def _tag(rule: str, how: str) -> str:
    """Return the tag of a report; a rule's name may hold what a tag may not."""
    name = rule
    if not rule.isprintable():
        name = "".join(char if char.isprintable() else "?" for char in rule)
    return f"{_OWN}reaction/{name}/{how}"
