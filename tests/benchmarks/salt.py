"""``python -m tests.benchmarks.salt``: real Salt and ours, the same works in turn, in one run.

``make bench-salt`` installs Salt from the package index into an environment of its own. What that
takes: with 3008.3 nothing but ``pip install salt``, on Python 3.11; no pin had to be relaxed. Its
master runs as it does for its users, with our work's reactor file, in a folder that is removed.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bus.config import Opts
from bus.event import get_event
from tests.benchmarks import acked, events, latency, reaction, streams
from tests.benchmarks.figures import Goal, Row, Sample, Settings, interleave, percentiles, table
from tests.benchmarks.processes import PATIENCE, BenchmarkError, folder

ROOT = Path(__file__).resolve().parents[2]
SALT_BIN = ROOT / ".venv-salt" / "bin"

_START_SECONDS = 60.0
PACE = 50
"""Paced events a second, as in `salt_side`: what Salt's bus bears even on a slow machine."""

_CONFIG = """\
root_dir: {place}
sock_dir: {place}/s
pki_dir: {place}/pki
interface: 127.0.0.1
publish_port: {publish}
ret_port: {ret}
user: {user}
log_level: quiet
log_level_logfile: quiet
reactor:
  - 'react/event':
    - {place}/echo.sls
"""


class Side:
    """A process of `salt_side`, on Salt's own Python."""

    def __init__(self, config: Path, work: str, count: int) -> None:
        self._work = work
        self._process = subprocess.Popen(
            [SALT_BIN / "python", "-m", "tests.benchmarks.salt_side", config, work, str(count)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def receive(self, timeout: float = PATIENCE * 4) -> Any:
        """Return the next value that it wrote.

        Raises:
            BenchmarkError: it wrote none in time, or ended.
        """
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], timeout)[0]:
            raise BenchmarkError(f"Salt's {self._work} said nothing for {timeout:g} s")
        line = self._process.stdout.readline()
        if not line:
            raise BenchmarkError(f"Salt's {self._work} ended early")
        return json.loads(line)

    def close(self) -> None:
        """End it and what it started."""
        _end(self._process)


class Salt:
    """A running salt-master, and works on it."""

    def __init__(self, config: Path) -> None:
        self._config = config

    def start(self, stack: contextlib.ExitStack, work: str, count: int) -> Side:
        """Start a work of `salt_side`."""
        side = Side(self._config, work, count)
        stack.callback(side.close)
        return side

    def ask(self, work: str, count: int) -> Any:
        """Run a work that says one thing, and return that."""
        with contextlib.ExitStack() as stack:
            return self.start(stack, work, count).receive()

    def throughput(self, count: int) -> dict[str, float]:
        """Fire to one listener: events a second, and the milliseconds of a fire."""
        with contextlib.ExitStack() as stack:
            ear, fired = self._fire_at(stack, "hear", "fire", count)
            return {**_rate(ear, fired, count), **percentiles("fire_", fired["took"])}

    def paced(self, count: int) -> dict[str, float]:
        """Paced fire to a listener."""
        with contextlib.ExitStack() as stack:
            ear, _ = self._fire_at(stack, "hear_paced", "fire_paced", count)
            return percentiles("", ear.receive())

    def reactions(self, count: int, idle: int) -> dict[str, float]:
        """Reactions to a runner: a burst, and one by one."""
        with contextlib.ExitStack() as stack:
            ear, fired = self._fire_at(stack, "hear_returns", "fire_ids", count)
            figures = _rate(ear, fired, count)
        return {**figures, **percentiles("", self.ask("react_one_by_one", idle))}

    def _fire_at(
        self, stack: contextlib.ExitStack, ear_work: str, work: str, count: int
    ) -> tuple[Side, Any]:
        ear = self.start(stack, ear_work, count)
        ear.receive()
        return ear, self.start(stack, work, count).receive()


def _rate(ear: Side, fired: Mapping[str, Any], count: int) -> dict[str, float]:
    heard = ear.receive()
    if not heard["heard"]:
        raise BenchmarkError("Salt's listener heard nothing")
    seconds = heard["end"] - fired["begun"]
    return {"rate": heard["heard"] / seconds, "lost": float(count - heard["heard"])}


# -- a salt-master ------------------------------------------------------------------------


