"""Event streams over HTTPS: the memory of 1,000 of them, and the rate that ten of them get."""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import bus
from bus.config import Opts
from tests.benchmarks import events, processes
from tests.benchmarks.figures import Goal, Row, Sample, Settings, interleave
from tests.benchmarks.memory import family

TITLE = "event streams of one HTTP process: memory of 1,000, rate of ten"

HELD = 1_000
CLIENTS = 10
RATE = 20_000
_PACED_SECONDS = 3
_SLICE = 0.005
"""Seconds between two handfuls of paced events."""

_READ = 1 << 18
_MARK = b"\ntag: "
"""In each event once."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running ``reactor http``.

    Attributes:
        opts: the options of its master.
        pid: the process that serves.
        token: may read everything.
    """

    opts: Opts
    pid: int
    token: str


def run(settings: Settings) -> Iterator[Row]:
    """Measure over TLS and without."""
    held = 100 if settings.quick else HELD
    ways = {
        name: (lambda text=text: _hold(held, text))
        for name, text in (("HTTPS", ""), ("HTTP", "http_self_signed: false\n"))
    }
    for name, samples in interleave(settings.runs, ways).items():
        yield Row(
            f"memory with {held:,} streams, {name} (RSS)",
            "MB",
            samples["held"],
            goal=Goal(150),
            note=_note(samples["each"], "KB a stream") + "; " + _note(samples["lost"], "lost"),
        )
    count = settings.count(100_000)
    ways = {
        "burst": lambda: _stream(count, paced=False),
        "paced": lambda: _stream(settings.count(RATE * _PACED_SECONDS), paced=True),
    }
    samples = interleave(settings.runs, ways)
    yield Row(
        f"a burst to each of {CLIENTS} clients, HTTPS",
        "/s",
        samples["burst"]["rate"],
        goal=Goal(RATE),
        note=_note(samples["burst"]["lost"], "lost"),
    )
    yield Row(
        f"  {RATE:,}/s for {_PACED_SECONDS} s: the last event at the slowest client after",
        "ms",
        samples["paced"]["late"],
        note=_note(samples["paced"]["lost"], "lost"),
    )
    yield Row("  CPU time of the server, per event and client", "us", samples["burst"]["cpu"])


def _note(sample: Sample, what: str) -> str:
    return f"{sample.median:,.0f} {what}"


# -- the server -----------------------------------------------------------------------------------


@contextlib.contextmanager
def _server(text: str) -> Iterator[tuple[processes.Group, Server]]:
    with processes.folder() as directory, processes.Group() as group:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        opts = processes.write_master(directory, f"http_port: {port}\n{text}")
        processes.start_bus(group, opts)
        token = processes.reactor("token", "create", "--config", str(directory)).strip()
        started = subprocess.Popen(
            [*processes.program(), "http", "--config", str(directory)],
            env=processes.environment(),
            stdin=subprocess.DEVNULL,
        )
        try:
            yield group, Server(opts, _await_child(started.pid, port), token)
        finally:
            started.terminate()
            started.wait(10)


def _await_child(pid: int, port: int) -> int:
    deadline = time.monotonic() + processes.PATIENCE
    while time.monotonic() < deadline:
        members = family(pid)
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return members[1]
        time.sleep(0.05)
    raise processes.BenchmarkError("the HTTP server does not serve")


