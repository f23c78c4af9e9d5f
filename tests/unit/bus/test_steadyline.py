"""The direct line for one who does not wait, alone and within a publisher."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from bus import endpoints, frames, wire
from bus.direct.steady import MAX_UNANSWERED_BYTES, SteadyLine
from bus.journal import JournalReader, journal_path
from bus.publisher import Publisher
from tests.support import open_descriptors, wait_for


def numbered_event(number: int, fill: bytes = b"") -> bytes:
    return wire.pack_event(f"t/{number}", {"n": number, "fill": fill})


def journaled_numbers(opts) -> list[int]:
    with JournalReader(journal_path(opts["state_dir"])) as reader:
        found = [wire.unpack_event(raw) for _, raw in reader.scan()]
    return [data["n"] for tag, data in found if tag.startswith("t/")]


class _Server:
    """The other end of a line, which does what a test wants."""

    def __init__(self, path: Path) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(1)
        self.listener.settimeout(10)

    def accept(self) -> socket.socket:
        client, _ = self.listener.accept()
        client.settimeout(10)
        return client


@pytest.fixture
def path(place: Path) -> Path:
    """Where a bus would have its line."""
    return place / "line.ipc"


@pytest.fixture
def server(path: Path) -> Iterator[_Server]:
    """Something that listens there."""
    made = _Server(path)
    yield made
    made.listener.close()


@pytest.fixture
def line(path: Path) -> Iterator[SteadyLine]:
    """A line to it."""
    before = open_descriptors()
    made = SteadyLine(path)
    yield made
    made.close()
    assert open_descriptors() <= before


def test_without_a_bus_nothing_is_sent(line: SteadyLine) -> None:
    """And nothing comes."""
    assert line.send(b"F", b"body") == 0
    assert line.receive() == []


def test_fires_go_out_and_answers_come(line: SteadyLine, server: _Server) -> None:
    """Several at a time, in pieces too; the descriptor says when."""
    assert line.send(b"one", b"body") == 7
    assert line.send(b"two", b"") == 3
    client = server.accept()
    assert client.recv(100) == b"\0\3\0\0\0\4onebody" + b"\0\3\0\0\0\0two"
    assert not zmq.select([line.fileno()], [], [], timeout=0)[0]
    client.sendall(b"\0\1\0\0\0\0A" + b"\0\1\0\0\0\5Ea\0")
    assert zmq.select([line.fileno()], [], [], timeout=10)[0]
    assert line.receive() == [[b"A"]]
    client.sendall(b"bcd")
    wait_for(lambda: line.receive() == [[b"E", b"a", b"bcd"]])
    client.close()


def test_only_so_much_goes_out_without_an_answer(line: SteadyLine, server: _Server) -> None:
    """So that sending never has to wait for the bus."""
    half = b"x" * (MAX_UNANSWERED_BYTES // 2)
    first = line.send(b"F", half)
    assert first == len(half) + 1
    assert line.send(b"F", half) == 0
    line.settled(first)
    assert line.send(b"F", half) == first
    assert line.send(b"F", b"x" * MAX_UNANSWERED_BYTES) == 0
    server.accept().close()


def test_a_bus_that_goes_away_and_comes_back(line: SteadyLine, server: _Server) -> None:
    """What was not answered counts no more; the next fire connects anew."""
    descriptor = line.fileno()
    assert line.send(b"F", b"x" * (MAX_UNANSWERED_BYTES - 1))
    server.accept().close()
    wait_for(lambda: line.receive() == [] and line.send(b"F", b"y"))
    assert server.accept().recv(100).endswith(b"Fy")
    assert line.fileno() == descriptor


def test_a_bus_that_sends_rubbish_is_left(line: SteadyLine, server: _Server) -> None:
    """And asked again on another connection."""
    assert line.send(b"F", b"x")
    client = server.accept()
    client.sendall(struct.pack(">HI", 60_000, 0) + b"x" * 100)
    wait_for(lambda: zmq.select([line.fileno()], [], [], timeout=0)[0])
    assert line.receive() == []
    assert line.send(b"F", b"y")
    assert server.accept().recv(100).endswith(b"Fy")
    client.close()


# -- within a publisher -----------------------------------------------------------------------


def _publisher(bus_process) -> Publisher:
    opts = bus_process.opts
    return Publisher(endpoints.master_pull(opts), line=endpoints.master_direct(opts))


def _turn(publisher: Publisher, milliseconds: int = 50) -> None:
    zmq.select(publisher.inputs, [], [], timeout=milliseconds / 1000)
    publisher.handle()
    publisher.tick()


def test_a_single_fire_takes_the_line(bus_process) -> None:
    """No ZeroMQ message of it comes."""
    publisher = _publisher(bus_process)
    kept: list[int | None] = []
    for number in range(20):
        publisher.send([numbered_event(number)], on_done=lambda seq, _error: kept.append(seq))
        wait_for(lambda: _turn(publisher) or not publisher.pending)
        assert not publisher.socket.poll(0)
    assert kept == list(range(1, 21))
    publisher.close()


def test_what_the_line_has_no_room_for_goes_the_other_way(bus_process) -> None:
    """All of it is kept, in order, by several producers; a refusal comes back too."""
    publisher = _publisher(bus_process)
    errors: list[object] = []

    def done(_seq: int | None, error: object) -> None:
        if error:
            errors.append(error)

    for number in range(400):
        fill = b"x" * 2000 if number % 50 else b"x" * 100_000
        publisher.send([numbered_event(number, fill)], on_done=done)
        publisher.send([b"other\n\n\x80"], on_done=done, producer=b"other", number=number + 1)
    wait_for(lambda: _turn(publisher) or not publisher.pending)
    assert errors == []
    assert journaled_numbers(bus_process.opts) == list(range(400))
    publisher.send([b"no event"], on_done=done)
    wait_for(lambda: _turn(publisher) or errors)
    publisher.close()


@pytest.mark.parametrize("seed", range(2))
def test_kills_of_the_bus_lose_nothing_and_double_nothing(bus_process, seed: int) -> None:
    """By the line too, every event is journaled once, in order."""
    chance = random.Random(seed)
    publisher = _publisher(bus_process)
    kills = sorted(chance.sample(range(100, 2900), 3))
    for number in range(3000):
        publisher.send([numbered_event(number)], on_done=lambda _seq, _error: None)
        if number in kills:
            bus_process.restart()
        if publisher.pending > 20:
            wait_for(lambda: _turn(publisher) or publisher.pending < 10)
    wait_for(lambda: _turn(publisher) or not publisher.pending)
    assert journaled_numbers(bus_process.opts) == list(range(3000))
    publisher.close()


def test_an_answer_of_the_line_that_is_none_is_passed_over(
    place: Path, server: _Server, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said, and the fire waits on."""
    publisher = Publisher(f"ipc://{place}/nobody.ipc", line=path)
    told: list[object] = []
    publisher.send([b"t\n\n\x80"], on_done=lambda seq, error: told.append((seq, error)))
    client = server.accept()
    client.recv(1000)
    client.sendall(b"\0\1\0\0\0\0?")
    wait_for(lambda: publisher.handle() or "cannot be read" in caplog.text)
    assert publisher.pending == 1
    answer = frames.acknowledged(publisher.producer, 1, 7, 1)[0]
    client.sendall(struct.pack(">HI", len(answer), 0) + answer)
    wait_for(lambda: publisher.handle() or told)
    assert told == [(7, None)]
    publisher.close()
    client.close()
