"""From an event to what the reactor did about it: bursts, and one by one on an idle system."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import bus
from bus.config import Opts
from tests.benchmarks import events, processes
from tests.benchmarks.figures import Goal, Row, Settings, interleave, percentiles

TITLE = "reactions"

_SALT_FILE = """\
echo_the_id:
  runner.test.arg:
    - args:
      - id: {{ data['id'] }}
"""

_NATIVE_FILE = f"""\
answer:
  on: {events.TAG}
  do:
    - event: bench-done/event
      data: {{"id": "{{{{ data.id }}}}"}}
"""

_REFUSING_FILE = "".join(
    f"""\
refuse{number}:
  on: {events.TAG}
  when: data.id == 'web{number}' and data.fun == 'service.status'
  do: [{{event: never}}]
"""
    for number in range(4)
)

_SALT, _NATIVE = "salt/run/*/ret", "bench-done/event"
MINIONS = 100


def run(settings: Settings) -> Iterator[Row]:
    """Measure Salt-style and native reactions."""
    burst, idle = settings.count(5_000), settings.count(200)
    ways = {
        "salt": lambda: _measure(_salt_reactor, _SALT, burst, MINIONS, idle),
        "distinct": lambda: _measure(_salt_reactor, _SALT, burst, burst, 0),
        "refusing": lambda: _measure(_refusing_reactor, _NATIVE, burst * 4, MINIONS, 0),
        "native": lambda: _measure(_native_reactor, _NATIVE, burst * 4, MINIONS, idle),
    }
    samples = interleave(settings.runs, ways)
    yield Row(
        f"Salt-style to a runner, burst of {burst:,} from {MINIONS} minions",
        "/s",
        samples["salt"]["rate"],
        salt=65,
        goal=Goal(10_000),
    )
    yield Row(
        f"Salt-style to a runner, burst of {burst:,}, each rendered file another",
        "/s",
        samples["distinct"]["rate"],
        salt=65,
        goal=Goal(10_000),
    )
    yield Row(
        f"native to an event, burst of {burst * 4:,}",
        "/s",
        samples["native"]["rate"],
        rulebook=3_165,
        goal=Goal(30_000),
    )
    yield Row(
        f"the same beside four rules whose 'when' is false, burst of {burst * 4:,}",
        "/s",
        samples["refusing"]["rate"],
    )
    for way, name in (("salt", "Salt-style to a runner's return"), ("native", "native to event")):
        yield Row(f"{name}, idle, p50", "ms", samples[way]["p50"], salt=8.3, goal=Goal(1.0))
        yield Row(f"{name}, idle, p99", "ms", samples[way]["p99"])


def _measure(
    configure: Callable[[Path], str], answer: str, burst: int, ids: int, idle: int
) -> dict[str, float]:
    with processes.folder() as directory, processes.Group() as group:
        opts = processes.write_master(directory, configure(directory))
        processes.start_bus(group, opts)
        processes.start_reactor(group, opts)
        figures = {"rate": _burst(group, opts, answer, burst, ids)}
        if idle:
            late = group.start(one_by_one, opts, answer, idle).receive()
            figures |= percentiles("", late)
        return figures


def write_salt_file(directory: Path) -> None:
    """Write the reactor file ``echo.sls``, for whichever reactor reads it."""
    (directory / "echo.sls").write_text(_SALT_FILE)


def _salt_reactor(directory: Path) -> str:
    write_salt_file(directory)
    return f"reactor:\n  - '{events.TAG}':\n    - {directory}/echo.sls\n"


def _native_reactor(directory: Path) -> str:
    (directory / "answer.yaml").write_text(_NATIVE_FILE)
    return f"rules: [{directory}/answer.yaml]\n"


def _refusing_reactor(directory: Path) -> str:
    rules = _native_reactor(directory)
    (directory / "refuse.yaml").write_text(_REFUSING_FILE)
    return rules.replace("]", f", {directory}/refuse.yaml]")


def _burst(group: processes.Group, opts: Opts, answer: str, count: int, ids: int) -> float:
    ear = group.start(_hear_answers, opts, answer, count)
    ear.receive()
    begun = group.start(fire_ids, opts, count, ids).receive()
    end, heard = ear.receive()
    if heard != count:
        raise RuntimeError(f"{heard} answers to {count} events")
    return count / (end - begun)


def fire_ids(pipe: Connection, opts: Opts, count: int, ids: int) -> None:
    """Fire events whose data names one of so many minions; tell when it began."""
    with bus.connect("master", opts) as connection:
        begun = time.perf_counter()
        pairs = (
            (events.TAG, {"id": f"minion{number % ids}", **events.payload(number)})
            for number in range(count)
        )
        connection.fire_events(pairs, timeout=processes.PATIENCE)
    pipe.send(begun)


def _hear_answers(pipe: Connection, opts: Opts, answer: str, count: int) -> None:
    with bus.connect("master", opts) as connection:
        # Not since=...: whoever watches should hear nothing but the answers, and cost little.
        listening = connection.listen(answer, timeout=10)
        pipe.send("ready")
        heard = sum(1 for _, _ in zip(range(count), listening, strict=False))
        end = time.perf_counter()
        extra = listening.next(0.1)
    pipe.send((end, heard + (extra is not None)))


def one_by_one(pipe: Connection, opts: Opts, answer: str, count: int) -> None:
    """Fire one event, wait for what it led to, and again; send the seconds of each."""
    late = []
    with bus.connect("master", opts) as connection:
        listening = connection.listen(answer, timeout=10)
        for number in range(count):
            begun = time.perf_counter()
            connection.fire(events.TAG, {"id": f"minion{number}", **events.payload(number)})
            next(listening)
            late.append(time.perf_counter() - begun)
    pipe.send(late)
