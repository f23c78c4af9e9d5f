"""Paced fire to a listener: from before the fire until the event is decoded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import bus
from bus.config import Opts
from bus.event import get_event
from tests.benchmarks import events, processes
from tests.benchmarks.figures import Goal, Row, Settings, interleave, percentiles

TITLE = "paced fire to a listener, 500 a second"
PACE = 500
ROUNDS = 5
"""Times that the processes are started anew in each run: on which cores the system puts them
decides between two values, one twice the other, and stays so while they live."""


def run(settings: Settings) -> Iterator[Row]:
    """Measure ours, native and Salt's interface, beside plain ZeroMQ."""
    count = settings.count(400)
    ways = {
        "raw": lambda: _raw(count),
        "native": lambda: _ours(count, _fire_native, _hear_native),
        "salt": lambda: _ours(count, _fire_salt, _hear_salt),
    }
    samples = interleave(settings.runs * ROUNDS, ways)
    for way, name in (("native", "fire -> listen"), ("salt", "fire_event -> get_event")):
        for point in ("p50", "p99"):
            yield Row(
                f"{name}, {point}",
                "ms",
                samples[way][point],
                samples["raw"][point],
                salt=1.0 if point == "p50" else None,
                goal=Goal(of_raw=2) if point == "p50" else None,
            )


def _ours(count: int, fire: Callable[..., None], hear: Callable[..., None]) -> dict[str, float]:
    with processes.bus() as (group, opts):
        ear = group.start(hear, opts, count)
        ear.receive()
        group.start(fire, opts, count)
        return percentiles("", ear.receive())


def _raw(count: int) -> dict[str, float]:
    with processes.folder() as directory, processes.Group() as group:
        broker = group.start(processes.raw_broker, directory, 1)
        broker.receive()
        ear = group.start(_hear_raw, directory, count)
        broker.receive()
        group.start(_fire_raw, directory, count)
        return percentiles("", ear.receive())


def paced(count: int, fire: Callable[[int, float], object], pace: int = PACE) -> None:
    """Fire at even distances; one that is late does not hurry the next."""
    for number in range(count):
        begun = time.perf_counter()
        fire(number, begun)
        time.sleep(max(0.0, 1 / pace - (time.perf_counter() - begun)))


def _fire_native(_pipe: Connection, opts: Opts, count: int) -> None:
    with bus.connect("master", opts) as connection:
        paced(count, lambda n, at: connection.fire(events.TAG, events.payload(n, at)))


def _fire_salt(_pipe: Connection, opts: Opts, count: int) -> None:
    with get_event("master", opts=opts, listen=False) as event:
        paced(count, lambda n, at: event.fire_event(events.payload(n, at), events.TAG))


def _fire_raw(_pipe: Connection, directory: Path, count: int) -> None:
    socket = processes.raw_publisher(directory)
    paced(count, lambda n, at: socket.send(events.packed(n, at)))
    processes.hand_over()


def _hear_native(pipe: Connection, opts: Opts, count: int) -> None:
    with bus.connect("master", opts) as connection:
        listening = connection.listen("bench/*", timeout=5)
        pipe.send("ready")
        late = [_age(next(listening).data) for _ in range(count)]
    pipe.send(late)


def _hear_salt(pipe: Connection, opts: Opts, count: int) -> None:
    with get_event("master", opts=opts) as event:
        pipe.send("ready")
        late = [_age(event.get_event(wait=5, tag="bench/")) for _ in range(count)]
    pipe.send(late)


def _hear_raw(pipe: Connection, directory: Path, count: int) -> None:
    socket = processes.raw_listener(directory)
    pipe.send([_age(events.unpacked(socket.recv())) for _ in range(count)])


def _age(data: dict[str, Any]) -> float:
    """Return the seconds since the fire; processes of one machine share this clock."""
    return time.perf_counter() - float(data["at"])
