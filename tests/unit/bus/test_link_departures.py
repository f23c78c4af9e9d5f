"""Who may be gone of the minions that the master thinks are there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import zmq

from bus.link.departures import (
    ANYWAY_SECONDS,
    SILENT_SECONDS,
    STALL_SECONDS,
    SUSPECT_SECONDS,
    Departures,
    Silence,
)
from bus.sockets import Socket
from tests.support import wait_for


class _Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def port() -> Iterator[Socket]:
    context: zmq.Context[Socket] = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.set(zmq.LINGER, 0)
    yield router
    router.close()
    context.term()


def test_somebody_may_be_gone_once_a_connection_has_ended(port: Socket) -> None:
    """For a while after that, since the port learns of it later; then not until some time anyway."""
    clock = _Clock()
    departures = Departures(port, clock)
    number = port.bind_to_random_port("tcp://127.0.0.1")
    assert departures.suspected()  # the first look
    assert not departures.suspected()
    client = port.context.socket(zmq.DEALER)
    client.connect(f"tcp://127.0.0.1:{number}")
    client.send(b"here")
    port.recv_multipart()
    assert not departures.suspected()
    client.close(linger=0)
    wait_for(departures.suspected)
    clock.now += SUSPECT_SECONDS / 2
    assert departures.suspected()
    clock.now += SUSPECT_SECONDS
    assert not departures.suspected()
    clock.now += ANYWAY_SECONDS
    assert departures.suspected()
    departures.close()


def test_who_was_silent_for_too_long_is_gone() -> None:
    """As long as the master looks all the time."""
    silence = Silence(0.0)
    for now in range(1, 100):
        assert silence.limit(float(now)) == now - SILENT_SECONDS


def test_a_master_that_was_stopped_gives_its_minions_time() -> None:
    """What they said meanwhile waits in its queues."""
    silence = Silence(0.0)
    stopped = 100.0 + STALL_SECONDS
    assert silence.limit(stopped) == float("-inf")
    for second in range(1, int(SILENT_SECONDS)):
        assert silence.limit(stopped + second) == float("-inf")
    assert silence.limit(stopped + SILENT_SECONDS) == stopped
