"""A master of real processes takes a new key, and its minions carry over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bus.config import master_config
from bus.keys import KeyStore, fingerprint, read_public
from tests.acceptance.test_daemons import _daemon, _free_port, _minion_config, _pings, _reactor
from tests.system import wait_until

SECONDS = 60


@pytest.fixture
def port(tmp_path: Path) -> int:
    """A master's configuration, and its port."""
    number = _free_port()
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "master").write_text(
        f"interface: 127.0.0.1\nret_port: {number}\nauto_accept: true\n"
    )
    return number


def _up(config: Path) -> list[str]:
    ended = _reactor("run", "--config", str(config), "--json", "manage.up", code=None)
    return json.loads(ended.stdout) if ended.returncode == 0 else []


def _rotate(config: Path, *more: str) -> dict[str, object]:
    ended = _reactor("key", "rotate-master", "--config", str(config), "--yes", "--json", *more)
    return json.loads(ended.stdout)


def _key(config: Path) -> str:
    public = read_public(Path(master_config(config)["pki_dir"], "master.pub"))
    assert public is not None
    return fingerprint(public)


def test_a_fleet_carries_over(tmp_path: Path, port: int) -> None:
    """Connected ones at once, with master_finger too; one that was away when it comes back."""
    config = tmp_path / "m"
    with _daemon("master", config):
        here = _minion_config(tmp_path, "here", port)
        away = _minion_config(tmp_path, "away", port)
        with _daemon("minion", here):
            wait_until(lambda: _up(config) == ["here"], SECONDS)
            old = _key(config)
            given = _minion_config(tmp_path, "given", port, master_finger=old)
            with _daemon("minion", given):
                with _daemon("minion", away) as leaving:
                    wait_until(lambda: _up(config) == ["away", "given", "here"], SECONDS)
                    leaving.stop()
                wait_until(lambda: _up(config) == ["given", "here"], SECONDS)
                done = _rotate(config, "--timeout", "60")
                assert (done["before"], done["finger"]) == (old, _key(config))
                assert done["finger"] != old
                assert (done["waiting"], done["away"]) == ([], ["away"])
                wait_until(lambda: _pings(config, "-L", "here,given") == {"here", "given"}, SECONDS)
            with _daemon("minion", given), _daemon("minion", away):
                everybody = {"away", "given", "here"}
                wait_until(lambda: _pings(config, "*") == everybody, SECONDS)


def test_without_grace_nobody_is_left_behind_unless_forced(tmp_path: Path, port: int) -> None:
    """The error names who would be; forced, the minion says what to do, and it works."""
    config = tmp_path / "m"
    with (config / "master").open("a") as file:
        file.write("master_key_grace_seconds: 0\n")
    away = _minion_config(tmp_path, "away", port)
    with _daemon("master", config):
        with _daemon("minion", away):
            wait_until(lambda: _up(config) == ["away"], SECONDS)
        wait_until(lambda: _up(config) == [], SECONDS)
        old = _key(config)
        refused = _reactor("key", "rotate-master", "--config", str(config), "--yes", code=1)
        assert "away" in refused.stderr
        assert "--force" in refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1
        assert _key(config) == old
        forced = _reactor("key", "rotate-master", "--config", str(config), "--yes", "--force")
        assert "away did not take it now" in forced.stderr
        assert _key(config) in forced.stdout
        with _daemon("minion", away) as minion:
            wait_until(lambda: "does not prove the key" in minion.log.read_text(), SECONDS)
            (pinned,) = away.rglob("minion_master.pub")
            assert str(pinned) in minion.log.read_text()
            pinned.unlink()
            wait_until(lambda: _pings(config, "*") == {"away"}, SECONDS)


def test_what_the_command_refuses(tmp_path: Path, port: int) -> None:
    """No terminal to ask at, and no master."""
    config = str(tmp_path / "m")
    asked = _reactor("key", "rotate-master", "--config", config, code=2)
    assert "--yes" in asked.stderr
    gone = _reactor("key", "rotate-master", "--config", config, "--yes", code=1)
    assert len(gone.stderr.strip().splitlines()) == 1
    assert KeyStore(master_config(config)["pki_dir"]).counts()["minions"] == 0
