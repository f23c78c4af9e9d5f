"""Jobs on a real master and minion, and what a minion sends up, beside plain CURVE sockets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection

import zmq

import bus
from bus.client import LocalClient
from bus.config import Opts
from bus.event import MinionEvent
from tests.benchmarks import events, processes
from tests.benchmarks.acked import durations
from tests.benchmarks.figures import Goal, Measure, Row, Settings, interleave, percentiles
from tests.benchmarks.reaction import fire_ids

TITLE = "jobs and what minions send; raw is a CURVE round trip on loopback"

_RULES = f"""\
job_for_event:
  on: {events.TAG}
  do:
    - local: test.arg
      tgt: bench
      args: ["{{{{ data.n }}}}"]
"""

Ways = dict[str, Measure]


def run(settings: Settings) -> Iterator[Row]:
    """Measure everything on one master and minion."""
    with processes.up({"job.yaml": _RULES}) as (master, minion, _):
        samples = interleave(settings.runs, _ways(settings, master, minion))
    raw = samples["raw"]
    for point, salt, goal in (("p50", 77, Goal(3)), ("p99", None, None)):
        yield Row(
            f"test.ping by LocalClient.cmd, {point}",
            "ms",
            samples["job"][point],
            raw[point],
            salt=salt,
            goal=goal,
        )
    yield Row("reactor cmd bench test.ping, whole program", "ms", samples["cli"]["wall"])
    rate = samples["event_job"]["rate"]
    yield Row("event to local reaction to job return", "/s", rate, salt=2.5, goal=Goal(1_000))
    yield Row(
        "fire_master, one after the other, acknowledged",
        "/s",
        samples["send"]["rate"],
        raw["rate"],
        salt=309,
        goal=Goal(2_500),
    )
    yield Row(
        "fire_master, pipelined, until on the master's bus",
        "/s",
        samples["send_many"]["rate"],
        goal=Goal(50_000),
    )


def _ways(settings: Settings, master: Opts, minion: Opts) -> Ways:
    pings, sends = settings.count(300), settings.count(1_000)
    many, jobs = settings.count(20_000), settings.count(1_000)
    return {
        "raw": partial(_raw, sends),
        "job": lambda: percentiles("", _result(_ping, master, pings)),
        "cli": partial(_one_shot, master),
        "event_job": lambda: {"rate": _rate(master, jobs, "salt/job/*/ret/*", fire_ids, jobs)},
        "send": lambda: {"rate": sends / sum(_result(_send, minion, sends))},
        "send_many": lambda: {"rate": _rate(master, many, "bench-up/*", _send_many, minion)},
    }


def _result(function: Callable[..., None], *args: object) -> list[float]:
    with processes.Group() as group:
        found: list[float] = group.start(function, *args).receive()
        return found


def _ping(pipe: Connection, opts: Opts, count: int) -> None:
    with LocalClient(mopts=opts) as client:

        def ping(_number: int) -> None:
            if client.cmd("bench", "test.ping") != {"bench": True}:
                raise RuntimeError("the minion did not answer")

        pipe.send(durations(count, ping))


def _one_shot(opts: Opts) -> dict[str, float]:
    begun = time.perf_counter()
    processes.reactor("cmd", "--config", str(opts["config_dir"]), "bench", "test.ping")
    return {"wall": (time.perf_counter() - begun) * 1000}


def _send(pipe: Connection, opts: Opts, count: int) -> None:
    with MinionEvent(opts, listen=False) as event:

        def send(number: int) -> None:
            if not event.fire_master(events.payload(number), "bench-one/event"):
                raise RuntimeError(f"event {number} was not taken")

        pipe.send(durations(count, send))


def _rate(master: Opts, count: int, answer: str, fire: Callable[..., None], *args: object) -> float:
    """Return how many events of ``answer`` a second ``fire(pipe, opts, count, ...)`` leads to."""
    with processes.Group() as group:
        ear = group.start(_hear, master, answer, count)
        ear.receive()
        begun = group.start(fire, master, count, *args).receive()
        end, heard = ear.receive()
    if heard < count:
        raise RuntimeError(f"only {heard} of {count} {answer} came")
    return heard / (end - begun)


def _send_many(pipe: Connection, _master: Opts, count: int, minion: Opts) -> None:
    with MinionEvent(minion, listen=False) as event:
        begun = time.perf_counter()
        pairs = (("fire_master", _upward(number)) for number in range(count))
        event.fire_events(pairs, timeout=processes.PATIENCE * 1000)
    pipe.send(begun)


def _upward(number: int) -> dict[str, object]:
    data = events.payload(number)
    return {"tag": "bench-up/event", "data": data, "events": None, "pretag": None}


def _hear(pipe: Connection, opts: Opts, answer: str, count: int) -> None:
    """Count what comes from now on; the journal fills what this process is too slow for."""
    with bus.connect("master", opts) as connection:
        now = connection.fire("bench-mark/event", {})
        listening = connection.listen(answer, since=now, timeout=10)
        pipe.send("ready")
        heard, end = 0, 0.0
        for _ in zip(range(count), listening, strict=False):
            heard, end = heard + 1, time.perf_counter()
    pipe.send((end, heard))


# -- plain CURVE sockets --------------------------------------------------------------------


def _raw(count: int) -> dict[str, float]:
    server_keys, client_keys = zmq.curve_keypair(), zmq.curve_keypair()
    with processes.Group() as group:
        port = group.start(_curve_echo, server_keys).receive()
        asker = group.start(_curve_ask, port, server_keys[0], client_keys, count)
        late: list[float] = asker.receive()
    return {**percentiles("", late), "rate": count / sum(late)}


def _curve_echo(pipe: Connection, keys: tuple[bytes, bytes]) -> None:
    socket = processes.raw_socket(zmq.ROUTER)
    socket.set(zmq.CURVE_SERVER, 1)
    socket.set(zmq.CURVE_SECRETKEY, keys[1])
    pipe.send(socket.bind_to_random_port("tcp://127.0.0.1"))
    while True:
        socket.send_multipart(socket.recv_multipart())


def _curve_ask(
    pipe: Connection, port: int, server: bytes, keys: tuple[bytes, bytes], count: int
) -> None:
    socket = processes.raw_socket(zmq.DEALER)
    socket.set(zmq.CURVE_SERVERKEY, server)
    socket.set(zmq.CURVE_PUBLICKEY, keys[0])
    socket.set(zmq.CURVE_SECRETKEY, keys[1])
    socket.connect(f"tcp://127.0.0.1:{port}")

    def ask(number: int) -> None:
        socket.send(events.packed(number))
        socket.recv()

    pipe.send(durations(count, ask))
