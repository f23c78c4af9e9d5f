"""Figures and tables: samples, medians, interleaved measuring, rows. No process, no socket."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

SALT = "Salt 3008.5, as measured elsewhere on like hardware: docs/explanation/performance"
RULEBOOK = "ansible-rulebook, measured the same way, with its in-process source, not durable"

Measure = Callable[[], Mapping[str, float]]
"""Measures once, and returns figures by name."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How much is measured.

    Attributes:
        runs: repetitions of each figure.
        quick: a tenth of the work, to see whether all of it runs.
    """

    runs: int = 5
    quick: bool = False

    def __post_init__(self) -> None:
        if self.runs < 1:
            raise ValueError(f"--runs {self.runs}: give at least 1")

    def count(self, full: int) -> int:
        """Return how many to do of something that is done ``full`` times in a whole run."""
        return max(10, full // 10) if self.quick else full


@dataclass(frozen=True, slots=True)
class Sample:
    """One figure, measured several times."""

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("a sample without a value")

    @property
    def median(self) -> float:
        """The value in the middle."""
        return statistics.median(self.values)

    def summary(self) -> dict[str, float | int]:
        """Return median, least, greatest and count."""
        low, high = min(self.values), max(self.values)
        return {"median": self.median, "min": low, "max": high, "runs": len(self.values)}


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure is to be: at least or at most, according to its unit.

    Attributes:
        value: in the figure's unit, or None.
        of_raw: as a multiple of the raw figure, or None.
        of_salt: as a multiple of Salt's figure, or None.
    """

    value: float | None = None
    of_raw: float | None = None
    of_salt: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        name: what was done.
        unit: ``/s`` (more is better), ``ms``, ``us``, ``s`` or ``MB`` (less is better).
        ours: our figure.
        raw: what plain ZeroMQ, or whatever ``versus`` says, needs for the same, in the same run.
        versus: what ``raw`` is.
        salt: Salt's figure, see `SALT`, or None.
        rulebook: ansible-rulebook's figure, see `RULEBOOK`, or None.
        goal: what ``ours`` is to be, or None.
        note: what else is worth knowing, such as losses.
    """

    name: str
    unit: str
    ours: Sample
    raw: Sample | None = None
    versus: str = "raw pyzmq"
    salt: float | None = None
    rulebook: float | None = None
    goal: Goal | None = None
    note: str = ""

    @property
    def more_is_better(self) -> bool:
        """Whether a greater figure is the better one."""
        return self.unit.endswith("/s")

    @property
    def of_raw(self) -> float | None:
        """Our figure as a multiple of the raw one."""
        return self.ours.median / self.raw.median if self.raw else None

    def times_better_than(self, other: float | None) -> float | None:
        """Return how many times better our figure is than ``other``."""
        if other is None:
            return None
        ours = self.ours.median
        return ours / other if self.more_is_better else other / ours

    def limits(self) -> list[float]:
        """Return the goals in this row's unit, those that depend on other figures worked out."""
        goal = self.goal or Goal()
        parts = [
            (goal.value, 1.0),
            (goal.of_raw, self.raw.median if self.raw else None),
            (goal.of_salt, self.salt),
        ]
        return [share * base for share, base in parts if share is not None and base is not None]

    def is_met(self) -> bool | None:
        """Say whether every goal is met; None if there is none."""
        limits, ours = self.limits(), self.ours.median
        if not limits:
            return None
        if self.more_is_better:
            return all(ours >= limit for limit in limits)
        return all(ours <= limit for limit in limits)

    def as_json(self) -> dict[str, Any]:
        """Return the row as JSON takes it."""
        return {
            "name": self.name,
            "unit": self.unit,
            "ours": self.ours.summary(),
            "raw": self.raw.summary() if self.raw else None,
            "versus": self.versus if self.raw else None,
            "of_raw": self.of_raw,
            "salt": self.salt,
            "times_salt": self.times_better_than(self.salt),
            "rulebook": self.rulebook,
            "goal": asdict(self.goal) if self.goal else None,
            "met": self.is_met(),
            "note": self.note,
        }


def interleave(runs: int, ways: Mapping[str, Measure]) -> dict[str, dict[str, Sample]]:
    """Measure each way in turn, ``runs`` times, so that a busy moment spares none of them.

    Returns:
        The samples by way and figure.
    """
    seen: dict[str, dict[str, list[float]]] = {way: {} for way in ways}
    for _ in range(runs):
        for way, measure in ways.items():
            for name, value in measure().items():
                seen[way].setdefault(name, []).append(value)
    return {
        way: {name: Sample(tuple(values)) for name, values in figures.items()}
        for way, figures in seen.items()
    }


def percentiles(prefix: str, seconds: Sequence[float]) -> dict[str, float]:
    """Return p50 and p99 of durations, in milliseconds."""
    if not seconds:
        raise ValueError(f"{prefix}: nothing was measured")
    ordered = sorted(seconds)
    last = len(ordered) - 1
    return {
        f"{prefix}p50": statistics.median(ordered) * 1000,
        f"{prefix}p99": ordered[min(last, round(last * 0.99))] * 1000,
    }


_HEADINGS = ("", "raw", "ours", "min .. max", "ours/raw", "Salt", "x Salt", "goal", "")


def table(rows: Iterable[Row]) -> str:
    """Return the rows as text, in columns."""
    lines = [_HEADINGS, *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(_line(cells, widths) for cells in lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest, last = cells
    middle = [cell.rjust(width) for cell, width in zip(rest, widths[1:-1], strict=True)]
    return "  ".join([first.ljust(widths[0]), *middle, last]).rstrip()


def _cells(row: Row) -> tuple[str, ...]:
    low, high = min(row.ours.values), max(row.ours.values)
    salt, multiple = row.salt, row.times_better_than(row.salt)
    return (
        row.name,
        with_unit(row.raw.median, row.unit) if row.raw else "-",
        with_unit(row.ours.median, row.unit),
        f"{number(low)} .. {number(high)}",
        "-" if row.of_raw is None else f"{row.of_raw:.2f}",
        "-" if salt is None else with_unit(salt, row.unit),
        "-" if multiple is None else f"{number(multiple)}x",
        _goal_text(row),
        _remarks(row),
    )


def _goal_text(row: Row) -> str:
    limits = row.limits()
    if not limits:
        return "-"
    hardest = max(limits) if row.more_is_better else min(limits)
    return f"{'>=' if row.more_is_better else '<='} {number(hardest)}"


def _remarks(row: Row) -> str:
    met = {True: "met", False: "MISSED", None: ""}[row.is_met()]
    versus = f"raw: {row.versus}" if row.raw and row.versus != "raw pyzmq" else ""
    better = row.times_better_than(row.rulebook)
    rulebook = f"ansible-rulebook {number(row.rulebook or 0)}, x {better:.1f}" if better else ""
    return "; ".join(text for text in (met, versus, rulebook, row.note) if text)


def with_unit(value: float, unit: str) -> str:
    """Return a figure for people, with its unit."""
    return f"{number(value)}{unit if unit.startswith('/') else ' ' + unit}"


def number(value: float) -> str:
    """Return a number for people, with three digits that count."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
