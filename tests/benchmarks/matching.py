"""What it costs to match a tag against 10 and against 10,000 rules, and the ratio."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

from reactor.rules.matching import Index
from tests.benchmarks.figures import Goal, Row, Settings, interleave

TITLE = "matching with 10,000 rules; raw is the same with 10"
TAGS = 500
"""Distinct tags: a busy set that fits the cache, so that the algorithm is measured, not the RAM."""

_PASSES = 7
_FEW, _MANY = 10, 10_000

Shape = tuple[Callable[[int], str], Callable[[int], str]]

SHAPES: dict[str, Shape] = {
    "literal": (lambda n: f"myco/app{n}/done", lambda n: f"myco/app{n}/done"),
    "prefix": (lambda n: f"myco/app{n}/*", lambda n: f"myco/app{n}/step/{n}"),
    "partial prefix": (lambda n: f"myco/host{n:05}*", lambda n: f"myco/host{n:05}.example/up"),
    "job return": (lambda n: f"salt/job/*/ret/web{n}", lambda n: f"salt/job/2026{n}/ret/web{n}"),
    "suffix": (lambda n: f"*/web{n}", lambda n: f"salt/job/2026{n}/ret/web{n}"),
    "partial suffix": (lambda n: f"*-db{n:05}", lambda n: f"salt/minion/eu-db{n:05}"),
    "pairs": (
        lambda n: f"r{n % 100}/*/app{n // 100}/*",
        lambda n: f"r{n % 100}/x/app{n // 100}/up",
    ),
    "inside": (lambda n: f"*host{n:05}*", lambda n: f"myco/eu-host{n:05}.example/up"),
}


def run(settings: Settings) -> Iterator[Row]:
    """Measure each shape of patterns."""
    for name, shape in SHAPES.items():
        ways = {
            "few": partial(_measure, *_prepare(shape, _FEW)),
            "many": partial(_measure, *_prepare(shape, _MANY)),
        }
        samples = interleave(settings.runs, ways)
        few, many = samples["few"]["cost"], samples["many"]["cost"]
        yield Row(name, "us", many, few, versus=f"{_FEW} rules", goal=Goal(of_raw=1.5))


def _prepare(shape: Shape, rules: int) -> tuple[Callable[[str], object], list[str]]:
    """Return what matches, and tags of which each matches one rule."""
    pattern, tag = shape
    index = Index(((pattern(n),), n) for n in range(rules))
    tags = [tag(n * 7919 % rules) for n in range(TAGS)]
    for number, text in enumerate(tags):
        assert index.match(text) == (number * 7919 % rules,), text
    return index.match, tags


def _measure(match: Callable[[str], object], tags: list[str]) -> dict[str, float]:
    """Return the best time of one match in microseconds."""
    return {"cost": min(_time_all(match, tags) for _ in range(_PASSES)) / len(tags) * 1e6}


def _time_all(match: Callable[[str], object], tags: list[str]) -> float:
    begun = time.perf_counter()
    for tag in tags:
        match(tag)
    return time.perf_counter() - begun
