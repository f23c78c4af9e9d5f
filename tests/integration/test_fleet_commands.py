"""What an administrator does with minions, against a running system."""

from __future__ import annotations

import json

import pytest

import bus
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


SEVERAL = ("web1", "test.ping,test.echo,test.version", ",", "a,b", ",")


def test_several_functions_in_one_job(system, client):
    """As in Salt: one job, a return with what each gave, and its own failure."""
    names = ["test.ping", "test.echo", "test.version"]
    version = client.cmd("web1", "test.version")["web1"]
    returned = {"test.ping": True, "test.echo": "a,b", "test.version": version}
    assert client.cmd("web1", names, [[], ["a,b"], []]) == {"web1": returned}
    answer = json.loads(system.run("cmd", *SEVERAL, "--json").stdout)["web1"]
    assert answer == {"return": returned, "retcode": 0, "success": True}
    shown = system.run("cmd", "web1", "test.ping,test.nothing,test.true", code=1)
    assert "'test.nothing' is not available" in shown.stdout
    assert "test.ping" in shown.stdout

    with bus.connect("master", opts=client.opts) as events:
        new, ret = (_newest(events, f"salt/job/*/{kind}", names) for kind in ("new", "ret/web1"))
    assert new["arg"] == ret["fun_args"] == [[], ["a,b"], []]
    assert (ret["return"], ret["success"], ret["retcode"]) == (returned, True, 0)
    (job,) = json.loads(
        system.run(
            "run", "jobs.list_jobs", f"search_function={names[2]}", "limit=1", "--json"
        ).stdout
    ).values()
    assert job["Function"] == names
    assert "test.ping, test.echo, test.version a" not in system.run("jobs", "list").stdout
    assert "test.ping, test.echo, test.version" in system.run("jobs", "list").stdout


def _newest(events, glob, names):
    found = [event.data for event in events.listen(glob, since=0, timeout=0)]
    return [data for data in found if data["fun"] == names][-1]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("test.ping,test.ping",), "test.ping is named twice"),
        (("test.ping,",), "'' names no function"),
        (("test.ping,test.echo", "a,b,c"), "arguments for 3 functions, and 2 of them"),
    ],
)
def test_functions_that_no_job_can_have(system, arguments, text):
    """One line that says so, and no job."""
    found = system.run("cmd", "web1", *arguments, code=1)
    assert found.stdout == ""
    assert text in found.stderr
    assert len(found.stderr.splitlines()) == 1


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
