"""What an administrator does with minions, against a running system."""

from __future__ import annotations

import json

import pytest

from bus.client import LocalClient
from bus.config import master_config
from tests.system import System, wait_until


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    """A running system."""
    made = System(tmp_path_factory.mktemp("fleet"), ())
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


def test_a_grain_that_was_set(client):
    """The master means its minion by it soon after, and no more once it is gone."""
    assert client.cmd("role:web", "test.ping", tgt_type="grain") == {}
    assert client.cmd("web1", "grains.setval", ["role", "web"]) == {"web1": {"role": "web"}}
    wait_until(lambda: client.cmd("role:web", "test.ping", tgt_type="grain") == {"web1": True})
    client.cmd("web1", "grains.delkey", ["role"])
    wait_until(lambda: client.cmd("role:web", "test.ping", tgt_type="grain") == {})


def test_a_job_with_a_time_limit(system):
    """The minion ends it, and its return says so."""
    arguments = ("web1", "test.sleep", "3600", "--job-timeout", "0.5", "--json")
    found = system.run("cmd", *arguments, code=1)
    answer = json.loads(found.stdout)["web1"]
    assert (answer["retcode"], answer["success"]) == (1, False)
    assert answer["return"] == "test.sleep timed out after 0.5 s"


def test_the_newest_jobs(system, client):
    """A client's own questions are left out unless they are asked for."""
    sent = client.run_job("web1", "test.echo", ["mine"])["jid"]
    client.cmd("web1", "saltutil.find_job", [sent])
    found = json.loads(system.run("run", "jobs.list_jobs_filter", "1", "--json").stdout)
    assert (list(found), found[sent]["Function"]) == ([sent], "test.echo")
    every = ("run", "jobs.list_jobs_filter", "1", "filter_find_job=False", "--json")
    (newest,) = json.loads(system.run(*every).stdout).values()
    assert newest["Function"] == "saltutil.find_job"
    none = system.run("run", "jobs.list_jobs_filter", "0", "--json")
    assert json.loads(none.stdout) == {}
