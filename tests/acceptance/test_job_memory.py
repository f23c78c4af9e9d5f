"""A job that eats memory fails, and its minion is well."""

from __future__ import annotations

from pathlib import Path

from bus.client import LocalClient
from bus.config import master_config
from bus.errors import BusError
from tests.acceptance.test_daemons import _daemon, _free_port, _minion_config
from tests.system import wait_until

MEGABYTES = 1 << 20
SECONDS = 60


def test_a_job_that_eats_memory(tmp_path: Path) -> None:
    """It returns a failure that says why; the next job runs in the same worker."""
    modules = tmp_path / "modules"
    modules.mkdir(mode=0o700)
    (modules / "greedy.py").write_text(
        "import os\n"
        "def eat(megabytes):\n"
        "    return len(bytearray(megabytes << 20)) >> 20\n"
        "def pid():\n"
        "    return os.getpid()\n"
    )
    config, port = tmp_path / "m", _free_port()
    config.mkdir()
    (config / "master").write_text(f"interface: 127.0.0.1\nret_port: {port}\nauto_accept: true\n")
    bounds = {"job_memory_max": 300 * MEGABYTES, "job_workers": 1, "module_dirs": [str(modules)]}
    minion = _minion_config(tmp_path, "web1", port, **bounds)
    with (
        _daemon("master", config),
        _daemon("minion", minion),
        LocalClient(mopts=master_config(config)) as client,
    ):
        wait_until(lambda: _cmd(client, "greedy.pid") is not None, SECONDS)
        pid = _cmd(client, "greedy.pid")
        found = client.cmd("web1", "greedy.eat", [2000], timeout=SECONDS, full_return=True)
        assert found["web1"]["retcode"]
        assert "MemoryError" in str(found["web1"]["ret"])
        assert _cmd(client, "greedy.eat", 20) == 20
        assert _cmd(client, "greedy.pid") == pid


def _cmd(client: LocalClient, fun: str, *arg: object) -> object:
    try:
        return client.cmd("web1", fun, list(arg), timeout=SECONDS).get("web1")
    except BusError:  # the master is still starting
        return None
