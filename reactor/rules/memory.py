"""What policies remember between events: cells by rule, policy and key. No I/O, no clock.

Whoever runs the policies writes the changes down (`Memory.take_changes`) in the same transaction
as the place up to which events were read, and gives them back after a restart (`Memory.load`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

MAX_KEYS = 10_000
"""Keys of one policy of one rule: a fleet of ten thousand machines. Beyond, the oldest goes."""

HOLDS_EVENTS = ("correlate", "gather")
"""What the marks of policies begin with whose cells hold the numbers of events."""

Row = tuple[str, str, str, Any]
"""A rule's key, a policy's mark, a key and the cell: None where the cell is gone."""

Cells = tuple[str, str]
"""A rule's key and a policy's mark: what one table belongs to."""


class Table:
    """The cells of one policy of one rule, least recently written first.

    A cell is a value that msgpack carries. It is replaced, never changed in place.

    Args:
        limit: how many there may be.
        on_write: told the key of each cell that is written or dropped.
        on_evict: told of each cell that has to go for another.

    Attributes:
        announced: keys of timers that were announced since the start, for the policy's own use;
            not remembered over a restart.
    """

    __slots__ = ("_cells", "_limit", "_on_evict", "_on_write", "announced")

    def __init__(
        self, limit: int, on_write: Callable[[str], None], on_evict: Callable[[], None]
    ) -> None:
        self._cells: dict[str, Any] = {}
        self._limit = limit
        self._on_write = on_write
        self._on_evict = on_evict
        self.announced: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._cells)

    def get(self, key: str) -> Any:
        """Return a cell, or None."""
        return self._cells.get(key)

    def put(self, key: str, cell: Any) -> None:
        """Write a cell; if there are too many, the one that was not written for longest goes."""
        cells = self._cells
        cells.pop(key, None)
        cells[key] = cell
        self._on_write(key)
        if len(cells) > self._limit:
            self.drop(next(iter(cells)))
            self._on_evict()

    def drop(self, key: str) -> None:
        """Forget a cell."""
        if self._cells.pop(key, None) is not None:
            self._on_write(key)

    def drop_stale(self, is_stale: Callable[[Any], bool]) -> None:
        """Forget cells that say nothing any more, from the oldest on, up to the first that does.

        Where all cells go stale equally long after they were written, that is all of them, at a
        cost that does not grow with their number.
        """
        while self._cells:
            key, cell = next(iter(self._cells.items()))
            if not is_stale(cell):
                return
            self.drop(key)

    def items(self) -> Iterable[tuple[str, Any]]:
        """Return all keys and cells, oldest first."""
        return self._cells.items()

    def fill(self, key: str, cell: Any) -> None:
        """Take a cell that is written down already."""
        self._cells[key] = cell


class Memory:
    """All tables, and which of their cells changed.

    Args:
        max_keys: the most cells of one table.

    Attributes:
        evicted: how many cells had to go for others since `take_evicted`, by table.
    """

    def __init__(self, max_keys: int = MAX_KEYS) -> None:
        self._max_keys = max_keys
        self._tables: dict[Cells, Table] = {}
        self._changed: dict[tuple[str, str, str], None] = {}
        self.evicted: Counter[Cells] = Counter()

    def table(self, rule: str, policy: str) -> Table:
        """Return the table of a policy of a rule; it is made when it is first asked for."""
        found = self._tables.get((rule, policy))
        if found is None:
            found = Table(
                self._max_keys,
                lambda key: self._changed.setdefault((rule, policy, key)),
                lambda: self.evicted.update([(rule, policy)]),
            )
            self._tables[rule, policy] = found
        return found

    def keep_only(self, wanted: set[Cells]) -> None:
        """Forget the tables of rules and policies that are no more."""
        for rule, policy in self._tables.keys() - wanted:
            table = self._tables[rule, policy]
            for key, _ in list(table.items()):
                table.drop(key)
            del self._tables[rule, policy]

    def load(self, rows: Iterable[Row]) -> None:
        """Take what was written down, and forget everything else."""
        self._tables.clear()
        self._changed.clear()
        for rule, policy, key, cell in rows:
            self.table(rule, policy).fill(key, cell)

    @property
    def has_changes(self) -> bool:
        """Whether there is something to write down."""
        return bool(self._changed)

    def take_changes(self) -> list[Row]:
        """Return the cells that changed since this was last called."""
        changed, self._changed = self._changed, {}
        return [
            (
                rule,
                policy,
                key,
                table.get(key) if (table := self._tables.get((rule, policy))) else None,
            )
            for rule, policy, key in changed
        ]

    def take_evicted(self) -> dict[Cells, int]:
        """Return `evicted`, and count anew."""
        found, self.evicted = self.evicted, Counter()
        return dict(found)
