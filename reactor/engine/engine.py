"""The engine's loop: take events in order, plan, write down, act, report.

One thread owns everything here. Worker threads and the reloader come back through the mailbox,
answers of the bus and the link server through their sockets.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from bus import wire
from bus.errors import BusError, WireError
from bus.feed import Feed, Numbered
from bus.journal import JournalReader
from bus.record import CAUSE, Event
from reactor.engine.actions import Actions
from reactor.engine.actions.functions import USER
from reactor.engine.aftermath import Aftermath
from reactor.engine.books import Books
from reactor.engine.deadletters import DeadLetters
from reactor.engine.firing import (
    REPEAT,
    Firing,
    firing_of,
    name_in_key,
    reaction_id,
    rule_key,
)
from reactor.engine.loopguard import LoopGuard
from reactor.engine.loops import MAX_CHAIN, SelfFeeding
from reactor.engine.outbox import OnFired, Outbox, nobody
from reactor.engine.performing import Performer
from reactor.engine.reports import report_tag, reported_since
from reactor.engine.state import State, Unfinished
from reactor.engine.statistics import Statistics
from reactor.engine.traces import Traces
from reactor.errors import DeposedError, ReactorError
from reactor.rules.deciding import Announcement, Decider, Found, Outcome, Recall
from reactor.rules.memory import Memory
from reactor.rules.model import Functions, Rule
from reactor.rules.policies.expires import expired
from reactor.rules.replaying import Replaying
from reactor.rules.snapshot import Snapshot

log = logging.getLogger(__name__)

TURN = 500
"""Events of one turn, which is one transaction of the state."""

MAX_UNDER_WAY = 20_000
"""Firings under way before the engine reads no further: the journal holds what waits."""


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
        recall: finds events that rules waited upon.
        clock: seconds, monotonic.
        wall_clock: seconds since 1970.
        traces: keeps what became of events; by default nothing does.
        dead: keeps reactions that failed; by default nothing does.
        max_chain: reactions in one chain before it is stopped.
        self_feeding: stops rules that feed themselves.
        alive: called before each event that rules look at, as a turn may take its time.
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
        recall: Recall = lambda _seq: None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        traces: Traces | None = None,
        dead: DeadLetters | None = None,
        max_chain: int = MAX_CHAIN,
        self_feeding: SelfFeeding | None = None,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._feed, self._alive = feed, alive
        self._state = state
        self._outbox = outbox
        self._is_full = is_full
        self._clock = clock
        self._wall_clock = wall_clock
        self._memory = Memory()
        self._memory.load(state.cells())
        self._functions, self._recall = functions, recall
        self._decider = Decider(functions, self._memory, recall)
        self._decider.use(snapshot, wall_clock())
        self.statistics = Statistics()
        self._aftermath = Aftermath(
            traces or Traces(0), dead, self_feeding or SelfFeeding(0), wall_clock
        )
        self._loops = LoopGuard(max_chain, self._aftermath, self.statistics, self.announce, clock)
        self._books = Books(
            feed=feed,
            state=state,
            memory=self._memory,
            aftermath=self._aftermath,
            statistics=self.statistics,
            clock=clock,
        )
        self._performer = Performer(
            actions, clock, on_progress=self._books.progressed, on_end=self._report
        )
        self.traces.keep_only({rule_key(rule) for rule in snapshot.remembered})
        self._under_way: dict[tuple[int, str], Firing] = {}
        self._followers: deque[Firing] = deque()
        self._is_following = False

    @property
    def traces(self) -> Traces:
        """What became of events."""
        return self._aftermath.traces

    @property
    def dead(self) -> DeadLetters | None:
        """The reactions that failed."""
        return self._aftermath.dead

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

    @property
    def snapshot(self) -> Snapshot:
        """The rules in force."""
        return self._decider.snapshot

    def next_in(self, longest: float) -> float:
        """Return the seconds until something is due that no event brings, at most ``longest``."""
        found = longest
        if self._performer.timers.next is not None:
            found = min(found, self._performer.timers.next - self._clock())
        if self._decider.next_due is not None:
            found = min(found, self._decider.next_due - self._wall_clock())
        return max(0.0, found)

    def turn(self) -> bool:
        """Take some events, write down what begins and what was reported, then act.

        Returns:
            False if the state could not be written: the caller should wait a little.

        Raises:
            DeposedError: another reactor took over.
        """
        self._performer.timers.run(self._clock())
        begun = self._read() if self.can_read else []
        begun += self._pass_time()
        try:
            self._books.save(begun, self._under_way)
        except DeposedError:
            raise
        except ReactorError as error:
            self._put_back(begun, error)
            return False
        for firing in begun:
            self._begin_performing(firing)
        self._outbox.flush()
        return True

    def swap(self, snapshot: Snapshot) -> None:
        """Put other rules in force, between events."""
        self._decider.use(snapshot, self._wall_clock())
        keys = {rule_key(rule) for rule in snapshot.remembered}
        self.statistics.keep_only(keys)
        self.traces.keep_only(keys)

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
        reported = reported_since(journal, unfinished[0].seq) if unfinished else frozenset()
        rules = {rule_key(rule): rule for rule in self.snapshot.remembered}
        for left in unfinished:
            if reaction_id(f"{journal.bus_id}-{left.seq}", left.rule) in reported:
                self._books.reported((left.seq, left.rule))
                continue
            firing = self._revive(left, rules.get(left.rule.partition(REPEAT)[0]), journal)
            if firing:
                self._begin_performing(firing)
        self._books.save([], self._under_way)
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
        self._alive()
        try:
            event = Event.from_wire(raw, seq, self._feed.bus_id)
        except WireError as error:
            log.warning("the event %d cannot be read: %s", seq, error)
            return []
        if event.data.get("user") == USER or self._loops.is_at_end_of_chain(event):
            return []
        if CAUSE in event.data:
            rules = tuple([rule for rule in rules if not self._loops.feeds_itself(rule, event)])
        found = self._decider.decide_for(rules, event, self._wall_clock())
        return self._begun(found, len(raw))

    def _pass_time(self) -> list[Firing]:
        """Let what waits for a time begin, once there are no more events to read."""
        due = self._decider.next_due
        if due is None or self._feed.behind or self.behind or not self.can_read:
            return []
        now = self._wall_clock()
        return self._begun(self._decider.advance(now)) if due <= now else []

    def _begun(self, found: Iterable[Found], size: int = 0) -> list[Firing]:
        begun = []
        for outcome in found:
            if isinstance(outcome, Announcement):
                self._put(outcome.tag, outcome.data)
            elif firing := self._firing_of(outcome, size):
                begun.append(firing)
        return begun

    def _firing_of(self, outcome: Outcome, size: int = 0) -> Firing | None:
        """Count what became of an event, and return the firing if there is one."""
        rule_name = outcome.key.partition(REPEAT)[0]
        counters = self.statistics.of(rule_name)
        counters.matched += 1
        if outcome.fault is not None:
            rule = outcome.rule
            log.error(
                "the rule %s (%s) failed on %s",
                rule.name,
                rule.source,
                outcome.event.tag,
                exc_info=outcome.fault,
            )
        if not (outcome.error or outcome.plan.calls or outcome.plan.program):
            counters.skipped += 1
            counters.skip = outcome.said
            self._aftermath.skipped(outcome, outcome.said, outcome.policy)
            return None
        firing = firing_of(outcome, self._clock())
        if outcome.rule.mode is not None:
            admission = self._performer.admit(firing, outcome.rule.mode, rule_name, outcome.lane)
            if admission.how == "refuse":
                counters.skipped += 1
                counters.skip = admission.why
                self._aftermath.skipped(outcome, admission.why, "mode")
                return None
            if admission.how == "wait":
                firing.waits_by = outcome.rule.policies
        if not outcome.error:
            counters.last_fired = outcome.event.stamp
        self._under_way[firing.key] = firing
        self._aftermath.began(firing, outcome, size)
        return firing

    def _revive(self, left: Unfinished, rule: Rule | None, journal: JournalReader) -> Firing | None:
        rows = journal.read(left.seq - 1, 1, left.seq)
        why = "its event is no longer in the journal" if not rows else "its rule is gone"
        if rows and rule:
            event = Event.from_wire(rows[0][1], left.seq, journal.bus_id)
            outcome = self._decider.plan_again(rule, left.rule, event, left.window)
            firing = self._firing_of(outcome)
            if firing:
                firing.take_up(left.done, left.replies)
                return firing
            why = "its rule no longer applies"
        log.warning("the reaction of %s to event %d is dead: %s", left.rule, left.seq, why)
        source = str(rule.source) if rule else left.rule.partition("::")[0]
        self._aftermath.gone(left, source, journal, why)
        name = name_in_key(left.rule)
        self._put(
            report_tag(name, "dead"), {"rule": name, "event": {"seq": left.seq}, "error": why}
        )
        self._books.reported((left.seq, left.rule))
        return None

    # -- acting ---------------------------------------------------------------------------

    def _begin_performing(self, firing: Firing) -> None:
        for key in firing.replaces:
            if other := self._under_way.get(key):
                self._cancel(other, "a newer event took its place (mode: restart)")
        self._performer.perform(firing)

    def _cancel(self, firing: Firing, why: str) -> None:
        self._performer.cancel(firing, why)
        firing.reported = True
        self._aftermath.ended(firing, self._clock() - firing.begun_at, failed=False)
        self._fire_report(firing, "cancelled")

    def _follow(self, key: tuple[int, str]) -> None:
        """Begin whatever waited for the end of a firing."""
        self._followers += self._performer.released(key)
        if self._is_following:
            return  # what ends at once, or is too late, comes back here: a round, no deeper call
        self._is_following = True
        try:
            while self._followers:
                follower = self._followers.popleft()
                why = follower.event and expired(
                    follower.waits_by, follower.event, self._wall_clock()
                )
                if why:
                    self._cancel(follower, why)
                else:
                    self._performer.perform(follower)
        finally:
            self._is_following = False

    # -- writing down and reporting -------------------------------------------------------

    def again(self, rule: Rule, event: Event, left: Unfinished) -> bool:
        """Have a rule react to an event of before: a retry, or a replay under a key of its own.

        Args:
            rule: the rule.
            event: the event.
            left: the key of the reaction, which gives its id, and how far it is already.

        Returns:
            Whether the rule acts; its policies are not asked, its conditions are.

        Raises:
            ReactorError: it is under way already, or the state cannot be written.
        """
        return self.begin(self._decider.plan_again(rule, left.rule, event, left.window), left)

    def replaying(self, wants: Callable[[Rule], bool]) -> Replaying:
        """Return what asks the rules in force about events of before, policies included."""
        return Replaying(self.snapshot, self._functions, self._recall, wants)

    def begin(self, outcome: Outcome, left: Unfinished) -> bool:
        """Begin what was decided about an event of before; see `again`."""
        if (outcome.event.seq, left.rule) in self._under_way:
            raise ReactorError(f"{reaction_id(outcome.event.id, left.rule)} is under way already")
        firing = self._firing_of(outcome)
        if firing is None:
            return False
        if not firing.errors:
            firing.take_up(left.done, left.replies)
        firing.is_retry = True
        try:
            self._books.save([firing], self._under_way)
        except ReactorError:
            self._under_way.pop(firing.key, None)
            self._performer.withdraw(firing)
            raise
        self._begin_performing(firing)
        self._outbox.flush()
        return True

    def save_cursor(self) -> None:
        """Write down how far the engine has read and what was reported: before it stops."""
        self._books.save([], self._under_way, cursor_too=True)

    def _put_back(self, begun: list[Firing], error: ReactorError) -> None:
        """Without a state nothing may begin: read these events again when it can be written."""
        log.error("%s; the reactor waits", error)
        for firing in begun:
            self._under_way.pop(firing.key, None)
            self._performer.withdraw(firing)
        self._memory.load(self._state.cells())
        self._decider.use(self.snapshot, self._wall_clock())
        self._feed.start_after(self._books.saved_seq)

    def _report(self, firing: Firing) -> None:
        counters = self.statistics.of(firing.key[1].partition(REPEAT)[0])
        self._aftermath.ended(firing, self._clock() - firing.begun_at, failed=firing.failed)
        if firing.failed:
            counters.failed += 1
            counters.last_error = firing.error
            counters.last_error_at = self._wall_clock()
            log.error("rule %s: %s", firing.reaction.rule, firing.error)
            self._fire_report(firing, "failed")
        else:
            counters.fired += 1
            counters.last_error = ""
            self._fire_report(firing, "done")

    def _fire_report(self, firing: Firing, how: str) -> None:
        def reported(_seq: int | None, error: BusError | None) -> None:
            if error:
                log.error("the report on %s was refused: %s", firing.reaction.id, error)
            if self._under_way.pop(firing.key, None):
                self._books.reported(firing.key)

        self.statistics.total[how] += 1
        data = firing.report(self._clock() - firing.begun_at)
        data[CAUSE] = firing.reaction.cause()
        tag = report_tag(firing.reaction.rule, how)
        if not self._put(tag, data, reported):
            self._put(tag, {**data, "calls": []}, reported)
        self._follow(firing.key)
