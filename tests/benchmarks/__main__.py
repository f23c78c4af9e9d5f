"""``python -m tests.benchmarks [NAME...]``: runs the benchmarks and prints their figures."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgpack
import zmq

from tests.benchmarks.figures import RULEBOOK, SALT, Row, Settings, table

WORKS = (
    "throughput",
    "latency",
    "acked",
    "fanout",
    "reaction",
    "job",
    "fleet",
    "cli",
    "matching",
    "reload",
    "memory",
    "eventstreams",
)
"""Each is a module here with a ``TITLE`` and a ``run(settings)`` that yields rows."""

_BUSY = 0.5


def main(argv: Sequence[str] | None = None) -> int:
    """Run the works that were named, or all."""
    args = _parse(argv)
    settings = Settings(args.runs or (1 if args.quick else 5), args.quick)
    host = _host()
    print(_describe(host, settings))
    results: dict[str, Any] = {}
    for name in args.names or WORKS:
        results[name] = _run(name, settings)
    if args.json:
        report = {"host": host, "salt": SALT, "runs": settings.runs, "works": results}
        args.json.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if any("error" in result for result in results.values()) else 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(WORKS))
    parser.add_argument("--runs", type=int, help="repetitions of each figure (5)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, once")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    args = parser.parse_args(argv)
    for name in args.names:
        if name not in WORKS:
            parser.error(f"no work is called {name!r}: give some of {', '.join(WORKS)}")
    if args.runs is not None and args.runs < 1:
        parser.error(f"--runs {args.runs}: give at least 1")
    return args


def _run(name: str, settings: Settings) -> dict[str, Any]:
    """Run one work; one that fails spares the others."""
    work = importlib.import_module(f"tests.benchmarks.{name}")
    begun = time.monotonic()
    print(f"\n{name}: {work.TITLE}", flush=True)
    try:
        rows: list[Row] = list(work.run(settings))
    except Exception as error:  # the boundary of a work: the others are to be measured
        print(f"  FAILED: {type(error).__name__}: {error}", flush=True)
        return {"error": f"{type(error).__name__}: {error}"}
    print(table(rows))
    seconds = time.monotonic() - begun
    print(f"  ({seconds:.0f} s)", flush=True)
    return {"title": work.TITLE, "seconds": seconds, "rows": [row.as_json() for row in rows]}


def _host() -> dict[str, Any]:
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
        "pyzmq": zmq.__version__,
        "libzmq": zmq.zmq_version(),
        "msgpack": ".".join(map(str, msgpack.version)),
    }


def _describe(host: dict[str, Any], settings: Settings) -> str:
    lines = [
        f"Python {host['python']}, pyzmq {host['pyzmq']}, libzmq {host['libzmq']}",
        f"{host['cpus']} CPUs, {host['system']}",
        f"Median of {settings.runs} runs, raw and ours in turn; min .. max are ours.",
        f"Salt: {SALT}.",
        f"ansible-rulebook: {RULEBOOK}.",
    ]
    if host["load"] > _BUSY:
        lines.append(
            f"NOTE: the load is {host['load']:.1f} before anything began: others use this machine, "
            "so read the ratios, not the figures."
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
