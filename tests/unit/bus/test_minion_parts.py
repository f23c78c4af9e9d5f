"""The real parts of a minion, put together."""

import contextlib
import os
import signal

import pytest

from bus import config, endpoints, rpc
from bus.errors import BusError
from bus.event import MinionEvent
from bus.minion import daemon
from bus.minion.parts import LinkHooks, RealParts
from tests.unit.bus.minion_tools import alive, children, wait_for


@pytest.fixture
def make_opts(tmp_path):
    """Read a minion's options from a file."""
    tmp_path.chmod(0o700)

    def make(text):
        (tmp_path / "minion").write_text(f"id: web1\n{text}")
        return config.minion_config(str(tmp_path))

    return make


def _run_minion(opts):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            daemon.main(opts)
            status = 0
        finally:
            os._exit(status)
    return pid


def _status(opts):
    with contextlib.suppress(BusError):
        return rpc.call(endpoints.minion_pull(opts), "status", timeout=2)
    return None


def test_a_whole_minion_without_a_master(make_opts):
    """It serves its bus, its workers get ready, and it leaves no process behind."""
    opts = make_opts("master_type: disable\njob_workers: 2\n")
    pid = _run_minion(opts)
    try:
        wait_for(lambda: (_status(opts) or {}).get("workers") == {"idle": 2})
        assert _status(opts)["link"] == "disabled"
        with MinionEvent(opts) as event:
            event.subscribe("my/")
            assert event.fire_master({"a": 1}, "my/tag")
            assert event.get_event(wait=10, tag="my/")["a"] == 1
        (nursery,) = children(pid)
        workers = children(nursery)
        assert len(workers) == 2
    finally:
        os.kill(pid, signal.SIGTERM)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code == 0
    assert not any(map(alive, [nursery, *workers]))


def test_the_link_is_made_with_the_minions_key(make_opts, tmp_path):
    """The minion's key is made on first use, for its owner only."""
    opts = make_opts("master: 127.0.0.1\nmaster_port: 1\n")
    hooks = LinkHooks(lambda _job: None, lambda _state: None, lambda: None)
    link = RealParts().link(opts, hooks, dict)
    try:
        assert link.state == "connecting"
        assert link.lost == 0
        assert link.sockets
    finally:
        link.close()
    assert list(tmp_path.rglob("minion*"))
