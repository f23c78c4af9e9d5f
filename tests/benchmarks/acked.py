"""One acknowledged fire after the other, beside a plain round trip between two processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import zmq

import bus
from bus.config import Opts
from bus.event import get_event
from tests.benchmarks import events, processes
from tests.benchmarks.figures import Goal, Row, Settings, interleave, percentiles

TITLE = "one acknowledged fire; raw is a ROUTER and DEALER round trip"


def run(settings: Settings) -> Iterator[Row]:
    """Measure Salt's and the native interface."""
    count = settings.count(2_000)
    ways = {
        "raw": lambda: _raw(count),
        "fire_event": lambda: _ours(_fire_salt, count),
        "fire": lambda: _ours(_fire_native, count),
    }
    samples = interleave(settings.runs, ways)
    for way in ("fire_event", "fire"):
        for point in ("p50", "p99"):
            yield Row(
                f"{way}, in the journal, {point}",
                "ms",
                samples[way][point],
                samples["raw"][point],
                salt=0.9 if point == "p50" else None,
                goal=Goal(of_raw=2) if point == "p50" else None,
                note="Salt's is not acknowledged" if point == "p50" else "",
            )


def durations(count: int, do: Callable[[int], object]) -> list[float]:
    """Return the seconds that each of ``count`` calls took, after some to warm up."""
    for number in range(count // 10):
        do(number)
    found = []
    for number in range(count):
        begun = time.perf_counter()
        do(number)
        found.append(time.perf_counter() - begun)
    return found


def _ours(fire: Callable[..., None], count: int) -> dict[str, float]:
    with processes.bus() as (group, opts):
        return percentiles("", group.start(fire, opts, count).receive())


def _raw(count: int) -> dict[str, float]:
    with processes.folder() as directory, processes.Group() as group:
        group.start(_echo, directory).receive()
        return percentiles("", group.start(_ask, directory, count).receive())


def _fire_salt(pipe: Connection, opts: Opts, count: int) -> None:
    with get_event("master", opts=opts, listen=False) as event:

        def fire(number: int) -> None:
            if not event.fire_event(events.payload(number), events.TAG):
                raise RuntimeError(f"event {number} was not acknowledged")

        pipe.send(durations(count, fire))


def _fire_native(pipe: Connection, opts: Opts, count: int) -> None:
    with bus.connect("master", opts) as connection:
        pipe.send(
            durations(count, lambda n: connection.fire(events.TAG, events.payload(n))),
        )


def _echo(pipe: Connection, directory: Path) -> None:
    socket = processes.raw_socket(zmq.ROUTER)
    socket.bind(processes.raw_addresses(directory)[0])
    pipe.send("bound")
    while True:
        client, message = socket.recv_multipart()
        socket.send_multipart((client, message[:16]))


def _ask(pipe: Connection, directory: Path, count: int) -> None:
    socket = processes.raw_socket(zmq.DEALER)
    socket.connect(processes.raw_addresses(directory)[0])

    def ask(number: int) -> None:
        socket.send(events.packed(number))
        socket.recv()

    pipe.send(durations(count, ask))
