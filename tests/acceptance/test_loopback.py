"""`reactor up` where local sockets are ports of loopback: everything works, but for strangers."""

from __future__ import annotations

import json

import zmq

import bus
from bus.config import master_config, minion_config
from bus.event import MinionEvent, get_event
from tests.support import free_ports
from tests.system import ROOT, System

_FILES = {
    "master": """\
interface: 127.0.0.1
ret_port: {0}
ipc_mode: tcp
tcp_pub_port: {1}
tcp_pull_port: {2}
tcp_link_port: {3}
tcp_reactor_port: {4}
tcp_fires_port: {7}
""",
    "minion": """\
id: web1
master: 127.0.0.1
master_port: {0}
ipc_mode: tcp
tcp_pub_port: {5}
tcp_pull_port: {6}
""",
}


def _write(folder, ports):
    config = folder / ".reactor"
    config.mkdir(mode=0o700)
    for name, text in _FILES.items():
        (config / name).write_text(text.format(*ports))


def _knock(port):
    """Ask for the status as somebody who has no key, and return what comes."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
        stranger.set(zmq.LINGER, 0)
        stranger.connect(f"tcp://127.0.0.1:{port}")
        stranger.send_multipart([b"C", b"1", b"\x92\xa6status\x80"])
        return stranger.poll(200)


def test_all_of_it_works_on_loopback(tmp_path):
    """Status, rules, jobs, events up and down, both libraries; and who has no key is not heard."""
    ports = free_ports(8)
    _write(tmp_path, ports)
    system = System(tmp_path, ["--rules", str(ROOT / "examples" / "reactors" / "01-hello")])
    try:
        system.wait_ready()
        assert list(system.config.rglob("*.ipc")) == []
        system.expect("hello/answered", minion="web1")
        assert "web1" in system.run("cmd", "*", "test.ping").stdout
        system.run("fire", "loop/cli", "{n: 1}")
        system.expect("loop/cli", n=1)
        system.run("call", "event.send", "loop/up", "{n: 2}")
        system.expect("loop/up", n=2)
        _both_libraries(system)
        assert [_knock(port) for port in ports[1:]] == [0] * 7
        status = json.loads(system.run("status", "--json").stdout)
        assert status["ok"]
        system.stop()
    finally:
        system.kill()
    assert "Traceback" not in system.log.read_text()


def _both_libraries(system):
    opts, minion_opts = master_config(system.config), minion_config(system.config)
    with get_event("master", opts=opts) as events:
        assert events.fire_event({"n": 3}, "loop/library")
        assert events.get_event(tag="loop/library", wait=10)["n"] == 3
    with MinionEvent(minion_opts) as events:
        assert events.fire_event({"n": 4}, "loop/minion")
        assert events.get_event(tag="loop/minion", wait=10)["n"] == 4
        assert events.fire_master({"n": 5}, "loop/to_master")
    system.expect("loop/to_master", n=5)
    with bus.connect("master", opts) as connection:
        assert connection.fire_events(("loop/many", {"n": n}) for n in range(500)) == 500
