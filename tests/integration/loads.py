"""What the tests of the bus' reliability share: sizes, child processes, and what those do."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import bus
from bus.config import Opts
from bus.journal import JournalReader, journal_path
from bus.wire import unpack_event
from tests.support import SECONDS

SOAK = bool(os.environ.get("REACTOR_SOAK"))
MB = 1 << 20
LOAD = "load/"


def scaled(short: int, long: int) -> int:
    """Return how much to do: in the suite, and with REACTOR_SOAK (`make soak`)."""
    return long if SOAK else short


def resident(pid: int | str = "self") -> int:
    """Return the bytes that a process has in memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"the process {pid} has no memory")


def descriptors(pid: int | str = "self") -> int:
    """Return how many file descriptors a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def journaled(opts: Opts) -> list[tuple[str, dict[str, Any]]]:
    """Return tag and data of all events; their numbers are whole."""
    with JournalReader(journal_path(opts["state_dir"])) as journal:
        rows = list(journal.scan())
    assert [seq for seq, _ in rows] == list(range(1, len(rows) + 1))
    return [unpack_event(raw) for _, raw in rows]


class Child:
    """A process that runs ``function(pipe, *args)``; `receive` returns what that sends."""

    def __init__(self, function: Callable[..., None], *args: Any) -> None:
        make = multiprocessing.get_context("spawn")
        self._pipe, theirs = make.Pipe()
        self._process = make.Process(target=function, args=(theirs, *args), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """The number of its process."""
        pid = self._process.pid
        assert pid
        return pid

    def receive(self, seconds: float = SECONDS) -> Any:
        """Return the next thing that it sent."""
        assert self._pipe.poll(seconds), f"process {self.pid} said nothing for {seconds:g} s"
        return self._pipe.recv()

    def has_said(self, seconds: float) -> bool:
        """Say whether there is something to `receive`, now or within some seconds."""
        return self._pipe.poll(seconds)

    def close(self) -> None:
        """End it, however it is."""
        self._process.kill()
        self._process.join()
        self._process.close()
        self._pipe.close()


@contextlib.contextmanager
def child(function: Callable[..., None], *args: Any) -> Iterator[Child]:
    """Run a function in a process of its own until the end of the block."""
    one = Child(function, *args)
    try:
        yield one
    finally:
        one.close()


class Heard(NamedTuple):
    """What a listener heard.

    Attributes:
        count: how many events.
        in_order: whether each number was greater than the one before.
        first: the first number.
        last: the last number.
        lost: how many events the listener says that it lost.
        seconds: from the first to the last.
    """

    count: int
    in_order: bool
    first: int
    last: int
    lost: int
    seconds: float


def listen(pipe: Connection, opts: Opts, since: int | None, last: int, silence: float) -> None:
    """Hear numbered events up to number ``last``; send "ready", and then what came of it.

    A listener from now on hears everything, and so knows what it lost.
    """
    with bus.connect("master", opts, timeout=SECONDS) as connection:
        tag = "*" if since is None else f"{LOAD}*"
        listening = connection.listen(tag, since=since, timeout=silence)
        pipe.send("ready")
        first = before = count = 0
        begun = end = 0.0
        in_order = True
        for event in listening:
            number = event.data["n"]
            end = time.perf_counter()
            begun, first = begun or end, first or number
            in_order = in_order and number > before
            before, count = number, count + 1
            if number >= last:
                break
        pipe.send(Heard(count, in_order, first, before, listening.lost, end - begun))


def fire(pipe: Connection, opts: Opts, name: str, first: int, last: int) -> None:
    """Fire events with these numbers, pipelined; send how many are in the journal, and the seconds."""
    with bus.connect("master", opts, timeout=SECONDS) as connection:
        text = "x" * 200
        pairs = ((f"{LOAD}{name}", {"n": n, "text": text}) for n in range(first, last + 1))
        begun = time.perf_counter()
        kept = connection.fire_events(pairs, timeout=60)
        pipe.send((kept, time.perf_counter() - begun))
