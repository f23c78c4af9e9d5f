"""``mode``: what happens when a rule is to act while it still acts, for each key.

The last of the policies, and the only one that has to know what runs: whoever runs the actions
asks `Lanes.admit` for each firing and tells it of each end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, Literal, NamedTuple, TypeVar

from reactor.rules.policies import Key, for_key

Kind = Literal["parallel", "single", "restart", "queued"]

F = TypeVar("F", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Mode:
    """The settings.

    Attributes:
        kind: ``parallel``: each runs at once, or waits while ``max`` run; ``queued``: one after
            the other, and while ``max`` wait or run no further one is taken; ``single``: what
            comes meanwhile is not done; ``restart``: it takes the place of what runs.
        max: the limit, or 0 for none.
        by: works out the key.
    """

    kind: Kind
    max: int
    by: Key


class Admission(NamedTuple, Generic[F]):
    """What is to be done with a firing.

    Attributes:
        how: ``start``, ``wait`` or ``refuse``.
        why: in one short text, why it does not start.
        replaced: what is to be ended for it.
    """

    how: Literal["start", "wait", "refuse"]
    why: str = ""
    replaced: tuple[F, ...] = ()


@dataclass(slots=True)
class _Lane(Generic[F]):
    running: dict[F, None] = field(default_factory=dict)
    waiting: deque[F] = field(default_factory=deque)


class Lanes(Generic[F]):
    """What runs and waits, by rule and key. Firings are known by any hashable name."""

    def __init__(self) -> None:
        self._lanes: dict[tuple[str, str], _Lane[F]] = {}
        self._of: dict[F, tuple[tuple[str, str], Mode]] = {}

    def __len__(self) -> int:
        return len(self._of)

    def admit(self, firing: F, rule: str, mode: Mode, key: str) -> Admission[F]:
        """Take a firing, or refuse it."""
        lane = self._lanes.setdefault((rule, key), _Lane())
        admission: Admission[F] = _admission(mode, lane, key)
        if admission.how == "refuse":
            return admission
        for other in admission.replaced:
            self._forget(other, lane)
        if admission.how == "start":
            lane.running[firing] = None
        else:
            lane.waiting.append(firing)
        self._of[firing] = (rule, key), mode
        return admission

    def ended(self, firing: F) -> list[F]:
        """Forget a firing, and return those that may start now."""
        found = self._of.get(firing)
        if found is None:
            return []
        where, mode = found
        lane = self._lanes[where]
        self._forget(firing, lane)
        limit = 1 if mode.kind == "queued" else mode.max or len(lane.waiting)
        begun = []
        while lane.waiting and len(lane.running) < limit:
            begun.append(lane.waiting.popleft())
            lane.running[begun[-1]] = None
        if not lane.running:
            self._lanes.pop(where, None)
        return begun

    def _forget(self, firing: F, lane: _Lane[F]) -> None:
        del self._of[firing]
        if firing in lane.running:
            del lane.running[firing]
        else:
            lane.waiting.remove(firing)


def _admission(mode: Mode, lane: _Lane[F], key: str) -> Admission[F]:
    running, waiting = len(lane.running), len(lane.waiting)
    if mode.kind == "parallel":
        if not mode.max or running < mode.max:
            return Admission("start")
        return Admission("wait", f"mode: {running} run, max {mode.max}{for_key(key)}")
    if not running:
        return Admission("start")
    if mode.kind == "single":
        return Admission("refuse", f"mode: single, and one is running{for_key(key)}")
    if mode.kind == "restart":
        return Admission("start", replaced=tuple(lane.running))
    if mode.max and running + waiting >= mode.max:
        why = f"mode: queued, {waiting} wait and max is {mode.max}{for_key(key)}"
        return Admission("refuse", why)
    return Admission("wait", f"mode: queued behind {running + waiting}{for_key(key)}")
