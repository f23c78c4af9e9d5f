"""What the engine writes down, and when: what began, how far it is, what is over, the place read.

All of it goes into the state in one transaction, so after a crash all of it is of one moment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from bus.complaints import Complaints
from bus.feed import Feed
from reactor.engine.aftermath import Aftermath
from reactor.engine.firing import Firing, ProgramFiring, name_in_key
from reactor.engine.state import State
from reactor.engine.statistics import Statistics
from reactor.rules.memory import MAX_KEYS, Memory

_CURSOR_EVERY = 0.5
"""Seconds after which a cursor that moved past events without rules is written down."""

FiringKey = tuple[int, str]


class Books:
    """Gathers what there is to write, and writes it.

    Args:
        feed: knows how far was read.
        state: the engine's database.
        memory: what rules remember.
        aftermath: has dead letters to write first.
        statistics: counts what rules had to forget.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        *,
        feed: Feed,
        state: State,
        memory: Memory,
        aftermath: Aftermath,
        statistics: Statistics,
        clock: Callable[[], float],
    ) -> None:
        self._feed = feed
        self._state = state
        self._memory = memory
        self._aftermath = aftermath
        self._statistics = statistics
        self._clock = clock
        self._complaints = Complaints(clock)
        self._reported: list[FiringKey] = []
        self._progressed: set[FiringKey] = set()
        self._saved_at = clock()
        self.saved_seq = feed.after

    def progressed(self, firing: Firing) -> None:
        """Note that a firing got further."""
        self._progressed.add(firing.key)

    def reported(self, key: FiringKey) -> None:
        """Note that a firing is over, and that its report is in the journal."""
        self._reported.append(key)

    def save(
        self,
        begun: Sequence[Firing],
        under_way: Mapping[FiringKey, Firing],
        *,
        cursor_too: bool = False,
    ) -> None:
        """Write it all down, if there is anything.

        Args:
            begun: what begins once this is written.
            under_way: all that has not ended.
            cursor_too: write the place that was read up to, whenever that was done last.

        Raises:
            DeposedError: another reactor took over.
            ReactorError: the disk did not take it.
        """
        seq, now = self._feed.after, self._clock()
        if self._memory.evicted:
            self._say_what_was_evicted()
        going = [under_way[key] for key in self._progressed if key in under_way]
        due = cursor_too or now - self._saved_at > _CURSOR_EVERY
        moved = due and (seq != self.saved_seq or self._memory.has_changes)
        if self._aftermath.has_letters:
            self._state.check_term()  # they go into a file of their own
        self._aftermath.flush()
        if not (begun or going or moved or self._reported):
            return
        self._state.save(
            bus_id=self._feed.bus_id,
            seq=seq,
            begun=[firing.key for firing in begun],
            finished=self._reported,
            progress={
                firing.key: firing.done for firing in going if not isinstance(firing, ProgramFiring)
            },
            windows={firing.key: firing.window for firing in begun if firing.window},
            replies={
                firing.key: firing.replies for firing in going if isinstance(firing, ProgramFiring)
            },
            cells=self._memory.take_changes() if self._memory.has_changes else (),
        )
        self._reported = []
        self._progressed.clear()
        self.saved_seq, self._saved_at = seq, now

    def _say_what_was_evicted(self) -> None:
        for (key, policy), count in self._memory.take_evicted().items():
            self._statistics.total["evicted"] += count
            text = (
                f"rule {name_in_key(key)}: {policy.partition('-')[0]} has more than {MAX_KEYS} "
                "keys: those that were not seen for longest are forgotten"
            )
            self._complaints.add("evicted", text, count)
