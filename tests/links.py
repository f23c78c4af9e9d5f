"""A master's bus and link, and minions, each in a process of its own, for tests of the link.

The same code as under `reactor master` and `reactor minion`, without the rest of a master. With
``quick`` the link's own times are a fraction of the real ones, so that a test of what happens
after a silence takes seconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import multiprocessing
import os
import random
import resource
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import bus.event
from bus import endpoints, jid, rpc
from bus.broker import process as broker_process
from bus.client import LocalClient
from bus.config import Opts
from bus.errors import BusError
from bus.keys import Keypair, KeyStore, fingerprint
from bus.link import connection, departures, held, outbox, owing, port, server, vigil
from bus.minion.daemon import Minion
from bus.stopping import Stop
from tests.integration.loads import journaled
from tests.support import Running, master_options, minion_options, wait_for

NOTE = """\
def once(path, text):
    with open(path, "a") as file:
        file.write(f"{text}\\n")
    return text
"""
"""A function of the minions that leaves a trace of each time that it runs."""

QUICK: dict[Any, dict[str, float]] = {
    connection: {"KEEPALIVE_SECONDS": 1, "HANDSHAKE_MS": 1_000},
    port: {"HANDSHAKE_MS": 1_000, "KEEPALIVE_SECONDS": 3},
    server: {"PRUNE_SECONDS": 0.2},
    departures: {"ANYWAY_SECONDS": 1.0, "SILENT_SECONDS": 3.0},
    vigil: {
        "PING_SECONDS": 0.5,
        "SILENCE_SECONDS": 4.0,
        "ADMISSION_SECONDS": 4.0,
        "FAILOVER_SECONDS": 1.0,
    },
    owing: {"AWAY_SECONDS": 8.0},
    held: {"GRACE_SECONDS": 5.0},
    outbox: {"GRACE_SECONDS": 0.2},
}


@dataclass(frozen=True)
class World:
    """What is not as usual about the world of a process.

    Attributes:
        quick: whether the link's own times are those of `QUICK`.
        clock: the file that says how wrong the wall clock is.
        hosts: the file that is the process's ``/etc/hosts``.
        descriptors: how many files it may have open.
    """

    quick: bool = False
    clock: Path | None = None
    hosts: Path | None = None
    descriptors: int = 0

    def take_effect(self) -> None:
        """Make it so, for this process."""
        if self.quick:
            for module, values in QUICK.items():
                assert values.keys() <= vars(module).keys()
                vars(module).update(values)
        if self.clock is not None:
            _follow(self.clock)
        if self.hosts is not None:
            _mount(self.hosts, Path("/etc/hosts"))
        if self.descriptors:
            resource.setrlimit(resource.RLIMIT_NOFILE, (self.descriptors, self.descriptors))


USUAL = World()

_NEW_MOUNTS, _BIND, _PRIVATE = 0x20000, 0x1000, 0x44000


def _prepare(world: World, opts: Mapping[str, Any]) -> None:
    logging.basicConfig(
        filename=opts["log_file"], level=logging.INFO, format="%(levelname)s %(name)s: %(message)s"
    )
    world.take_effect()


def _follow(path: Path) -> None:
    """Make this process's wall clock, not the machine's, as wrong as a file says, in seconds."""
    seconds, nanoseconds = time.time, time.time_ns

    def off() -> float:
        with contextlib.suppress(OSError, ValueError):
            return float(path.read_text())
        return 0.0

    time.time = lambda: seconds() + off()
    time.time_ns = lambda: nanoseconds() + int(off() * 1e9)
    jid.JidMaker.__init__.__defaults__ = (time.time_ns, "")


def can_mount() -> bool:
    """Say whether a process here can have mounts of its own."""
    child = multiprocessing.get_context("spawn").Process(
        target=_mount, args=(Path("/etc/hosts"), Path("/etc/hosts"))
    )
    child.start()
    child.join()
    return child.exitcode == 0


def _mount(source: Path, target: Path) -> None:
    """Put a file in another's place, for this process only.

    Raises:
        OSError: the system does not allow it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    for done in (
        libc.unshare(_NEW_MOUNTS),
        libc.mount(b"none", b"/", None, _PRIVATE, None),
        libc.mount(os.fsencode(source), os.fsencode(target), None, _BIND, None),
    ):
        if done:
            raise OSError(ctypes.get_errno(), "a mount of its own")


def run_bus(world: World, opts: Mapping[str, Any], stop: Stop) -> None:
    """Run a master's bus."""
    _prepare(world, opts)
    broker_process.run(opts, stop)


def run_link(world: World, opts: Mapping[str, Any], stop: Stop) -> None:
    """Run a master's link."""
    _prepare(world, opts)
    server.LinkServer(opts).run(stop)


def run_minion(world: World, opts: Mapping[str, Any], stop: Stop) -> None:
    """Run a minion."""
    _prepare(world, opts)
    Minion(opts).run(stop)


def free_port() -> int:
    """Return a port that is free in TCP and UDP, and that the system gives nobody by itself."""
    for _ in range(1_000):
        port = random.randrange(10_000, 32_000)
        with (
            contextlib.suppress(OSError),
            socket.socket() as tcp,
            socket.socket(type=socket.SOCK_DGRAM) as udp,
        ):
            tcp.bind(("127.0.0.1", port))
            udp.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


