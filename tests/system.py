"""A whole system, run for real: `reactor up` in a folder of its own, for the tests of the whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import bus
from bus.config import master_config
from bus.record import Event

ROOT = Path(__file__).resolve().parents[1]

PARTS = ("bus", "link", "reactor", "minion", "http")
"""The processes below the supervisor's."""

READY_SECONDS = 40.0
EVENT_SECONDS = 30.0


class System:
    """A running `reactor up` with a minion ``web1``, in a folder of its own."""

    def __init__(self, folder: Path, arguments: Sequence[str], **environ: str) -> None:
        self.config = folder / ".reactor"
        self.mark = f"SYSTEM_RUN={uuid.uuid4().hex}"
        name, _, value = self.mark.partition("=")
        self.environ = {**os.environ, "PYTHONPATH": str(ROOT), **environ, name: value}
        self.log = folder / "up.log"
        if "--http-port" not in arguments:
            # The usual port can serve one test at a time.
            arguments = [*arguments, "--http-port", "0"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*_reactor("up"), "--config", str(self.config), "--id", "web1", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=self.environ,
            )

    def wait_ready(self) -> None:
        """Wait until all of it serves."""
        wait_until(lambda: (self.config / "minion").exists() or self.has_ended(), READY_SECONDS)
        status = subprocess.run(
            [*_reactor("status"), "--config", str(self.config), "--wait", str(READY_SECONDS)],
            capture_output=True,
            text=True,
            env=self.environ,
            check=False,
        )
        assert status.returncode == 0, status.stdout + status.stderr + self.log.read_text()

    def run(
        self, *arguments: str, code: int | None = 0, timeout: float = 30
    ) -> subprocess.CompletedProcess[str]:
        """Run a `reactor` command against this system and return what it printed."""
        command, *rest = arguments
        ended = subprocess.run(
            [*_reactor(command), "--config", str(self.config), *rest],
            capture_output=True,
            text=True,
            env=self.environ,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert code is None or ended.returncode == code, ended.stdout + ended.stderr
        return ended

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a `reactor` command that goes on; its output can be read line by line."""
        command, *rest = arguments
        return subprocess.Popen(
            [*_reactor(command), "--config", str(self.config), *rest],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environ,
            stdin=subprocess.DEVNULL,
        )

    def has_ended(self) -> bool:
        """Say whether the supervisor is gone."""
        return self.process.poll() is not None

    def fire(self, tag: str, data: dict[str, Any]) -> int:
        """Fire an event on the master's bus and return its number."""
        with bus.connect("master", master_config(self.config)) as events:
            return events.fire(tag, data)

    def expect(self, tag: str, after: int = 0, **values: Any) -> Event:
        """Return the first event after ``after`` with this tag and these values in its payload."""
        seen = []
        deadline = time.monotonic() + EVENT_SECONDS
        with bus.connect("master", master_config(self.config)) as events:
            listening = events.listen("*", since=after)
            while (left := deadline - time.monotonic()) > 0:
                event = listening.next(left)
                if event is None:
                    break
                seen.append(f"{event.seq} {event.tag} {event.payload}")
                payload = event.payload
                if event.tag == tag and all(payload.get(k) == v for k, v in values.items()):
                    return event
        pytest.fail(f"no {tag} with {values} came, but:\n" + "\n".join(seen))

    def events(self) -> list[Event]:
        """Return all events so far."""
        with bus.connect("master", master_config(self.config)) as events:
            return list(events.listen("*", since=0, timeout=0.2))

    def left_over(self) -> list[str]:
        """Return the processes that this run has started and that are still there."""
        return [path.name for path in Path("/proc").glob("[0-9]*") if self._is_ours(path)]

    def parts(self) -> dict[str, int]:
        """Return the process ids of the parts, by their names; those that are just there."""
        found = {}
        for pid in self.left_over():
            try:
                name = Path(f"/proc/{pid}/comm").read_text().strip().removeprefix("reactor-")
                parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
            except OSError:
                continue  # it has just ended
            if name in PARTS and parent == str(self.process.pid):
                found[name] = int(pid)
        return found

    def _is_ours(self, process: Path) -> bool:
        try:
            return self.mark.encode() in (process / "environ").read_bytes()
        except OSError:
            return False

    def stop(self) -> None:
        """End it with Ctrl-C's signal, clean and without leaving anything behind."""
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(10)
        assert status == 0, self.log.read_text()
        # A role that had to be killed leaves helpers that see so and end by themselves, soon.
        wait_until(lambda: not self.left_over())

    def kill(self) -> None:
        """Leave nothing behind, whatever went wrong."""
        for pid in self.left_over():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        self.process.wait(10)


def _reactor(command: str) -> list[str]:
    return [sys.executable, "-m", "reactor", command]


def wait_until(condition: Callable[[], bool], seconds: float = EVENT_SECONDS) -> None:
    """Look until ``condition`` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@contextmanager
def running(folder: Path, *arguments: str, **environ: str) -> Iterator[System]:
    """Run a system and stop it as Ctrl-C would."""
    system = System(folder, arguments, **environ)
    try:
        system.wait_ready()
        yield system
        system.stop()
    finally:
        system.kill()
