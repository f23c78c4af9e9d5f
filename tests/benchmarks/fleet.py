"""Many real links of one master: a restart of the link, a ping to all, memory a link."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import zmq

from bus import endpoints, rpc
from bus.client import LocalClient
from bus.config import DEFAULT_MINION_OPTS, Opts
from bus.keys import Keypair
from bus.link.client import LinkClient
from bus.sockets import has_input
from tests.benchmarks import processes
from tests.benchmarks.figures import Goal, Row, Sample, Settings

TITLE = "a fleet: links with CURVE, many in a process, to one master"

LINKS_A_PROCESS = 1_000
_FLEETS = ((1_000, Goal(10), Goal(1)), (10_000, Goal(60), Goal(5)))
"""How many links, and within how many seconds they are to be back, and to answer."""

_FILES_A_LINK = 8
_OTHER_FILES = 1_000
_TICK = 1.0
_IDLE_SECONDS = 15.0
"""Three rounds of the minions' pings."""


def run(settings: Settings) -> Iterator[Row]:
    """Measure each fleet once; the larger one only where the system lets us have the files."""
    for full, back, ping in _FLEETS:
        count = settings.count(full)
        if not _has_files_for(min(count, LINKS_A_PROCESS) * _FILES_A_LINK, count + _OTHER_FILES):
            continue
        yield from _measure(count, back, ping)


def _share_of_a_core(link: processes.Child) -> float:
    """Return how much of a core a process takes by itself, in percent."""
    before = link.cpu_seconds()
    time.sleep(_IDLE_SECONDS)
    return 100 * (link.cpu_seconds() - before) / _IDLE_SECONDS


def _has_files_for(*wanted: int) -> bool:
    import resource

    return max(wanted) < resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def _measure(count: int, back: Goal, ping: Goal) -> Iterator[Row]:
    with processes.folder() as folder, processes.Group() as group:
        opts = processes.write_master(folder, _MASTER.format(port=_free_port()))
        _seed(folder, Path(opts["pki_dir"]), count)
        processes.start_bus(group, opts)
        link = processes.start_link(group, opts)
        empty = _resident(link.pid)
        for first in range(0, count, LINKS_A_PROCESS):
            size = min(LINKS_A_PROCESS, count - first)
            group.start(_fleet, folder, int(opts["ret_port"]), first, size)
        first_time = _until_connected(opts, count)
        memory = (_resident(link.pid) - empty) / count / 1000
        before = link.cpu_seconds()
        answered = _ping_all(opts, count)
        busy_answering = link.cpu_seconds() - before
        idle = _share_of_a_core(link)
        link.stop()
        link = processes.start_link(group, opts)
        again = _until_connected(opts, count)
        busy_again = link.cpu_seconds()
    yield Row(f"{count:,} links: all connected for the first time", "s", _one(first_time))
    yield Row(f"{count:,} links: again after a restart of the link", "s", _one(again), goal=back)
    yield Row(f"{count:,} links: test.ping to all, all returned", "s", _one(answered), goal=ping)
    yield Row(
        f"{count:,} links: of the link's processor time, for the restart", "s", _one(busy_again)
    )
    yield Row(f"{count:,} links: the same, for the ping", "s", _one(busy_answering))
    yield Row(
        f"{count:,} links: the same, while nothing happens but pings", "% of a core", _one(idle)
    )
    yield Row(
        f"{count:,} links: memory of the link server a link", "kB", _one(memory), goal=Goal(100)
    )


_MASTER = """\
ret_port: {port}
timeout: 30
"""


def _seed(folder: Path, pki: Path, count: int) -> None:
    """Give each minion a key that the master accepts: written without waiting for the disk."""
    accepted = pki / "minions"
    accepted.mkdir(mode=0o700, parents=True)
    for number in range(count):
        public, secret = zmq.curve_keypair()
        (accepted / f"m{number}").write_bytes(public)
        own = folder / f"m{number}"
        own.mkdir(mode=0o700)
        (own / "minion.pem").touch(mode=0o600)
        (own / "minion.pem").write_bytes(secret)
        (own / "minion.pub").write_bytes(public)


def _one(value: float) -> Sample:
    return Sample((value,))


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _resident(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024.0
    return 0.0


def _until_connected(opts: Opts, count: int) -> float:
    """Return the seconds until so many minions are connected."""
    begun = time.perf_counter()
    while time.perf_counter() - begun < 3 * processes.PATIENCE:
        if _connected(opts) >= count:
            return time.perf_counter() - begun
        time.sleep(0.05)
    raise processes.BenchmarkError(f"only {_connected(opts)} of {count} links came")


def _connected(opts: Opts) -> int:
    with processes.Group() as group:
        found: int = group.start(_ask_connected, endpoints.master_link(opts)).receive()
        return found


def _ask_connected(pipe: Connection, address: str) -> None:
    pipe.send(rpc.call(address, "status", {}, timeout=30.0)["connected"])


def _ping_all(opts: Opts, count: int) -> float:
    with processes.Group() as group:
        seconds, returned = group.start(_ping, opts).receive()
    if returned != count:
        raise processes.BenchmarkError(f"only {returned} of {count} minions answered")
    return float(seconds)


def _ping(pipe: Connection, opts: Opts) -> None:
    with LocalClient(mopts=opts) as client:
        begun = time.perf_counter()
        returned = len(client.cmd("*", "test.ping", timeout=30))
        pipe.send((time.perf_counter() - begun, returned))


# -- a process full of minions' links -------------------------------------------------------


def _fleet(_pipe: Connection, folder: Path, port: int, first: int, size: int) -> None:
    """Be so many minions: real links and spools, and a function that answers at once."""
    context: zmq.Context[Any] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 4 * size + 100)
    links = [_link(context, folder / f"m{number}", port) for number in range(first, first + size)]
    _serve([pair for link in links for pair in link.sockets], links)


def _serve(pairs: list[tuple[Any, Callable[[], None]]], links: list[LinkClient]) -> None:
    """Serve so many sockets with epoll: `zmq.Poller` looks at each of them at every turn.

    The descriptor of a ZeroMQ socket says only that something may have changed, and whatever is
    done with the socket may use that up: so each is asked after everything that is done with it.
    """
    ready = select.epoll()
    by_file = {}
    for socket, handler in pairs:
        by_file[socket.fileno()] = (socket, handler)
        ready.register(socket.fileno(), select.EPOLLIN)
    due = 0.0
    parent = os.getppid()
    while os.getppid() == parent:
        if time.monotonic() >= due:
            due = time.monotonic() + _TICK
            for link in links:
                link.tick()
            for socket, handler in pairs:
                _drain(socket, handler)
        for file, _ in ready.poll(max(0.0, due - time.monotonic())):
            _drain(*by_file[file])


def _drain(socket: Any, handler: Callable[[], None]) -> None:
    while has_input(socket):
        handler()


def _link(context: zmq.Context[Any], folder: Path, port: int) -> LinkClient:
    link: LinkClient

    def on_job(job: dict[str, Any]) -> None:
        done = {"return": True, "retcode": 0, "success": True}
        link.send_return({"jid": job["jid"], "fun": job["fun"], **done})

    link = LinkClient(
        {
            **DEFAULT_MINION_OPTS,
            "id": folder.name,
            "state_dir": str(folder),
            "pki_dir": str(folder),
            "master": "127.0.0.1",
            "master_port": port,
        },
        context=context,
        keypair=Keypair.load_or_create(folder, "minion"),
        on_job=on_job,
        on_state=lambda state: None,
        on_changed=lambda: None,
        grains={},
    )
    return link
