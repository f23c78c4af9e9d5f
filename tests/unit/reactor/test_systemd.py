"""Telling systemd."""

import socket

import pytest

from reactor.systemd import READY, notify


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
