"""What tests share: a configuration in a short directory, roles in processes, and waiting.

Plain context managers, for fixtures and for scripts alike::

    with temporary_directory() as place, running_bus(master_options(place)) as running:
        ...
        running.kill()
        running.start()
"""

import contextlib
import multiprocessing
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import zmq

from bus import endpoints, rpc
from bus.broker import process as broker_process
from bus.config import Opts, master_config, minion_config
from bus.errors import BusError
from bus.stopping import Stop

SECONDS = 40.0
"""The longest that anything may take here; every wait ends as soon as it can."""


def wait_for(condition: Callable[[], Any], what: str = "it", seconds: float = SECONDS) -> Any:
    """Return what ``condition`` returns as soon as that is true.

    Raises:
        AssertionError: it does not become true in time.
    """
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.005)
    return found


def open_descriptors(pid: int | str = "self") -> int:
    """Return how many file descriptors a process, by default this one, has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@contextlib.contextmanager
def temporary_directory() -> Iterator[Path]:
    """Make a directory whose path is short enough for socket files, and remove it."""
    place = Path(tempfile.mkdtemp(prefix="rb-", dir="/tmp"))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def master_options(place: Path, **changes: Any) -> Opts:
    """Return the options of a master whose every directory is inside ``place``."""
    return master_config(place).with_(**changes)


def minion_options(place: Path, minion_id: str = "m1", **changes: Any) -> Opts:
    """Return the options of a minion whose every directory is inside ``place``."""
    return minion_config(place).with_(id=minion_id, **changes)


def _serve(run: Callable[[Mapping[str, Any], Stop], None], opts: Mapping[str, Any]) -> None:
    stop = Stop().install()
    try:
        run(opts, stop)
    finally:
        stop.close()


class Running:
    """A role in a process of its own.

    Args:
        run: ``run(opts, stop)`` of the role, importable by its module and name.
        opts: the options.
        address: where it answers ``ping``.
    """

    def __init__(
        self, run: Callable[[Mapping[str, Any], Stop], None], opts: Mapping[str, Any], address: str
    ) -> None:
        self.opts = opts
        self.address = address
        self._run = run
        self._process: Any = None

    @property
    def pid(self) -> int:
        """The process id."""
        pid: int = self._process.pid
        return pid

    def start(self) -> None:
        """Start it and wait until it answers."""
        # Spawned, not forked: the test process has threads and sockets.
        make = multiprocessing.get_context("spawn").Process
        self._process = make(target=_serve, args=(self._run, self.opts), daemon=True)
        self._process.start()
        wait_for(self._answers, f"an answer at {self.address}")

    def _answers(self) -> bool:
        assert self._process.is_alive(), f"it ended with status {self._process.exitcode}"
        with contextlib.suppress(BusError):
            return bool(rpc.call(self.address, "ping", timeout=0.5))
        return False

    def call(self, method: str, **params: Any) -> Any:
        """Ask it something."""
        return rpc.call(self.address, method, params)

    def stop(self) -> int:
        """Ask it to end and return its exit status."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it, as a crash would."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Kill it and start it again."""
        self.kill()
        self.start()

    def _end(self, number: int) -> int:
        if self._process is None:
            return 0
        os.kill(self._process.pid, number)
        self._process.join(SECONDS)
        status = self._process.exitcode
        if status is None:
            self._process.kill()
            self._process.join()
        self._process.close()
        self._process = None
        assert status is not None, "it did not end when it was asked to"
        return int(status)


@contextlib.contextmanager
def running_role(
    run: Callable[[Mapping[str, Any], Stop], None], opts: Mapping[str, Any], address: str
) -> Iterator[Running]:
    """Run any role of the house in a process and end it clean."""
    running = Running(run, opts, address)
    try:
        running.start()
        yield running
    finally:
        status = running.stop()
    assert status == 0, f"it ended with status {status}"


@contextlib.contextmanager
def running_bus(opts: Mapping[str, Any]) -> Iterator[Running]:
    """Run the bus role of a master."""
    with running_role(broker_process.run, opts, endpoints.master_pull(opts)) as running:
        yield running


def free_ports(count):
    """Return ports that were free a moment ago, all different."""
    with ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in found:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in found]


@contextlib.contextmanager
def answering(server):
    """Have a thread answer the calls of an `rpc.Server`, which stays open after it."""
    ended = threading.Event()
    poller = zmq.Poller()
    poller.register(server.socket, zmq.POLLIN)

    def serve():
        while not ended.is_set():
            if poller.poll(20):
                server.handle()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield server
    finally:
        ended.set()
        thread.join(10)


def on_ports(opts):
    """Return a master's options with ports of loopback in place of socket files."""
    names = ("tcp_pub_port", "tcp_pull_port", "tcp_fires_port")
    return opts.with_(ipc_mode="tcp", **dict(zip(names, free_ports(len(names)), strict=True)))


def need(condition: object, reason: str) -> None:
    """Skip a test that this host cannot run; where ``CI`` is set, the host has to be able to."""
    if not condition:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