class _Logged:
    """What has a log."""

    opts: Opts

    @property
    def log(self) -> str:
        """What it has logged so far."""
        path = Path(self.opts["log_file"])
        return path.read_text() if path.exists() else ""


class LinkedMaster(_Logged):
    """A master's bus and link.

    Args:
        place: its directory.
        world: of its processes.
        options: of the master.
    """

    def __init__(self, place: Path, world: World = USUAL, **options: Any) -> None:
        place.mkdir(exist_ok=True)
        self.opts = master_options(place).with_(
            **{
                "interface": "127.0.0.1",
                "auto_accept": True,
                "log_file": str(place / "link.log"),
                "file_roots": {"base": (str(place / "files"),)},
                **options,
            }
        )
        self.keys = KeyStore(self.opts["pki_dir"])
        self.pair = Keypair.load_or_create(self.opts["pki_dir"], "master")
        self.finger = fingerprint(self.pair.public)
        self.bus = Running(
            partial(run_bus, world),
            self.opts.with_(log_file=str(place / "bus.log")),
            endpoints.master_pull(self.opts),
        )
        self.link = Running(partial(run_link, world), self.opts, endpoints.master_link(self.opts))
        self.port = free_port()

    def start(self) -> None:
        """Start both."""
        self.bus.start()
        self.start_link()

    def start_link(self) -> None:
        """Start the link."""
        self.link.opts = self.opts.with_(ret_port=self.port)
        self.link.start()

    def connected(self) -> list[str]:
        """Return the minions that are connected."""
        found: list[str] = self.link.call("minions.connected")
        return found

    def counters(self) -> dict[str, int]:
        """Return what the link has counted."""
        found: dict[str, int] = self.link.call("status")["counters"]
        return found

    def events(self, tag: str) -> list[dict[str, Any]]:
        """Return the data of all events with this tag, in the order of the journal."""
        return [data for found, data in journaled(self.opts) if found == tag]

    def tags(self) -> list[str]:
        """Return the tags of all events."""
        return [tag for tag, _ in journaled(self.opts)]

    def client(self) -> LocalClient:
        """Return a client of this master."""
        return LocalClient(mopts=self.opts)

    def publish(self, tgt: str, fun: str, *arg: Any) -> dict[str, Any]:
        """Send a job and return what that returned."""
        found: dict[str, Any] = self.link.call(
            "jobs.publish", tgt=tgt, tgt_type="glob", fun=fun, arg=list(arg)
        )
        return found

    def pings(self, ident: str) -> bool:
        """Say whether a job goes there and back."""
        with self.client() as local, contextlib.suppress(BusError):
            return bool(local.cmd(ident, "test.ping", timeout=2) == {ident: True})
        return False

    def close(self) -> None:
        """End both, clean."""
        assert [running.stop() for running in (self.link, self.bus)] == [0, 0], self.log


class LinkedMinion(_Logged):
    """A minion.

    Args:
        place: its directory.
        ident: its id.
        owner: whose key it knows.
        world: of its process.
        options: of the minion, such as ``master_port``.
    """

    def __init__(
        self,
        place: Path,
        ident: str,
        owner: LinkedMaster,
        world: World = USUAL,
        **options: Any,
    ) -> None:
        place.mkdir(exist_ok=True)
        modules = place / "modules"
        modules.mkdir(exist_ok=True)
        (modules / "note.py").write_text(NOTE)
        given = {
            "master": "127.0.0.1",
            "master_port": owner.port,
            "master_finger": owner.finger,
            "module_dirs": (str(modules),),
            "log_file": str(place / "minion.log"),
            **options,
        }
        self.id = ident
        self.opts = minion_options(place, ident).with_(**given)
        self.process = Running(
            partial(run_minion, world), self.opts, endpoints.minion_pull(self.opts)
        )

    def start(self) -> None:
        """Start it; it may not be connected yet."""
        self.process.start()

    @property
    def link(self) -> str:
        """The state of its link."""
        return str(rpc.call(endpoints.minion_pull(self.opts), "status", timeout=20)["link"])

    def wait_connected(self, seconds: float = 30.0) -> None:
        """Wait until its link is up."""
        wait_for(lambda: self.link == "connected", f"{self.id} to be connected", seconds)

    def events(self) -> bus.event.MinionEvent:
        """Return a client of its bus."""
        return bus.event.MinionEvent(self.opts, listen=False)

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """Stop it as a host that is suspended, workers and all, for as long as the block lasts."""
        with suspended(self.process.pid):
            yield

    def close(self) -> None:
        """End it, clean."""
        status = self.process.stop()
        assert status == 0, f"it ended with status {status}: {self.log}"


@contextlib.contextmanager
def suspended(*pids: int) -> Iterator[None]:
    """Stop processes, and let them go on at the end of the block."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def started(*parts: LinkedMaster | LinkedMinion) -> Iterator[None]:
    """Start masters and minions, and end them clean in the opposite order."""
    with contextlib.ExitStack() as stack:
        for part in parts:
            stack.callback(part.close)
            part.start()
        yield
