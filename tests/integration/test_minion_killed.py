"""A minion, or the master, killed with SIGKILL while a job runs: whoever waits is told."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading

import pytest

from bus.client import LocalClient
from bus.config import master_config
from tests.system import System, wait_until

LONG = 3600


@pytest.fixture
def system(tmp_path):
    """A running system; what a killed minion leaves may take its time, so all of it is ended."""
    made = System(tmp_path, ())
    try:
        made.wait_ready()
        yield made
    finally:
        made.kill()


@pytest.fixture
def client(system):
    """A client of its master."""
    with LocalClient(mopts=master_config(system.config)) as made:
        yield made


def _minion_pid(system):
    status = json.loads(system.run("status", "--json").stdout)
    return status["parts"]["minion"]["details"]["pid"]


def _kill_minion(system, client, jid):
    """Kill the minion once it runs the job."""
    with LocalClient(mopts=client.opts) as other:
        wait_until(lambda: other.cmd("web1", "saltutil.find_job", [jid]).get("web1"))
    os.kill(_minion_pid(system), signal.SIGKILL)


def _sleeping(client):
    """Return the ids of the jobs that sleep on the minion."""
    found = client.cmd("web1", "saltutil.running").get("web1", [])
    return [job["jid"] for job in found if job["fun"] == "test.sleep"]


def test_whoever_waits_is_told(system, client):
    """Long before his time-out, which is an hour; and the next process returns it as failed."""
    client.listen()
    pub = client.run_job("web1", "test.sleep", [LONG])
    answers = client.get_returns_iter(pub, timeout=LONG)
    found = []
    waiter = threading.Thread(target=lambda: found.extend(answers), daemon=True)
    waiter.start()
    _kill_minion(system, client, pub["jid"])
    waiter.join(60)
    assert not waiter.is_alive()
    # Which of the two is heard first is a race between two processes; each is an end.
    assert found or answers.silent["web1"].startswith("went away")
    with LocalClient(mopts=client.opts) as other:
        wait_until(lambda: other.get_cache_returns(pub["jid"]), 60)
        ret = other.job(pub["jid"])["returns"]["web1"]
    assert ret == {
        "return": "test.sleep did not end: the minion was killed while it ran",
        "retcode": 1,
        "success": False,
    }
    tags = [event.tag for event in system.events()]
    assert f"salt/job/{pub['jid']}/gone/web1" in tags
    assert client.cmd("web1", "test.ping", timeout=30) == {"web1": True}


def test_the_command_says_so(system, client):
    """``reactor cmd`` names the minion and ends with a status that is no success."""
    process = system.start("cmd", "web1", "test.sleep", str(LONG), "--timeout", str(LONG))
    wait_until(lambda: _sleeping(client))
    os.kill(_minion_pid(system), signal.SIGKILL)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "reactor: web1 went away" in errors or "was killed while it ran" in out


def test_a_master_that_goes_away(tmp_path):
    """The error of who waits names the job, by which it can be asked for later."""
    system = System(tmp_path, ())
    try:
        system.wait_ready()
        process = system.start("cmd", "web1", "test.sleep", str(LONG), "--timeout", "1")
        with LocalClient(mopts=master_config(system.config)) as client:
            wait_until(lambda: _sleeping(client))
            (jid,) = _sleeping(client)
        for pid in system.left_over():
            if int(pid) != process.pid:
                with contextlib.suppress(ProcessLookupError):  # it ended with its parent
                    os.kill(int(pid), signal.SIGKILL)
        _, errors = process.communicate(timeout=60)
    finally:
        system.kill()
    assert process.returncode == 1
    assert errors.count("\n") == 1
    assert f"'reactor jobs show {jid}'" in errors
