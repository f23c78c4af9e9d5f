"""A minion killed with SIGKILL while it runs a job: whoever waits is told, and so is the record."""

from __future__ import annotations

import json
import os
import signal
import threading

import pytest

from bus.client import LocalClient
from bus.config import master_config
from tests.system import running, wait_until

LONG = 3600


@pytest.fixture
def system(tmp_path):
    """A running system."""
    with running(tmp_path) as running_system:
        yield running_system


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
    with LocalClient(mopts=client.opts) as other:
        running_jobs = lambda: [  # noqa: E731 - a condition, in one expression
            job["jid"]
            for job in other.cmd("web1", "saltutil.running").get("web1", [])
            if job["fun"] == "test.sleep"
        ]
        wait_until(running_jobs)
    os.kill(_minion_pid(system), signal.SIGKILL)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "reactor: web1 went away" in errors or "was killed while it ran" in out
