"""The processes that are measured: forked children with a pipe, buses, reactors, `reactor up`."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

import zmq

from bus import endpoints
from bus.config import Opts, master_config, minion_config

PATIENCE = 60.0
"""Seconds after which a measurement has failed; none takes half as long."""

_REPOSITORY = Path(__file__).resolve().parents[2]
_FORK = multiprocessing.get_context("fork")
_PROGRAM = "import sys; from reactor.cli import main; sys.argv[0] = 'reactor'; main()"
"""What the installed script ``reactor`` does, for when the package is not installed."""


class BenchmarkError(Exception):
    """Something could not be measured."""


class Child:
    """A forked process that runs ``function(pipe, *args)``; `receive` returns what it sends."""

    def __init__(self, function: Callable[..., None], *args: Any) -> None:
        self.name = function.__name__
        self._pipe, theirs = _FORK.Pipe()
        self._process = _FORK.Process(target=_run, args=(theirs, function, args), daemon=True)
        self._process.start()
        theirs.close()

    def receive(self, timeout: float = PATIENCE) -> Any:
        """Return the next thing that it sent.

        Raises:
            BenchmarkError: nothing came in time, or it failed.
        """
        if not self._pipe.poll(timeout):
            raise BenchmarkError(f"{self.name} said nothing for {timeout:g} s")
        try:
            value = self._pipe.recv()
        except EOFError as error:
            raise BenchmarkError(f"{self.name} ended early") from error
        if isinstance(value, _Failure):
            raise BenchmarkError(f"{self.name}: {value.text}")
        return value

    def send(self, value: Any) -> None:
        """Hand it something."""
        self._pipe.send(value)

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._process.pid or 0

    def cpu_seconds(self) -> float:
        """Return the processor time that it has used, ended or not."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """End it: with SIGTERM, and if it does not follow, with SIGKILL."""
        self._process.terminate()
        self._process.join(3)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._pipe.close()


class _Failure:
    def __init__(self, text: str) -> None:
        self.text = text


def _run(pipe: Connection, function: Callable[..., None], args: tuple[Any, ...]) -> None:
    logging.disable(logging.WARNING)  # a burst would be a burst of log lines
    try:
        function(pipe, *args)
    except Exception as error:  # the boundary of a process: its parent is to know
        pipe.send(_Failure(f"{type(error).__name__}: {error}"))


class Group:
    """Children that end together, the last one first."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()

    def start(self, function: Callable[..., None], *args: Any) -> Child:
        """Start a child."""
        child = Child(function, *args)
        self._stack.callback(child.stop)
        return child

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Give a new directory with a short path, and take it away again."""
    path = Path(tempfile.mkdtemp(prefix="rb-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


# -- a bus, a reactor ---------------------------------------------------------------------


def write_master(directory: Path, text: str = "") -> Opts:
    """Write a master's configuration and return its options."""
    (directory / "master").write_text(f"interface: 127.0.0.1\nlog_level: error\n{text}")
    return master_config(directory)


@contextlib.contextmanager
def bus() -> Iterator[tuple[Group, Opts]]:
    """Run a master's bus, with a journal, in a process of its own."""
    with folder() as directory, Group() as group:
        opts = write_master(directory)
        start_bus(group, opts)
        yield group, opts


def start_bus(group: Group, opts: Opts) -> Child:
    """Start a master's bus and wait until it serves."""
    child = group.start(_bus, opts)
    _await_answer(endpoints.master_pull(opts))
    return child


def start_link(group: Group, opts: Opts) -> Child:
    """Start a master's link server and wait until it serves."""
    child = group.start(_link, opts)
    _await_answer(endpoints.master_link(opts))
    return child


def start_reactor(group: Group, opts: Opts) -> Child:
    """Start a master's reactor and wait until it serves."""
    child = group.start(_reactor, opts)
    _await_answer(endpoints.master_reactor(opts))
    return child


def _bus(_pipe: Connection, opts: Opts) -> None:
    from bus.broker import process
    from bus.stopping import Stop

    process.run(opts, Stop().install())


def _link(_pipe: Connection, opts: Opts) -> None:
    from bus.link.server import LinkServer
    from bus.stopping import Stop

    LinkServer(opts).run(Stop().install())


