"""Master and minions as separate daemons, each with a configuration of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from bus import endpoints, rpc
from bus.config import master_config, minion_config
from bus.errors import BusError
from bus.keys import KeyStore
from tests.system import ROOT, wait_until

AT_ONCE = 0.3
"""Seconds after which a key that was revoked must be worth nothing."""


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _reactor(*arguments, code=0):
    ended = subprocess.run(
        [sys.executable, "-m", "reactor", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=40,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert code is None or ended.returncode == code, ended.stdout + ended.stderr
    return ended


class Daemon:
    """A running `reactor master` or `reactor minion`."""

    def __init__(self, role, config):
        self.config = config
        self.log = config / f"{role}.stderr"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "reactor", role, "--config", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )

    def stop(self):
        """End it as systemd would, and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(5)


@contextmanager
def _daemon(role, config):
    daemon = Daemon(role, config)
    try:
        yield daemon
    finally:
        if daemon.process.poll() is None:
            daemon.process.kill()
        daemon.process.wait(5)


@pytest.fixture
def port(tmp_path):
    """A master's configuration, and its port."""
    port = _free_port()
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "master").write_text(f"interface: 127.0.0.1\nret_port: {port}\n")
    return port


def _minion_config(tmp_path, ident, port, **options):
    folder = tmp_path / ident
    folder.mkdir()
    lines = {"id": ident, "master": "127.0.0.1", "master_port": port, **options}
    (folder / "minion").write_text(json.dumps(lines))
    return folder


def _keys(config):
    return json.loads(_reactor("key", "list", "--config", str(config), "--json").stdout)


def _pings(config, *target):
    ended = _reactor("cmd", "--config", str(config), "--json", *target, "test.ping", code=None)
    found = {}
    for line in ended.stdout.splitlines():
        found.update(json.loads(line))
    return {name for name, data in found.items() if data["success"] and data["return"] is True}


def _connected(config):
    return set(rpc.call(endpoints.master_link(master_config(config)), "minions.connected", {}))


def _are_connected(config, minions):
    with suppress(BusError):  # the master may be about to begin
        return _connected(config) == minions
    return False


def _wait_for_pings(config, minions):
    """Wait until these are there, and a job goes to each of them and back."""
    # First what costs no process a look.
    wait_until(lambda: _are_connected(config, minions), 20)
    wait_until(lambda: _pings(config, "*") == minions, 20)


def test_two_minions_and_their_keys(tmp_path, port):
    """Pending, accepted, rejected, deleted: each state shows, and only accepted ones get jobs."""
    config = tmp_path / "m"
    one = _minion_config(tmp_path, "web1", port, grains={"role": "web"})
    two = _minion_config(tmp_path, "db1", port)
    with _daemon("master", config) as master, _daemon("minion", one), _daemon("minion", two):
        wait_until(
            lambda: (
                KeyStore(master_config(config)["pki_dir"]).list()["minions_pre"] == ["db1", "web1"]
            ),
            20,
        )
        assert _reactor("status", "--config", str(config)).returncode == 0
        _reactor("key", "accept", "--config", str(config), "web*", "-y")
        _reactor("key", "reject", "--config", str(config), "db*", "-y")
        _wait_for_pings(config, {"web1"})
        assert "db1" in json.dumps(_keys(config))
        _reactor("key", "delete", "--config", str(config), "db1", "-y")
        _reactor("key", "accept", "--config", str(config), "web1", "-y", code=None)
        wait_until(
            lambda: "db1" in KeyStore(master_config(config)["pki_dir"]).list()["minions_pre"], 20
        )
        _reactor("key", "accept", "--config", str(config), "--all", "-y")
        _wait_for_pings(config, {"web1", "db1"})
        assert _pings(config, "-L", "web1,nobody") == {"web1"}
        assert _pings(config, "-G", "role:web") == {"web1"}
        assert _pings(config, "-E", "d.*") == {"db1"}
        assert _pings(config, "-C", "web* or E@db\\d") == {"web1", "db1"}
        assert master.stop() == 0


def test_the_master_comes_back(tmp_path, port):
    """After a restart of the master its minions are there again, without anybody's help."""
    config = tmp_path / "m"
    (config / "master").write_text(f"interface: 127.0.0.1\nret_port: {port}\nauto_accept: true\n")
    one = _minion_config(tmp_path, "web1", port)
    with _daemon("minion", one) as minion:
        with _daemon("master", config) as master:
            _wait_for_pings(config, {"web1"})
            assert master.stop() == 0
        with _daemon("master", config):
            _wait_for_pings(config, {"web1"})
            assert minion.stop() == 0


