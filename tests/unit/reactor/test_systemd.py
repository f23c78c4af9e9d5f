"""Telling systemd."""

import math
import socket

import pytest

from reactor.systemd import READY, Watchdog, notify


@pytest.mark.parametrize("name", ["{tmp}/notify", "@reactor-test-{tmp}"])
def test_tells(tmp_path, monkeypatch, name):
    """By a datagram to a path, or to an abstract name."""
    name = name.format(tmp=str(tmp_path)[-60:] if name.startswith("@") else tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name[1:] if name.startswith("@") else name)
        sock.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        assert notify(READY)
        assert sock.recv(100) == b"READY=1"


@pytest.mark.parametrize("name", ["", "nonsense", "/no/where"])
def test_nobody_to_tell(monkeypatch, name):
    """Without systemd, nothing happens."""
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    assert not notify(READY)


class TestWatchdog:
    """A sign of life, well before systemd misses it."""

    def test_in_time(self):
        """The first at once, each further one before half of the time is over."""
        now, told = [100.0], []
        watchdog = Watchdog({"WATCHDOG_USEC": "10000000"}, 7, lambda: now[0], told.append)
        assert watchdog() == 4.0
        assert watchdog() == 4.0
        assert told == ["WATCHDOG=1"]
        now[0] += 3
        assert watchdog() == 1.0
        now[0] += 1.5
        assert watchdog() == 4.0
        assert told == ["WATCHDOG=1"] * 2

    @pytest.mark.parametrize(
        "environ",
        [
            {},
            {"WATCHDOG_USEC": "soon"},
            {"WATCHDOG_USEC": "0"},
            {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "8"},
        ],
    )
    def test_nobody_asks(self, environ):
        """Or asks another process."""
        told = []
        assert Watchdog(environ, 7, lambda: 0.0, told.append)() == math.inf
        assert told == []

    def test_of_this_process(self):
        """As systemd names it."""
        environ = {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "7"}
        assert Watchdog(environ, 7, lambda: 0.0, lambda _state: None)() == 0.4
