"""What is kept of what rules did: traces of all of it, and dead letters of what failed."""

from __future__ import annotations

import logging
from collections.abc import Callable

from bus import wire
from bus.journal import JournalReader
from bus.record import CAUSE, Event
from reactor.engine.deadletters import DeadLetters, Letter
from reactor.engine.firing import Firing, ProgramFiring, name_in_key, reaction_id
from reactor.engine.loops import SelfFeeding
from reactor.engine.state import Unfinished
from reactor.engine.traces import MAX_SIZE, Skip, Traces
from reactor.rules.deciding import Outcome
from reactor.rules.model import Rule
from reactor.rules.wording import Words

log = logging.getLogger(__name__)

_ANY_SIZE = 1 << 62
"""An event that was read from the bus is within its limit."""


class Aftermath:
    """Told by the engine of everything that became of events.

    Args:
        traces: what `reactor trace` shows.
        dead: failed reactions; None keeps none.
        self_feeding: stops rules that feed themselves.
        wall_clock: seconds since 1970.
    """

    def __init__(
        self,
        traces: Traces,
        dead: DeadLetters | None,
        self_feeding: SelfFeeding,
        wall_clock: Callable[[], float],
    ) -> None:
        self.traces = traces
        self.dead = dead
        self.dropped = 0
        self._self_feeding = self_feeding
        self._wall_clock = wall_clock
        self._dying: list[Letter] = []
        self._mended: list[str] = []

    # -- what rules did -------------------------------------------------------------------

    def skipped(self, outcome: Outcome, why: Words, policy: str) -> None:
        """Note that a rule did nothing about an event."""
        if self.traces.is_on:
            event = outcome.event
            self.traces.skipped(
                outcome.key,
                Skip(event.seq, event.tag, event.stamp, outcome.rule, why, policy, outcome.steps),
            )

    def began(self, firing: Firing, outcome: Outcome, size: int = 0) -> None:
        """Note that a reaction began, to an event of so many bytes."""
        firing.event, firing.rule, firing.steps = outcome.event, outcome.rule, outcome.steps
        firing.is_large = size > MAX_SIZE
        if self.traces.is_on:
            self.traces.began(firing.key[1], firing)

    def ended(self, firing: Firing, seconds: float, *, failed: bool) -> None:
        """Note that a reaction ended."""
        firing.seconds = seconds
        if self.traces.is_on:
            if failed or firing.cancelled:
                self.traces.failed(firing.key[1], firing)
            if firing.is_large:
                self.traces.condense(firing.key[1], firing)
        if failed:
            self._die(firing)
        elif firing.is_retry:
            self._mended.append(firing.reaction.id)

    def stops(self, rule: Rule, key: str, event: Event, now: float) -> tuple[str, bool]:
        """Return why a rule that feeds itself is stopped (or nothing), and whether that is news."""
        cause = event.data.get(CAUSE)
        if not isinstance(cause, dict) or cause.get("rule") != rule.name:
            return "", False
        stops, is_news = self._self_feeding.stops(key, now)
        if not stops:
            return "", False
        why = (
            f"loop limit: it reacted more than {self._self_feeding.limit} times within 10 s to "
            "events that it fired itself, and takes none of them for 60 s"
        )
        if self.traces.is_on:
            self.traces.skipped(key, Skip(event.seq, event.tag, event.stamp, rule, why, "loop"))
        return why, is_news

    # -- dead letters ---------------------------------------------------------------------

    def _die(self, firing: Firing) -> None:
        event, reaction = firing.event, firing.reaction
        if self.dead is None or event is None:
            return
        replies = firing.replies if isinstance(firing, ProgramFiring) else {}
        self._dying.append(
            Letter(
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
                done=frozenset(firing.done - set(firing.errors)),
                replies={ident: reply for ident, reply in replies.items() if reply[1] is None},
                window=dict(firing.window or {}),
            )
        )

    def gone(self, left: Unfinished, source: str, journal: JournalReader, why: str) -> None:
        """Note a reaction that a restart has left and that cannot be begun again."""
        rows = journal.read(left.seq - 1, 1, left.seq)
        self._dying.append(
            Letter(
                id=reaction_id(f"{journal.bus_id}-{left.seq}", left.rule),
                at=self._wall_clock(),
                key=left.rule,
                rule=name_in_key(left.rule),
                source=source,
                bus_id=journal.bus_id,
                seq=left.seq,
                tag=wire.tag_of(rows[0][1]) if rows else "",
                error=why,
                event=rows[0][1] if rows else None,
                done=left.done,
            )
        )

    @property
    def has_letters(self) -> bool:
        """Whether `flush` would write."""
        return bool(self._dying or self._mended)

    def flush(self) -> None:
        """Write down what failed: before the engine's state forgets that it was under way.

        Raises:
            ReactorError: the disk did not take it.
        """
        if self.dead is None:
            self._dying.clear()
            return
        if self._dying:
            gone = self.dead.add(self._dying)
            self._dying.clear()
            self.dropped += gone
            if gone:
                log.warning(
                    "%d dead letters were dropped: more than reactor_dead_keep have failed", gone
                )
        if self._mended:
            for start in range(0, len(self._mended), 500):
                self.dead.drop(self._mended[start : start + 500])
            self._mended.clear()