def _reactor(_pipe: Connection, opts: Opts) -> None:
    from bus.stopping import Stop
    from reactor.engine import process

    process.run(opts, Stop().install())


def _await_answer(address: str) -> None:
    """Wait until a server answers; asked from a child, so that this process has no sockets."""
    with Group() as group:
        group.start(_ask, address).receive()


def _ask(pipe: Connection, address: str) -> None:
    from bus import rpc
    from bus.errors import NotRunningError

    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            pipe.send(rpc.call(address, "ping", {}, timeout=0.5))
        except NotRunningError:
            time.sleep(0.01)
        else:
            return


# -- all of it ----------------------------------------------------------------------------


@contextlib.contextmanager
def up(rules: Mapping[str, str] | None = None) -> Iterator[tuple[Opts, Opts, int]]:
    """Run ``reactor up`` in a directory of its own until the end of the block.

    Args:
        rules: native rule files, name to text.

    Returns:
        The master's options, the minion's, and the number of the first process.
    """
    with folder() as directory:
        (directory / "rules").mkdir(mode=0o700)
        for name, text in (rules or {}).items():
            (directory / "rules" / name).write_text(text)
        started = _start_up(directory)
        try:
            reactor("--config", str(directory), "status", "--wait", "30")
            yield master_config(directory), minion_config(directory), started.pid
        finally:
            _end(started)


def _start_up(directory: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*program(), "up", "--config", str(directory), "--id", "bench", "--quiet"],
        cwd=directory,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def program() -> list[str]:
    """Return the command line that begins with ``reactor``."""
    script = Path(sys.executable).with_name("reactor")
    return [str(script)] if script.exists() else [sys.executable, "-c", _PROGRAM]


def environment() -> dict[str, str]:
    """Return an environment in which our packages are found, and no other configuration is."""
    kept = {key: value for key, value in os.environ.items() if key != "REACTOR_CONFIG_DIR"}
    return {**kept, "PYTHONPATH": str(_REPOSITORY)}


def reactor(*args: str) -> str:
    """Run a ``reactor`` command and return what it printed.

    Raises:
        BenchmarkError: it failed.
    """
    return output_of([*program(), *args])


def output_of(command: list[str]) -> str:
    """Run a command and return what it printed.

    Raises:
        BenchmarkError: it failed.
    """
    done = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    if done.returncode:
        raise BenchmarkError(f"{' '.join(command[-3:])}: {done.stderr.strip() or done.returncode}")
    return done.stdout


# -- plain ZeroMQ -------------------------------------------------------------------------


def raw_socket(kind: int) -> zmq.Socket[bytes]:
    """Return a socket that drops nothing before memory ends."""
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(kind)
    socket.set(zmq.SNDHWM, 0)
    socket.set(zmq.RCVHWM, 0)
    return socket


def raw_addresses(directory: Path) -> tuple[str, str]:
    """Return where `raw_broker` takes messages and where it publishes them."""
    return f"ipc://{directory}/pull", f"ipc://{directory}/pub"


def raw_broker(pipe: Connection, directory: Path, listeners: int) -> None:
    """Pass on what comes in, once so many listeners have subscribed: no journal, no answer."""
    pull_address, pub_address = raw_addresses(directory)
    pull, pub = raw_socket(zmq.PULL), raw_socket(zmq.XPUB)
    pub.set(zmq.XPUB_VERBOSE, 1)
    pull.bind(pull_address)
    pub.bind(pub_address)
    pipe.send("bound")
    for _ in range(listeners):
        pub.recv()
    pipe.send("subscribed")
    receive, send = pull.recv, pub.send
    while True:
        send(receive())


def raw_listener(directory: Path) -> zmq.Socket[bytes]:
    """Return a socket that hears what `raw_broker` publishes."""
    socket = raw_socket(zmq.SUB)
    socket.connect(raw_addresses(directory)[1])
    socket.subscribe(b"bench/")
    return socket


def raw_publisher(directory: Path) -> zmq.Socket[bytes]:
    """Return a socket that hands messages to `raw_broker`."""
    socket = raw_socket(zmq.PUSH)
    socket.connect(raw_addresses(directory)[0])
    return socket


def hand_over() -> None:
    """Wait until all that was sent has left this process."""
    zmq.Context.instance().destroy(linger=int(PATIENCE * 1000))
