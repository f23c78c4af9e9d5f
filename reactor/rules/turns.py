"""``mode`` on a simulated clock: whose turn it would be, for whatever only says what would run.

The lanes are those of the engine. What runs there ends when it ends; here each action lasts as
long as `Durations` says.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from bus import durations
from reactor.errors import ReactorError
from reactor.rules import deciding
from reactor.rules.identity import REPEAT
from reactor.rules.policies.expires import expired
from reactor.rules.policies.mode import Lanes, Mode
from reactor.rules.rehearsing import Durations, Outcome, Rehearsal, rehearse

MAX_WAITING = 100_000
"""Reactions that wait for their turn: more would fill the memory of whoever only asks."""


@dataclass(slots=True)
class _Turn:
    rehearsal: Rehearsal
    asked: float
    began: float = 0.0


class Turns:
    """Gives reactions their turn.

    Args:
        results: what actions give; see `Simulation`.
        takes: how long they last.
    """

    def __init__(
        self, results: Mapping[str, Any] | None = None, takes: Durations | None = None
    ) -> None:
        self._results = results
        self._takes = takes
        self._lanes: Lanes[int] = Lanes()
        self._running: dict[int, _Turn] = {}
        self._waiting: dict[int, _Turn] = {}
        self._ends: list[tuple[float, int]] = []
        self._last = 0
        self.now = -math.inf

    def decided(self, found: deciding.Outcome, now: float) -> list[Outcome]:
        """Return what becomes of a decision, and before it, of what came to its turn meanwhile.

        Args:
            found: the decision.
            now: when it was made; the past counts as the present.
        """
        outcomes = self.until(now)
        rehearsal = rehearse(found, self._results, self._takes)
        mode = found.rule.mode
        if mode is None or not (found.acts or found.error):
            return [*outcomes, rehearsal.outcome]
        return outcomes + self._admitted(rehearsal, mode, found)

    def until(self, now: float) -> list[Outcome]:
        """Let time pass; return what comes to its turn because others end."""
        outcomes: list[Outcome] = []
        while self._ends and self._ends[0][0] <= now:
            at, number = heapq.heappop(self._ends)
            if self._running.pop(number, None):
                outcomes += self._follow(number, at)
        self.now = max(self.now, now)
        return outcomes

    def finish(self) -> list[Outcome]:
        """Let all end that runs, and all have their turn that waits; the clock stays as it is."""
        now = self.now
        outcomes = self.until(math.inf)
        self.now = now
        return outcomes

    def _admitted(self, rehearsal: Rehearsal, mode: Mode, found: deciding.Outcome) -> list[Outcome]:
        self._last += 1
        rule = found.key.partition(REPEAT)[0]
        admission = self._lanes.admit(self._last, rule, mode, found.lane)
        turn = _Turn(rehearsal, self.now)
        if admission.how == "start":
            ended = [self._end(number, found) for number in admission.replaced]
            return [*ended, self._begin(self._last, turn, self.now)]
        if admission.how == "wait":
            self._waiting[self._last] = turn
            if len(self._waiting) > MAX_WAITING:
                raise ReactorError(
                    f"rule {found.rule.name}: more than {MAX_WAITING} reactions wait for their "
                    "turn by its mode: say how long an action takes, or look at less"
                )
        waits = admission.how == "wait"
        return [_stopped(rehearsal.outcome, "mode", admission.why, waits=waits)]

    def _begin(self, number: int, turn: _Turn, now: float) -> Outcome:
        turn.began = now
        self._running[number] = turn
        heapq.heappush(self._ends, (now + turn.rehearsal.seconds, number))
        return turn.rehearsal.outcome

    def _end(self, number: int, newer: deciding.Outcome) -> Outcome:
        """Return what would not be begun of one that another takes the place of."""
        turn = self._running.pop(number)
        passed = self.now - turn.began
        outcome, offsets, _ = turn.rehearsal
        left = [call for call, at in zip(outcome.calls, offsets, strict=True) if at > passed]
        why = f"mode: restart, event {newer.event.seq} took its place"
        return replace(
            _stopped(outcome, "mode", f"{why} after {durations.text(passed)}"), unbegun=tuple(left)
        )

    def _follow(self, number: int, at: float) -> list[Outcome]:
        """Begin whatever waited for the end of one, at the time of that end."""
        outcomes: list[Outcome] = []
        followers = deque(self._lanes.ended(number))
        while followers:
            number = followers.popleft()
            turn = self._waiting.pop(number)
            outcome = turn.rehearsal.outcome
            why = expired(outcome.rule.policies, outcome.event, at)
            if why:
                outcomes.append(_stopped(outcome, "expires", why))
                followers += self._lanes.ended(number)
                continue
            said = f"mode: its turn came after {durations.text(at - turn.asked)}"
            waited = replace(outcome, steps=(*outcome.steps, ("mode", True, said)))
            turn.rehearsal = turn.rehearsal._replace(outcome=waited)
            outcomes.append(self._begin(number, turn, at))
        return outcomes


def _stopped(outcome: Outcome, policy: str, why: str, *, waits: bool = False) -> Outcome:
    return replace(
        outcome,
        calls=(),
        error="",
        reason=why,
        policy=policy,
        steps=(*outcome.steps, (policy, False, why)),
        waits=waits,
    )
