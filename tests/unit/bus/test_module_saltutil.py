"""The execution module saltutil, against a minion's socket."""

import itertools

import pytest

from bus.config import minion_config
from bus.errors import BusError, NotRunningError
from tests.unit.bus.loader_tools import execution, minion_bus

JOBS = [{"jid": "1", "fun": "cmd.run"}, {"jid": "2", "fun": "test.sleep"}]
OLD = {"running": False, "finished": 2, "changed": ["_modules/other.py"], "errors": []}
NEW = {"running": False, "finished": 3, "changed": ["_modules/mine.py"], "errors": []}
SYNCS = [iter(())]
ROTATIONS = [iter(())]


@pytest.fixture
def opts(tmp_path):
    """A minion's options."""
    return minion_config({"id": "web1", "sock_dir": str(tmp_path)})


@pytest.fixture
def asked(opts):
    """A minion that notes what it is asked."""
    notes = []
    methods = {
        "jobs.running": lambda _: JOBS,
        "jobs.find": lambda params: {job["jid"]: job for job in JOBS}.get(params["jid"], {}),
        "jobs.kill": lambda params: notes.append(params) or True,
        "jobs.signal": lambda params: notes.append(params) or True,
        "jobs.kill_all": lambda _: ["1", "2"],
        "modules.sync": lambda _: 3,
        "status": lambda _: {"sync": next(SYNCS[0])},
        "keys.rotate": lambda _: 1,
        "keys.rotation": lambda _: next(ROTATIONS[0]),
    }
    done = {"finished": 1, "error": "", "finger": "aa:bb"}
    ROTATIONS[0] = iter([{"finished": 0}, done, {"finished": 99}])
    SYNCS[0] = iter([OLD, {**OLD, "finished": 3, "running": True}, *[NEW] * 9])
    with minion_bus(opts, methods):
        yield notes


@pytest.fixture
def saltutil(opts):
    """The module."""
    return execution("saltutil", opts)


def test_jobs(saltutil, asked):
    """Running jobs are listed, found, ended."""
    assert saltutil.running() == JOBS
    assert saltutil.is_running("cmd.*") == JOBS[:1]
    assert saltutil.find_job("2") == JOBS[1]
    assert saltutil.find_job("3") == {}
    assert saltutil.kill_job(20261122) is True
    assert asked == [{"jid": "20261122"}]


def test_signals(saltutil, asked):
    """To one job, or the end of all."""
    assert saltutil.signal_job(7, 10) is True
    assert saltutil.term_job("8") is True
    assert asked == [{"jid": "7", "signal": "10"}, {"jid": "8", "signal": "SIGTERM"}]
    assert saltutil.kill_all_jobs() == ["1", "2"]


def test_sync(saltutil, asked):
    """Modules are fetched and loaded anew; what the sync that was asked for changed is told."""
    assert saltutil.sync_modules() == ["_modules/mine.py"]
    assert saltutil.sync_all() == ["_modules/mine.py"]
    assert saltutil.sync_grains() == []
    assert saltutil.refresh_modules() is True
    assert saltutil.refresh_grains() is True
    assert execution("sys", saltutil.functions["saltutil.running"].__globals__["__opts__"])


def test_sync_of_grains(saltutil, asked):
    """Of what changed only the grains are told."""
    SYNCS[0] = iter([{**NEW, "changed": ["_grains/mine.py", "_modules/mine.py"]}])
    assert saltutil.sync_grains() == ["_grains/mine.py"]


def test_new_keys(saltutil, asked):
    """The fingerprint is told once the rotation that was asked for is over."""
    assert saltutil.regen_keys() == "aa:bb"
    assert next(ROTATIONS[0])["finished"] == 99


def test_new_keys_that_the_master_refuses(saltutil, asked):
    """It says why."""
    ROTATIONS[0] = iter([{"finished": 1, "error": "the master did not take it"}])
    with pytest.raises(BusError, match="the master did not take it"):
        saltutil.regen_keys()


def test_new_keys_that_are_not_confirmed(saltutil, asked):
    """It is not waited for for ever, and nothing is lost."""
    ROTATIONS[0] = itertools.repeat({"finished": 0})
    saltutil.functions["saltutil.regen_keys"].__globals__["_ROTATE_SECONDS"] = 0.05
    with pytest.raises(BusError, match=r"within 0\.05 s: it waits in minion\.pem\.new"):
        saltutil.regen_keys()


def test_a_sync_that_fails(saltutil, asked):
    """It says which file could not be had."""
    SYNCS[0] = iter([{**NEW, "errors": ["no file a", "no file b"]}])
    with pytest.raises(BusError, match="no file a; no file b"):
        saltutil.sync_modules()


def test_a_sync_that_does_not_end(saltutil, asked):
    """It is given up."""
    SYNCS[0] = itertools.repeat(OLD)
    saltutil.functions["saltutil.sync_all"].__globals__["_SYNC_SECONDS"] = 0.05
    with pytest.raises(BusError, match=r"did not end within 0\.05 s"):
        saltutil.sync_all()


def test_reload_through_sys(opts, asked):
    """sys.reload_modules is the same thing."""
    assert execution("sys", opts).reload_modules() is True


def test_without_a_minion(saltutil):
    """The error says that nothing runs there."""
    with pytest.raises(NotRunningError):
        saltutil.running()
