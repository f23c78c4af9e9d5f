"""Rules that change under load: whatever is saved how, every event meets one whole set of rules.

Real files, the real reloader, a reactor in a process of its own, and seeded random changes. Short
in the suite; `make soak` sets REACTOR_SOAK.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path

import pytest

import bus
from bus import endpoints
from bus.journal import JournalReader, journal_path
from bus.record import Event
from reactor.engine import process
from tests.integration.loads import scaled
from tests.support import master_options, running_bus, running_role, wait_for

STEPS = scaled(80, 1500)
BATCH = 20
PAUSE = 0.02
"""Seconds between two batches: each event has seven reactions, on whatever host this runs."""
EACH = 7

STABLE = f"""
always:
  on: load
  do: [{{event: out/always, data: {{n: "{{{{ data.n }}}}"}}}}]
counted:
  on: load
  count: {{at_least: {EACH}, within: 1h, by: data.n % 3, reset: true}}
  do: [{{event: out/counted, data: {{n: "{{{{ data.n }}}}"}}}}]
queued:
  on: load
  mode: queued
  by: data.n % 3
  do: [{{event: out/queued, data: {{n: "{{{{ data.n }}}}"}}}}]
"""


def _rule(name, version):
    data = f'{{n: "{{{{ data.n }}}}", version: {version}}}'
    return f"{name}:\n  on: load\n  do: [{{event: out/{name}, data: {data}}}]\n"


class Files:
    """The folder of rules, and everything that people and programs do to it."""

    def __init__(self, place, seed):
        self.rules = place / "rules"
        self._hidden = place / "hidden"
        self._chance = random.Random(seed)
        self._version = 0
        self._mover = self.rules / "m0.yaml"
        for folder in (self.rules, self._hidden):
            folder.mkdir()
        (self.rules / "stable.yaml").write_text(STABLE)
        self._save(self._mover, _rule("mover", 0))
        self._save(self.rules / "edited.yaml", _rule("edited", 0))
        self.switch()

    def step(self):
        """Do one thing of those that happen."""
        self._version += 1
        self._chance.choice(
            (self.switch, self.move, self.replace, self.edit, self.spoil, self.noise, self.touch)
        )()

    def switch(self):
        """Let a link point to another folder, as deployments do: two files change at once."""
        folder = self._hidden / f"v{self._version}"
        folder.mkdir()
        for name in ("first", "second"):
            (folder / f"{name}.yaml").write_text(_rule(name, self._version))
        link = self._hidden / "link"
        link.symlink_to(folder)
        link.replace(self.rules / "set")

    def move(self):
        """Give a file another name."""
        target = self.rules / f"m{self._chance.randrange(100)}.yaml"
        self._mover = self._mover.rename(target)

    def replace(self):
        """Save a file as editors do: beside it, and over it."""
        self._save(self._mover, _rule("mover", self._version))

    def edit(self):
        """Write into a file in place, in one go."""
        text = _rule("edited", self._version).encode()
        with (self.rules / "edited.yaml").open("rb+") as file:
            file.write(text)

    def spoil(self):
        """Break a file for a while: its last good version stays in force."""
        edited = self.rules / "edited.yaml"
        self._save(edited, "edited: {on: [\n")
        time.sleep(self._chance.choice((0, 0.05, 0.2)))
        self._save(edited, _rule("edited", self._version))

    def noise(self):
        """Add rules about other things, some of them broken, and take others away."""
        for number in range(self._chance.randrange(1, 20)):
            path = self.rules / f"noise{number}.yaml"
            if path.exists():
                path.unlink()
            else:
                text = _rule("noise", self._version).replace("on: load", "on: noise")
                path.write_text(self._chance.choice((text, text + "broken: {on: 5}\n")))

    def touch(self):
        """Change times and nothing else."""
        for path in self.rules.glob("*.yaml"):
            path.touch()

    def _save(self, path, text):
        fresh = self._hidden / "fresh"
        fresh.write_text(text)
        fresh.replace(path)


class Load(threading.Thread):
    """Fires numbered events at a steady pace, until it is told to stop."""

    def __init__(self, opts):
        super().__init__()
        self._opts = opts
        self._over = threading.Event()
        self.kept = 0

    def run(self):
        with bus.connect("master", self._opts, timeout=20) as events:
            while not self._over.wait(PAUSE):
                numbers = range(self.kept + 1, self.kept + 1 + BATCH)
                self.kept += events.fire_events((("load", {"n": n}) for n in numbers), timeout=60)

    def stop(self):
        self._over.set()
        self.join()


def _journal(opts):
    with JournalReader(journal_path(opts["state_dir"])) as journal:
        return [Event.from_wire(raw, seq, journal.bus_id) for seq, raw in journal.scan()]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(scaled(1, 5)))
def test_every_event_meets_one_whole_set(place, seed):
    """None is lost and none done twice; what belongs together is never of two versions."""
    files = Files(Path(place), seed)
    (Path(place) / "master").write_text("rules: [rules]\n")
    opts = master_options(place)
    with (
        running_bus(opts),
        running_role(process.run, opts, endpoints.master_reactor(opts)) as role,
    ):
        load = Load(opts)
        load.start()
        try:
            _change_under_load(files, load, role)
        finally:
            load.stop()
        wait_for(lambda: _is_idle(role), "the reactor", 300)
        events = _journal(opts)
    numbers = [event.data["n"] for event in events if event.tag == "load"]
    assert len(numbers) == load.kept
    reloads = [event for event in events if event.tag == "reactor/rules/reloaded"]
    assert len(reloads) > 3, "nothing was changed under load"
    found = {
        name: [event.data for event in events if event.tag == f"out/{name}"]
        for name in ("always", "counted", "queued", "mover", "edited", "first", "second")
    }
    for name in ("always", "queued", "mover", "edited", "first", "second"):
        assert Counter(data["n"] for data in found[name]) == Counter(numbers), name
    assert sorted(data["n"] for data in found["counted"]) == sorted(_each(numbers))
    assert not [event.tag for event in events if event.tag.endswith(("/failed", "/dead"))]
    for name in ("mover", "edited", "first"):
        versions = [data["version"] for data in sorted(found[name], key=lambda data: data["n"])]
        assert versions == sorted(versions), name
    second = {data["n"]: data["version"] for data in found["second"]}
    assert {data["n"]: data["version"] for data in found["first"]} == second


def _change_under_load(files, load, role):
    pace = random.Random(0)
    for _ in range(STEPS):
        enough = load.kept + BATCH
        wait_for(lambda enough=enough: load.kept >= enough, "the load", 60)
        for _ in range(pace.choice((1, 1, 3))):
            files.step()
        if pace.random() < 0.3:  # let it come into force; else the next change comes before
            version = role.call("status")["seq"]
            wait_for(lambda version=version: role.call("status")["seq"] > version, "it", 60)


def _is_idle(role):
    status = role.call("status")
    return not (status["behind"] or status["under_way"] or status["waiting"])


def _each(numbers):
    """Return the numbers that complete a count."""
    seen, complete = defaultdict(int), []
    for number in numbers:
        seen[number % 3] += 1
        if seen[number % 3] % EACH == 0:
            complete.append(number)
    return complete