def test_a_minion_that_knows_its_masters_fingerprint(tmp_path, port):
    """With the right one it joins; with another one it never speaks to the master."""
    config = tmp_path / "m"
    with _daemon("master", config):
        _reactor("status", "--config", str(config), "--wait", "20")
        shown = json.loads(_reactor("key", "finger", "--config", str(config), "--json").stdout)
        finger = next(
            value for value in _leaves(shown) if isinstance(value, str) and value.count(":") == 31
        )
        wrong = ":".join(reversed(finger.split(":")))
        right = _minion_config(tmp_path, "web1", port, master_finger=finger)
        other = _minion_config(tmp_path, "web2", port, master_finger=wrong)
        with _daemon("minion", right), _daemon("minion", other):
            wait_until(lambda: "web1" in json.dumps(_keys(config)), 20)
            _reactor("key", "accept", "--config", str(config), "web1", "-y")
            _wait_for_pings(config, {"web1"})
            assert "web2" not in json.dumps(_keys(config))


def _journal(config, tag):
    ended = _reactor("events", "--config", str(config), "--since", "1h", "--until", "0s", "--json")
    found = [json.loads(line) for line in ended.stdout.splitlines()]
    return [event for event in found if event["tag"] == tag]


def test_a_host_that_comes_with_its_key(tmp_path, port):
    """Its key was made and accepted on the master: nobody has to be asked, nor trusted unseen."""
    config = tmp_path / "m"
    one = _minion_config(tmp_path, "web1", port)
    with _daemon("master", config):
        _reactor("status", "--config", str(config), "--wait", "20")
        place = minion_config(one)["pki_dir"]
        _reactor("key", "gen", "--config", str(config), "web1", "--dir", place)
        with _daemon("minion", one) as minion:
            _wait_for_pings(config, {"web1"})
            assert "pinned from now on" not in minion.log.read_text()


def test_a_minion_gets_a_new_key(tmp_path, port):
    """By a job: the old key is gone, the minion is there, also after it was killed."""
    config = tmp_path / "m"
    (config / "autosign.conf").touch(mode=0o600)
    (config / "autosign.conf").write_text("web*\n")
    one = _minion_config(tmp_path, "web1", port)
    store = KeyStore(master_config(config)["pki_dir"])
    with _daemon("master", config):
        with _daemon("minion", one) as minion:
            _wait_for_pings(config, {"web1"})
            old = store.finger()["minions"]["web1"]
            command = ("cmd", "--config", str(config), "--json", "web1", "saltutil.regen_keys")
            ended = _reactor(*command, "-t", "30")
            new = json.loads(ended.stdout)["web1"]["return"]
            assert new == store.finger()["minions"]["web1"] != old
            _wait_for_pings(config, {"web1"})
            minion.process.kill()
            secrets = [Path(minion_config(one)["pki_dir"], "minion.pem").read_text().strip()]
        with _daemon("minion", one) as minion:
            _wait_for_pings(config, {"web1"})
            assert _reactor("call", "--config", str(one), "saltutil.regen_keys").returncode == 0
            assert store.finger()["minions"]["web1"] != new
            _wait_for_pings(config, {"web1"})
        secrets.append(Path(minion_config(one)["pki_dir"], "minion.pem").read_text().strip())
        acts = [event["data"]["act"] for event in _journal(config, "salt/key")]
        assert acts == ["accept", "rotate", "rotate"]
        logs = minion.log.read_text() + (config / "master.stderr").read_text()
        assert not [secret for secret in secrets if secret in logs]


@pytest.mark.parametrize("act", [("reject", "--include-accepted"), ("delete",)])
def test_a_revoked_minion_is_out_at_once(tmp_path, port, act):
    """Its connection, its jobs and its events, by the time that the command has ended or so."""
    config = tmp_path / "m"
    (config / "autosign.conf").touch(mode=0o600)
    (config / "autosign.conf").write_text("web*\n")
    one = _minion_config(tmp_path, "web1", port)
    with _daemon("master", config), _daemon("minion", one):
        _wait_for_pings(config, {"web1"})
        (config / "autosign.conf").unlink()
        _reactor("key", act[0], "--config", str(config), "web1", "-y", *act[1:])
        time.sleep(AT_ONCE)
        assert _connected(config) == set()
        _reactor("call", "--config", str(one), "event.send", "late/event", code=None)
        ended = _reactor("cmd", "--config", str(config), "web1", "test.ping", code=None)
        assert ended.returncode != 0
        assert _journal(config, "late/event") == []
        accepting = ("key", "accept", "--config", str(config), "web1", "-y", "--include-rejected")
        wait_until(lambda: _reactor(*accepting, code=None).returncode == 0, 20)
        # What it had kept meanwhile comes now, which shows that it was not heard before.
        wait_until(lambda: _journal(config, "late/event"), 20)


def _leaves(value):
    if isinstance(value, dict):
        for inner in value.values():
            yield from _leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)
    else:
        yield value


def test_a_second_master_in_the_same_place_is_refused(tmp_path, port):
    """One clear line, and the first goes on."""
    config = tmp_path / "m"
    with _daemon("master", config):
        _reactor("status", "--config", str(config), "--wait", "20")
        second = _reactor("master", "--config", str(config), code=None)
        assert second.returncode == 1
        assert "another server" in second.stderr
        assert _reactor("status", "--config", str(config)).returncode == 0
