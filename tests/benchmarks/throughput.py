"""Durable fire to one listener, decoded: events a second from the first fire to the last decode."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from tests.benchmarks import streams
from tests.benchmarks.figures import Goal, Row, Settings, interleave

TITLE = "fire to one listener, decoded; ours is durable, raw is not"

_WAYS = {
    "listen(since=...)": streams.hear_since,
    "listen('bench/*')": streams.hear_live,
    "get_event()": streams.hear_salt,
}


def run(settings: Settings) -> Iterator[Row]:
    """Measure each way to listen beside plain PUSH, PULL, PUB and SUB."""
    count = settings.count(200_000)
    ways = {name: _measure(count, hear) for name, hear in _WAYS.items()}
    raw = partial(streams.raw, count)
    samples = interleave(settings.runs, {"raw": lambda: raw().figures(), **ways})
    for name in _WAYS:
        lost = samples[name]["lost"].median
        yield Row(
            f"fire_events -> {name}",
            "/s",
            samples[name]["rate"],
            samples["raw"]["rate"],
            salt=1_124,
            goal=Goal(of_raw=0.6, of_salt=100),
            note=f"{lost:,.0f} of {count:,} lost" if lost else "",
        )
        yield Row(
            "  CPU time of all three processes, per event",
            "us",
            samples[name]["cpu"],
            samples["raw"]["cpu"],
        )


def _measure(count: int, hear: streams.Listener):
    return lambda: streams.ours(count, hear).figures()
