"""Publisher and listeners around a bus, ours and a plain one: what several works share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import zmq

import bus
from bus.config import Opts
from bus.event import get_event
from tests.benchmarks import events
from tests.benchmarks.processes import (
    PATIENCE,
    Child,
    Group,
    folder,
    hand_over,
    raw_broker,
    raw_listener,
    raw_publisher,
    start_bus,
    write_master,
)

SILENCE = 3.0
"""Seconds without an event after which what has not come is lost."""

Listener = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Stream:
    """What came of one burst.

    Attributes:
        fired: how many events.
        heard: how many were decoded, by all listeners together.
        seconds: from before the first fire until the last was decoded by the slowest.
        lost: how many did not arrive, of all listeners together.
        cpu_seconds: processor time of publisher, bus and listeners, ZeroMQ's threads included.
        bus_seconds: processor time of the bus alone.
    """

    fired: int
    heard: int
    seconds: float
    lost: int
    cpu_seconds: float
    bus_seconds: float

    def figures(self) -> dict[str, float]:
        """Return the figures of this burst."""
        return {
            "rate": self.heard / self.seconds,
            "lost": float(self.lost),
            "cpu": self.cpu_seconds / self.heard * 1e6,
            "bus": self.bus_seconds / self.fired * 1e6,
        }


def ours(
    count: int, listener: Listener, listeners: int = 1, publisher: Listener | None = None
) -> Stream:
    """Fire ``count`` events at a bus with a journal."""
    with folder() as directory, Group() as group:
        opts = write_master(directory)
        broker = start_bus(group, opts)
        before = broker.cpu_seconds()
        ears = [group.start(listener, opts, count) for _ in range(listeners)]
        for ear in ears:
            ear.receive()
        firing = group.start(publisher or fire_all, opts, count)
        return _gather(count, firing, ears, broker, before)


def raw(count: int, listeners: int = 1) -> Stream:
    """Send ``count`` messages through a broker that keeps nothing."""
    with folder() as directory, Group() as group:
        broker = group.start(raw_broker, directory, listeners)
        broker.receive()
        ears = [group.start(hear_raw, directory, count) for _ in range(listeners)]
        broker.receive()
        for ear in ears:
            ear.receive()
        publisher = group.start(send_raw, directory, count)
        return _gather(count, publisher, ears, broker, 0.0)


def _gather(
    count: int, publisher: Child, ears: list[Child], broker: Child, cpu_before: float
) -> Stream:
    begun = publisher.receive()
    ends = [ear.receive() for ear in ears]
    heard = sum(number for _, number in ends)
    return Stream(
        fired=count,
        heard=heard,
        seconds=max(end for end, _ in ends) - begun,
        lost=count * len(ends) - heard,
        cpu_seconds=sum(each.cpu_seconds() for each in (publisher, broker, *ears)) - cpu_before,
        bus_seconds=broker.cpu_seconds() - cpu_before,
    )


# -- publishers ---------------------------------------------------------------------------


def fire_all(pipe: Connection, opts: Opts, count: int) -> None:
    """Fire everything, acknowledged; tell when it began."""
    with bus.connect("master", opts) as connection:
        begun = time.perf_counter()
        pairs = ((events.TAG, events.payload(number)) for number in range(count))
        kept = connection.fire_events(pairs, timeout=PATIENCE)
    if kept != count:
        raise RuntimeError(f"only {kept} of {count} events were acknowledged")
    pipe.send(begun)


def send_raw(pipe: Connection, directory: Path, count: int) -> None:
    """Send everything; tell when it began."""
    socket = raw_publisher(directory)
    send, pack = socket.send, events.packed
    begun = time.perf_counter()
    for number in range(count):
        send(pack(number))
    pipe.send(begun)
    hand_over()


# -- listeners: each sends "ready", then when it decoded the last event, and how many ---------


def hear_since(pipe: Connection, opts: Opts, count: int) -> None:
    """`listen(since=...)`: the journal fills what a slow reader would lose."""
    with bus.connect("master", opts) as connection:
        listening = connection.listen("bench/*", since=0, timeout=SILENCE)
        _count(pipe, (event.data for event in listening), count)


def hear_live(pipe: Connection, opts: Opts, count: int) -> None:
    """`listen()`: what comes, and what a slow reader loses is lost."""
    with bus.connect("master", opts) as connection:
        listening = connection.listen("bench/*", timeout=SILENCE)
        _count(pipe, (event.data for event in listening), count)


def hear_salt(pipe: Connection, opts: Opts, count: int) -> None:
    """`get_event`, as Salt's users write it."""
    with get_event("master", opts=opts) as event:
        next_one = iter(lambda: event.get_event(wait=SILENCE, tag="bench/"), None)
        _count(pipe, next_one, count)


def hear_raw(pipe: Connection, directory: Path, count: int) -> None:
    """Hear what a plain broker publishes."""
    socket = raw_listener(directory)
    pipe.send("ready")
    _receive_raw(pipe, socket, count)


def _receive_raw(pipe: Connection, socket: zmq.Socket[bytes], count: int) -> None:
    number, end = 0, 0.0
    receive, decode = socket.recv, events.unpacked
    socket.set(zmq.RCVTIMEO, int(SILENCE * 1000))
    try:
        while number < count:
            decode(receive())
            number += 1
            end = time.perf_counter()
    except zmq.Again:
        pass
    pipe.send((end, number))


def _count(pipe: Connection, source: Iterator[dict[str, Any]], count: int) -> None:
    number, end = 0, 0.0
    pipe.send("ready")
    for number, data in enumerate(source, 1):  # noqa: B007 - how many came is the figure
        end = time.perf_counter()
        if data["n"] == count - 1:
            break
    pipe.send((end, number))
