"""A thousand rule files: from saving one, or all, until the new versions are in force."""

from __future__ import annotations

import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import bus
from bus.config import Opts
from bus.listening import Listening
from tests.benchmarks import processes
from tests.benchmarks.figures import Goal, Row, Settings, interleave

TITLE = "hot reload"
FILES = 1_000
RELOADED = "reactor/rules/reloaded"


def run(settings: Settings) -> Iterator[Row]:
    """Measure both on one reactor, one after the other."""
    with processes.folder() as directory, processes.Group() as group:
        rules = directory / "rules"
        rules.mkdir()
        for number in range(FILES):
            _save(rules, number, 0)
        opts = processes.write_master(directory, "rules: [rules]\n")
        processes.start_bus(group, opts)
        processes.start_reactor(group, opts)
        saver = group.start(_saver, opts, rules)
        ways = {"one": lambda: _ask(saver, 1), "all": lambda: _ask(saver, FILES)}
        samples = interleave(settings.runs, ways)
    yield Row(f"{FILES:,} files, one saved", "s", samples["one"]["active"], goal=Goal(0.3))
    yield Row(f"{FILES:,} files, all saved", "s", samples["all"]["active"])


def _ask(saver: processes.Child, count: int) -> dict[str, float]:
    saver.send(count)
    return {"active": saver.receive()}


def _saver(pipe: Connection, opts: Opts, rules: Path) -> None:
    """Save as many files as asked for, and send the seconds from the last save on."""
    with bus.connect("master", opts) as connection:
        listening = connection.listen(RELOADED)
        for version in range(1, 1_000_000):
            numbers = range(pipe.recv())
            for number in numbers:
                _save(rules, number, version)
            saved = time.perf_counter()
            _await_changed(listening, {f"rule{number}" for number in numbers})
            pipe.send(time.perf_counter() - saved)


def _await_changed(listening: Listening, names: set[str]) -> None:
    left = set(names)
    while left:
        event = listening.next(processes.PATIENCE / 2)
        if event is None:
            raise RuntimeError(f"{len(left)} changed rules did not become active")
        left -= set(event.data["changed"])


def _save(rules: Path, number: int, version: int) -> None:
    """Write a rule file as editors do: beside it, and then in its place."""
    draft = rules / f".rule{number}"
    draft.write_text(
        f"rule{number}:\n"
        f"  on: app{number}/*/done\n"
        f"  when: data.version != {version}\n"
        "  do:\n"
        f"    - event: seen/app{number}\n"
        f'      data: {{"id": "{{{{ data.id }}}}", "version": {version}}}\n'
    )
    draft.replace(rules / f"rule{number}.yaml")
