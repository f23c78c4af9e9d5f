"""Stops loops of reactions, and says so: a log line, a count and ``reactor/loop``."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from bus.record import CAUSE, Event
from reactor.engine.aftermath import Aftermath
from reactor.engine.firing import hops_of, rule_key
from reactor.engine.statistics import Statistics
from reactor.rules.model import Rule

log = logging.getLogger(__name__)

_OWN = "reactor/"


class LoopGuard:
    """Asked about each event before rules look at it.

    Args:
        max_chain: reactions in one chain before it is stopped.
        aftermath: knows which rules feed themselves.
        statistics: counts what was stopped.
        announce: fires an event of the engine's own.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        max_chain: int,
        aftermath: Aftermath,
        statistics: Statistics,
        announce: Callable[[str, dict[str, Any]], None],
        clock: Callable[[], float],
    ) -> None:
        self._max_chain = max_chain
        self._aftermath = aftermath
        self._statistics = statistics
        self._announce = announce
        self._clock = clock

    def is_at_end_of_chain(self, event: Event) -> bool:
        """Say whether an event stands at the end of too long a chain; if so, announce it."""
        hops = hops_of(event)
        if hops < self._max_chain:
            return False
        rule = event.data.get(CAUSE, {}).get("rule")
        self._statistics.total["loops"] += 1
        log.error(
            "stopped a loop: %s came from a chain of %d reactions, the last of rule %s",
            event.tag,
            hops,
            rule,
        )
        why = f"the chain has {hops} reactions, and reactor_max_chain is {self._max_chain}"
        self._tell(str(rule), event, why)
        return True

    def feeds_itself(self, rule: Rule, event: Event) -> bool:
        """Say whether a rule is stopped because it feeds itself; the first time, announce it."""
        why, is_news = self._aftermath.stops(rule, rule_key(rule), event, self._clock())
        if why:
            self._statistics.total["loops"] += 1
        if is_news:
            log.error("stopped a loop: rule %s (%s): %s", rule.name, rule.source, why)
            self._tell(rule.name, event, why)
        return bool(why)

    def _tell(self, rule: str, event: Event, why: str) -> None:
        if event.tag.startswith(_OWN):
            return  # whoever reacts to the announcement would begin the next loop
        data = {"rule": rule, "tag": event.tag, "seq": event.seq, "why": why}
        self._announce("reactor/loop", {**data, "cause": event.data.get(CAUSE, {})})
