"""The wall time of `reactor fire`, beside a bare interpreter and one with what no bus can miss."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from functools import partial

from tests.benchmarks import processes
from tests.benchmarks.figures import Goal, Row, Settings, interleave

TITLE = "one-shot programs, wall time"


def run(settings: Settings) -> Iterator[Row]:
    """Measure each program in turn, ten times a run."""
    with processes.bus() as (_, opts):
        fire = ["fire", "--config", str(opts["config_dir"]), "bench/event", "number=1"]
        commands = {
            "pass": [sys.executable, "-c", "pass"],
            "imports": [sys.executable, "-c", "import zmq, msgpack"],
            "fire": [*processes.program(), *fire],
        }
        ways = {name: partial(_wall, command) for name, command in commands.items()}
        samples = interleave(settings.count(10 * settings.runs), ways)
    ours = samples["fire"]["wall"]
    for name, versus in (
        ("imports", "python -c 'import zmq, msgpack'"),
        ("pass", "python -c pass"),
    ):
        # Salt's own took 550 to 790 ms; the better one counts.
        yield Row(
            "reactor fire",
            "ms",
            ours,
            samples[name]["wall"],
            versus=versus,
            salt=550,
            goal=Goal(150),
        )


def _wall(command: list[str]) -> dict[str, float]:
    begun = time.perf_counter()
    processes.output_of(command)
    return {"wall": (time.perf_counter() - begun) * 1000}
