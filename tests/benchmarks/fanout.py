"""Durable fire to ten listeners at once: events decoded a second by all of them together."""

from __future__ import annotations

from collections.abc import Iterator

from tests.benchmarks import streams
from tests.benchmarks.figures import Goal, Row, Settings, interleave

TITLE = "fire to ten listeners, decoded by all"
LISTENERS = 10


def run(settings: Settings) -> Iterator[Row]:
    """Measure ours beside plain PUSH, PULL, PUB and SUB."""
    count = settings.count(20_000)
    samples = interleave(
        settings.runs,
        {
            "raw": lambda: streams.raw(count, LISTENERS).figures(),
            "since": lambda: streams.ours(count, streams.hear_since, LISTENERS).figures(),
            "live": lambda: streams.ours(count, streams.hear_live, LISTENERS).figures(),
        },
    )
    for way, name in (("since", "listen(since=...)"), ("live", "listen()")):
        lost = samples[way]["lost"].median
        yield Row(
            f"fire_events -> 10 x {name}",
            "/s",
            samples[way]["rate"],
            samples["raw"]["rate"],
            note=f"{lost:,.0f} of {count * LISTENERS:,} lost" if lost else "",
        )
        yield Row(
            "  CPU time of the bus alone, per event that goes to all ten",
            "us",
            samples[way]["bus"],
            samples["raw"]["bus"],
            goal=Goal(of_raw=1),
        )
