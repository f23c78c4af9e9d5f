"""How a process is told to end."""

import os
import select
import signal
import socket

import pytest

from bus.stopping import ALIVE, ASK, SIGNALS, Stop
from tests.support import open_descriptors


@pytest.fixture
def stop():
    """A `Stop` whose signal handlers are taken back afterwards."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    made = Stop()
    yield made
    made.close()
    for number, handler in before.items():
        signal.signal(number, handler)


def _has_input(stop, seconds=0):
    return bool(select.select([stop.fileno()], [], [], seconds)[0])


def test_it_is_set_by_hand(stop):
    """`set` is seen by both ways of asking, and wakes a poll until it is drained."""
    assert not stop.is_set()
    assert not stop()
    assert not _has_input(stop)
    stop.set()
    assert stop.is_set()
    assert stop()
    assert _has_input(stop)
    stop.drain()
    assert not _has_input(stop)
    assert stop.is_set()


@pytest.mark.parametrize("number", SIGNALS)
def test_it_is_set_by_a_signal(stop, number):
    """SIGTERM and SIGINT set it, and a poll ends at once."""
    stop.install()
    os.kill(os.getpid(), number)
    assert _has_input(stop, 5)
    assert stop.is_set()


def test_it_can_be_set_often_without_anybody_listening(stop):
    """A full buffer blocks nobody."""
    for _ in range(100_000):
        stop.set()
    stop.drain()
    assert stop.is_set()


def test_a_signal_after_close_does_no_harm(stop):
    """The handler outlives the descriptors."""
    stop.install()
    stop.close()
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.is_set()


def test_closing_gives_the_descriptors_back(stop):
    """No descriptor stays open."""
    before = open_descriptors()
    for _ in range(10):
        Stop().close()
    assert open_descriptors() == before


def test_who_asks_is_answered_by_the_loop():
    """Once it drains, and not before; a signal alone is no question."""
    reader, line = socket.socketpair()
    stop = Stop((reader, line))
    line.send(b"\x0f")
    stop.drain()
    with pytest.raises(BlockingIOError):
        line.recv(64)
    line.send(ASK)
    with pytest.raises(BlockingIOError):
        line.recv(64)
    stop.drain()
    assert line.recv(64) == ALIVE
    assert not stop.is_set()
    stop.leave()
    stop.drain()  # whoever has only the writing end has nothing to empty
    stop.close()
