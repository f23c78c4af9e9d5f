"""Durable fire to ten listeners at once: events decoded a second by all of them together."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from tests.benchmarks import streams
from tests.benchmarks.figures import Goal, Row, Settings, interleave

TITLE = "fire to ten listeners, decoded by all"
LISTENERS = 10


def run(settings: Settings) -> Iterator[Row]:
    """Measure ours beside plain PUSH, PULL, PUB and SUB."""
    count = settings.count(50_000)
    samples = interleave(
        settings.runs,
        {
            "raw": lambda: _both(streams.raw(count), streams.raw(count, LISTENERS)),
            "since": partial(_ours, count, streams.hear_since),
            "live": partial(_ours, count, streams.hear_live),
        },
    )
    for way, name in (("since", "listen(since=...)"), ("live", "listen('bench/*')")):
        lost = samples[way]["lost"].median
        yield Row(
            f"fire_events -> 10 x {name}",
            "/s",
            samples[way]["rate"],
            samples["raw"]["rate"],
            note=f"{lost:,.0f} of {count * LISTENERS:,} lost" if lost else "",
        )
        yield Row(
            "  CPU time of the bus for nine more listeners, per event",
            "us",
            samples[way]["more"],
            samples["raw"]["more"],
            goal=Goal(of_raw=1) if way == "since" else None,
        )


def _ours(count: int, hear: streams.Listener) -> dict[str, float]:
    return _both(streams.ours(count, hear), streams.ours(count, hear, LISTENERS))


def _both(one: streams.Stream, ten: streams.Stream) -> dict[str, float]:
    """Return the figures with ten listeners, and what those beyond the first cost the bus."""
    many = ten.figures()
    return {**many, "more": max(0.0, many["bus"] - one.figures()["bus"])}
