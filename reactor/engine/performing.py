"""Runs the calls of firings: in order, within their limits, again after a pause, by their mode."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Any

from bus import durations
from reactor.engine.actions import Actions, Cancel
from reactor.engine.firing import Firing, ProgramFiring
from reactor.rules.policies.mode import Admission, Lanes, Mode

FiringKey = tuple[int, str]


class Timers:
    """What is to be run at a time of the monotonic clock."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    def at(self, moment: float, run: Callable[[], None]) -> None:
        """Have ``run`` called at ``moment`` or soon after it."""
        heapq.heappush(self._due, (moment, next(self._count), run))

    @property
    def next(self) -> float | None:
        """When the next one is due."""
        return self._due[0][0] if self._due else None

    def run(self, now: float) -> None:
        """Run what is due."""
        while self._due and self._due[0][0] <= now:
            heapq.heappop(self._due)[2]()


class Performer:
    """Starts what a firing wants next, until it has ended.

    Args:
        actions: what a call can do.
        clock: seconds, monotonic.
        on_progress: told of a firing of which a call has ended that is not the last.
        on_end: told of a firing that has ended.
    """

    def __init__(
        self,
        actions: Actions,
        clock: Callable[[], float],
        *,
        on_progress: Callable[[Firing], None],
        on_end: Callable[[Firing], None],
    ) -> None:
        self._actions = actions
        self._clock = clock
        self._on_progress = on_progress
        self._on_end = on_end
        self._lanes: Lanes[FiringKey] = Lanes()
        self._waiting: dict[FiringKey, Firing] = {}
        self._cancels: dict[tuple[FiringKey, int], Cancel] = {}
        self.timers = Timers()

    @property
    def waiting(self) -> int:
        """How many firings wait for their turn."""
        return len(self._waiting)

    def admit(self, firing: Firing, mode: Mode, rule: str, lane: str) -> Admission[FiringKey]:
        """Give a firing its place by its rule's mode; a refused one must not be performed."""
        admission = self._lanes.admit(firing.key, rule, mode, lane)
        firing.replaces = admission.replaced
        if admission.how == "wait":
            self._waiting[firing.key] = firing
        return admission

    def withdraw(self, firing: Firing) -> None:
        """Take back an admission: what was to begin could not be written down."""
        self._waiting.pop(firing.key, None)
        for key in self._lanes.ended(firing.key):
            # Whoever would follow begins as well, unless he is taken back next.
            self._waiting.pop(key, None)

    def perform(self, firing: Firing) -> None:
        """Start what may start now, and whatever follows from it."""
        if firing.is_busy or firing.key in self._waiting:
            return
        # An action may end at once: what follows is a round of this loop, not a deeper call.
        firing.is_busy = firing.has_moved = True
        while firing.has_moved and not firing.ended:
            firing.has_moved = False
            for number in firing.startable():
                self._start(firing, number)
        firing.is_busy = False
        if isinstance(firing, ProgramFiring) and firing.pause is not None:
            self._wait(firing, firing.pause)
        if firing.ended and not firing.reported:
            firing.reported = True
            self._on_end(firing)

    def released(self, key: FiringKey) -> list[Firing]:
        """Note that a firing is over, and return those whose turn it is now."""
        if not self._lanes:
            return []
        return [
            firing for other in self._lanes.ended(key) if (firing := self._waiting.pop(other, None))
        ]

    def cancel(self, firing: Firing, why: str) -> None:
        """End a firing as it stands."""
        firing.cancelled = why
        self._waiting.pop(firing.key, None)
        for place in [place for place in self._cancels if place[0] == firing.key]:
            self._cancels.pop(place)()

    def _start(self, firing: Firing, number: int) -> None:
        call = firing.calls[number]

        def done(result: Any, error: str | None) -> None:
            if self._cancels:
                self._cancels.pop((firing.key, number), None)
            if number in firing.done or firing.cancelled:
                return
            firing.finish(number, result, error)
            firing.has_moved = True
            if len(firing.calls) > 1 or isinstance(firing, ProgramFiring):
                self._on_progress(firing)
            self.perform(firing)

        cancel = self._actions.start(call, firing.reaction, done)
        if cancel is not None and number not in firing.done:
            self._cancels[firing.key, number] = cancel
        if call.timeout and number not in firing.done:
            self.timers.at(
                self._clock() + call.timeout,
                lambda: self._time_out(firing, number, call.timeout, done),
            )

    def _time_out(
        self,
        firing: Firing,
        number: int,
        seconds: float,
        done: Callable[[Any, str | None], None],
    ) -> None:
        if number in firing.done or firing.cancelled:
            return
        cancel = self._cancels.pop((firing.key, number), None)
        if cancel is not None:
            cancel()
        done(None, f"timed out after {durations.text(seconds)}")

    def _wait(self, firing: ProgramFiring, seconds: float) -> None:
        def go_on() -> None:
            if not firing.cancelled:
                firing.go_on()
                self.perform(firing)

        firing.pause = None
        self.timers.at(self._clock() + seconds, go_on)