def _rss(pid: int) -> float:
    """Return the resident memory of a process in megabytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024 / 1e6


# -- what is measured -----------------------------------------------------------------------------


def _hold(count: int, text: str) -> dict[str, float]:
    """Hold ``count`` streams open, have each of them get events, and look at the memory."""
    fired = 2_000
    with _server(text) as (group, server):
        with_one = _open(group, server, 1)
        before = _rss(server.pid)
        holding = _open(group, server, count)
        firing = group.start(_fire, server.opts, fired, 0)
        firing.receive()
        most = 0.0
        while not holding._pipe.poll(0.05):
            most = max(most, _rss(server.pid))
        _, heard = holding.receive()
        with_one.receive()
        most = max(most, _rss(server.pid))
    return {
        "held": most,
        "each": (most - before) * 1000 / count,
        "lost": float(count * fired - heard),
    }


def _stream(count: int, *, paced: bool) -> dict[str, float]:
    with _server("") as (group, server):
        listening = _open(group, server, CLIENTS)
        cpu = _cpu(server.pid)
        firing = group.start(_fire, server.opts, count, RATE if paced else 0)
        begun = firing.receive()
        listening.send(count)
        end, heard = listening.receive()
        fired_by = firing.receive()
        cpu = _cpu(server.pid) - cpu
    return {
        "rate": count / (end - begun),
        "late": (end - fired_by) * 1000,
        "lost": float(count * CLIENTS - heard),
        "cpu": cpu / max(1, heard) * 1e6,
    }


def _cpu(pid: int) -> float:
    import psutil

    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def _fire(pipe: Connection, opts: Opts, count: int, rate: int) -> None:
    """Fire events, at ``rate`` a second or as fast as they are taken; tell begin and end."""
    with bus.connect("master", opts) as connection:
        begun = time.perf_counter()
        pipe.send(begun)
        number = 0
        while number < count:
            upto = count
            if rate:
                time.sleep(_SLICE)
                upto = min(count, int((time.perf_counter() - begun) * rate))
            pairs = [(events.TAG, events.payload(n)) for n in range(number, upto)]
            if connection.fire_events(pairs, timeout=processes.PATIENCE) != len(pairs):
                raise processes.BenchmarkError("not all events were acknowledged")
            number = upto
        pipe.send(time.perf_counter())


# -- clients --------------------------------------------------------------------------------------


def _open(group: processes.Group, server: Server, count: int) -> processes.Child:
    """Open streams in a process of their own."""
    child = group.start(_listen, server.opts, server.token, count)
    child.receive()
    return child


def _listen(pipe: Connection, opts: Opts, token: str, count: int) -> None:
    """Open ``count`` streams; read until no more comes; tell when the last came, how many did."""
    context = _trusting() if opts["http_self_signed"] else None
    sockets = [_connect(int(opts["http_port"]), token, context) for _ in range(count)]
    pipe.send("open")
    with selectors.DefaultSelector() as selector:
        for sock in sockets:
            sock.setblocking(False)
            selector.register(sock, selectors.EVENT_READ, bytearray(len(_MARK)))
        heard, end, quiet_from = 0, 0.0, time.perf_counter()
        buffer = bytearray(_READ)
        while not heard or time.perf_counter() - quiet_from < 2.0:
            for key, _ in selector.select(0.2):
                found, goes_on = _read(key.fileobj, key.data, buffer)
                if found:
                    heard += found
                    end = quiet_from = time.perf_counter()
                if not goes_on:
                    selector.unregister(key.fileobj)
    pipe.send((end, heard))


def _trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _connect(port: int, token: str, context: ssl.SSLContext | None) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=processes.PATIENCE)
    if context:
        sock = context.wrap_socket(sock)
    request = f"GET /events?tag=bench/* HTTP/1.1\r\nHost: h\r\nX-Auth-Token: {token}\r\n\r\n"
    sock.sendall(request.encode())
    answer = b""
    while b"retry: 400" not in answer:
        more = sock.recv(4096)
        if not more:
            raise processes.BenchmarkError(f"no stream: {answer[:200]!r}")
        answer += more
    return sock


def _read(sock: Any, tail: bytearray, buffer: bytearray) -> tuple[int, bool]:
    """Read what there is; return how many events it has, and whether the stream goes on.

    Args:
        sock: the connection.
        tail: the last bytes that were read before, since a mark may be cut in two.
        buffer: room to read into.
    """
    found, kept = 0, len(tail)
    room = memoryview(buffer)[kept:]
    try:
        while size := sock.recv_into(room):
            buffer[:kept] = tail
            found += buffer.count(_MARK, 1, kept + size)
            tail[:] = buffer[size : size + kept]
    except (ssl.SSLWantReadError, BlockingIOError):
        return found, True
    return found, False