@contextlib.contextmanager
def salt_master() -> Iterator[tuple[Salt, str]]:
    """Run a salt-master in a folder of its own; gives it and its version.

    Raises:
        BenchmarkError: it does not serve.
    """
    with folder() as place:
        config = place / "master"
        ports = _free_ports()
        text = _CONFIG.format(place=place, user=getpass.getuser(), publish=ports[0], ret=ports[1])
        config.write_text(text)
        reaction.write_salt_file(place)
        master = subprocess.Popen(
            [SALT_BIN / "salt-master", "-c", place, "--disable-keepalive"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            salt = Salt(config)
            _await_socket(place / "s" / "master_event_pull.ipc", master)
            yield salt, salt.ask("ready", 0)
        finally:
            _end(master)


def _free_ports() -> list[int]:
    """Return two ports that were free a moment ago."""
    with socket.socket() as one, socket.socket() as two:
        for each in (one, two):
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in (one, two)]


def _await_socket(path: Path, master: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not path.exists():
        if master.poll() is not None or time.monotonic() > deadline:
            raise BenchmarkError(f"salt-master does not serve; status {master.poll()}")
        time.sleep(0.1)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads a session, with all that belongs to it."""
    for number, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    if process.stdout:
        process.stdout.close()


# -- both, side by side -------------------------------------------------------------------


def _fire_one_by_one(pipe: Connection, opts: Opts, count: int) -> None:
    """Fire everything as Salt's users write it, each acknowledged before the next."""
    with get_event("master", opts=opts, listen=False) as event:
        begun = time.perf_counter()
        for number in range(count):
            event.fire_event(events.payload(number), events.TAG)
    pipe.send(begun)


def _throughput(salt: Salt, settings: Settings) -> Iterator[Row]:
    few, many = settings.count(5_000), settings.count(200_000)
    single = settings.count(20_000)
    ways = {
        "salt": lambda: salt.throughput(few),
        "single": lambda: streams.ours(
            single, streams.hear_salt, publisher=_fire_one_by_one
        ).figures(),
        "native": lambda: streams.ours(many, streams.hear_since).figures(),
        "acked": lambda: acked._ours(acked._fire_salt, settings.count(2_000)),
    }
    found = interleave(settings.runs, ways)
    theirs = found["salt"]
    lost = f"Salt lost {theirs['lost'].median:,.0f} of {few:,}" if theirs["lost"].median else ""
    yield _row(
        "fire to one listener: fire_event -> get_event; ours durable",
        "/s",
        found["single"]["rate"],
        theirs["rate"],
        note=lost,
    )
    yield _row(
        "fire to one listener: ours fire_events -> listen(since=...)",
        "/s",
        found["native"]["rate"],
        theirs["rate"],
        Goal(of_salt=100),
    )
    yield _row(
        "one fire_event, p50; ours in the journal, Salt's handed over",
        "ms",
        found["acked"]["p50"],
        theirs["fire_p50"],
    )


def _fire_paced(_pipe: Connection, opts: Opts, count: int) -> None:
    with get_event("master", opts=opts, listen=False) as event:
        latency.paced(
            count, lambda n, at: event.fire_event(events.payload(n, at), events.TAG), PACE
        )


def _paced(salt: Salt, settings: Settings) -> Iterator[Row]:
    count = settings.count(200)
    ways = {
        "salt": lambda: salt.paced(count),
        "ours": lambda: latency._ours(count, _fire_paced, latency._hear_salt),
    }
    found = interleave(settings.runs, ways)
    for point in ("p50", "p99"):
        name = f"paced fire_event -> get_event, {PACE} a second, {point}"
        yield _row(name, "ms", found["ours"][point], found["salt"][point])


def _reactions(salt: Salt, settings: Settings) -> Iterator[Row]:
    few, many, idle = settings.count(500), settings.count(5_000), settings.count(100)
    ways = {
        "salt": lambda: salt.reactions(few, idle),
        "ours": lambda: reaction._measure(
            reaction._salt_reactor, reaction._SALT, many, reaction.MINIONS, idle
        ),
    }
    found = interleave(settings.runs, ways)
    ours, theirs = found["ours"], found["salt"]
    missing = theirs["lost"].median
    note = f"Salt: {missing:,.0f} of {few:,} did not come" if missing else ""
    yield _row(
        f"the same reactor file to a runner, burst of {many:,}, Salt's of {few:,}",
        "/s",
        ours["rate"],
        theirs["rate"],
        note=note,
    )
    for point in ("p50", "p99"):
        name = f"fire to the runner's return, idle, {point}"
        yield _row(name, "ms", ours[point], theirs[point])


def _row(
    name: str, unit: str, ours: Sample, theirs: Sample, goal: Goal | None = None, note: str = ""
) -> Row:
    return Row(name, unit, ours, salt=theirs.median, goal=goal, note=note)


_WORKS: tuple[Callable[[Salt, Settings], Iterator[Row]], ...] = (_throughput, _paced, _reactions)


def main(argv: Sequence[str] | None = None) -> int:
    """Run all works on both, and print both and the multiple."""
    parser = argparse.ArgumentParser("python -m tests.benchmarks.salt", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="repetitions of each figure (3)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, once")
    args = parser.parse_args(argv)
    settings = Settings(1 if args.quick else args.runs, args.quick)
    if not (SALT_BIN / "salt-master").exists():
        parser.error(f"there is no Salt in {SALT_BIN.parent}: 'make bench-salt' installs it")
    try:
        with salt_master() as (salt, version):
            print(f"Salt {version} and ours in turn; median of {settings.runs} runs.", flush=True)
            return max([_run(work, salt, settings) for work in _WORKS])
    except BenchmarkError as error:
        print(f"Salt's master does not run here: {error}")
        return 1


def _run(work: Callable[[Salt, Settings], Iterator[Row]], salt: Salt, settings: Settings) -> int:
    """Run one work; one that fails spares the others."""
    try:
        print("\n" + table(work(salt, settings)), flush=True)
    except (BenchmarkError, ValueError) as error:
        print(f"\n{work.__name__.strip('_')} could not be measured: {error}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
