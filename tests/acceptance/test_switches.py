"""Rules switched off and on while all of it runs: by command, by runner, over a kill and a reload."""

import getpass
import json
import os
import signal
import subprocess
import sys

import pytest

from tests.system import ROOT, running, wait_until

RULES = """
greet:
  on: my/greet
  do: [{event: out/greet, data: {n: "{{ data.n }}"}}]
greet_too:
  on: my/greet
  do: [{event: out/greet-too, data: {n: "{{ data.n }}"}}]
never:
  on: my/greet
  enabled: false
  do: [{event: out/never}]
"""


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    folder = tmp_path_factory.mktemp("switches")
    (folder / "r.yaml").write_text(RULES)
    with running(folder, "--rules", str(folder / "r.yaml")) as found:
        found.rules = folder / "r.yaml"
        yield found


@pytest.fixture
def off(system):
    """The rule ``greet`` switched off, and on again afterwards."""
    system.run("rules", "disable", "greet")
    yield system
    system.run("rules", "enable", "greet")


def _json(system, *arguments):
    return json.loads(system.run(*arguments, "--json").stdout)


def _rows(system):
    return {row["name"]: row for row in _json(system, "rules")["rules"]}


def _greeted(system, n):
    """Fire, wait for the rule that is always on, and say whether the other one acted as well."""
    seq = system.fire("my/greet", {"n": n})
    system.expect("reactor/reaction/greet_too/done", seq)
    system.fire("my/mark", {})
    wait_until(lambda: not _json(system, "why", str(seq))["stopped"])
    return any(e.tag == "out/greet" and e.payload["n"] == n for e in system.events())


def test_off_and_on(system):
    """It is told in one line each, as JSON and as an event."""
    assert _greeted(system, 1)
    before = system.events()[-1].seq
    assert system.run("rules", "disable", "greet").stdout == "greet: off\n"
    event = system.expect("reactor/rule/greet/disabled", before)
    assert (event.data["rule"], event.data["user"]) == ("greet", getpass.getuser())
    assert event.data["sources"] == [f"{system.rules}:2"]
    row = _rows(system)["greet"]
    assert (row["state"], row["switched_off"]["user"]) == ("off", getpass.getuser())
    assert row["fired"] == 1
    assert f"switched off by {getpass.getuser()} at 20" in system.run("rules").stdout
    assert not _greeted(system, 2)
    told = system.run("rules", "disable", "greet").stdout
    assert told.startswith("greet: already off (switched off by ")
    before = system.events()[-1].seq
    [one] = _json(system, "rules", "enable", "gree[t]")
    assert one == {"rule": "greet", "state": "on", "changed": True, "why": ""}
    system.expect("reactor/rule/greet/enabled", before)
    assert _greeted(system, 3)


def test_globs_and_what_a_file_says(system):
    """A rule that its file switches off stays off, and that is said."""
    assert system.run("rules", "disable", "*").stdout.splitlines() == [
        "greet: off",
        "greet_too: off",
        "never: off",
    ]
    assert system.run("rules", "enable", "*").stdout.splitlines() == [
        "greet: on",
        "greet_too: on",
        "never: off (enabled: false)",
    ]
    assert not _json(system, "rules")["switches"]


def test_a_wrong_name(system):
    """One line with the nearest right one; nothing is switched, not even what was right."""
    ended = system.run("rules", "disable", "greet", "gret_too", code=1)
    assert ended.stderr == "reactor: there is no rule 'gret_too': did you mean greet_too?\n"
    assert ended.stdout == ""
    assert system.run("rules", "disable", "x*", code=1).stderr.count("\n") == 1
    assert system.run("rules", "disable", code=2).stdout == ""
    assert {row["state"] for name, row in _rows(system).items() if name != "never"} == {"on"}


def test_it_says_so_wherever_somebody_asks(off):
    """In why, check, replay and the runner."""
    seq = off.fire("my/greet", {"n": 10})
    off.expect("reactor/reaction/greet_too/done", seq)
    said = f"greet: switched off by {getpass.getuser()} at 20"
    assert said in off.run("why", str(seq)).stdout
    assert said in off.run("why", "my/greet").stdout
    assert "the rule greet is switched off by" in off.run("check", code=None).stderr
    wanted = ("replay", "--since", str(seq), "--rule", "greet")
    assert "the rule greet is switched off by" in off.run(*wanted, "--dry-run", code=1).stderr
    assert "out/greet-too" not in off.run("replay", "--since", str(seq), "--dry-run").stderr
    assert "1 switched off" in off.run("status").stdout
    found = json.loads(off.run("run", "reactor.rules", "--json").stdout)
    states = {row["name"]: row["state"] for row in found["rules"]}
    assert states == {"greet": "off", "greet_too": "on", "never": "off"}


def test_it_survives_a_kill_and_a_reload(off):
    """The reactor's process, then the rule's file: it is off until somebody switches it on."""
    pid = _json(off, "status")["parts"]["reactor"]["details"]["leader"]["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not _is_dead(off, pid))
    assert _rows(off)["greet"]["state"] == "off"
    assert not _greeted(off, 20)
    before = off.events()[-1].seq
    off.rules.write_text(RULES + "another:\n  on: x\n  do: [{event: y}]\n")
    off.expect("reactor/rules/reloaded", before)
    assert _rows(off)["greet"]["state"] == "off"
    assert not _greeted(off, 21)


def _is_dead(system, pid):
    reactor = _json(system, "status")["parts"]["reactor"]
    return not reactor["ok"] or reactor["details"]["leader"]["pid"] == pid


def test_the_runner_names_who_asked(system):
    """By the names of the runner's other functions."""
    found = json.loads(system.run("run", "reactor.disable", "greet", "--json").stdout)
    assert found == {"greet": "off"}
    assert _rows(system)["greet"]["switched_off"]["user"] == getpass.getuser()
    assert "did you mean greet" in system.run("run", "reactor.enable", "gret", code=1).stderr
    found = json.loads(system.run("run", "reactor.enable", "greet", "--json").stdout)
    assert found == {"greet": "on"}
    assert "takes names of rules" in system.run("run", "reactor.enable", code=1).stderr


def test_names_are_completed(system, tmp_path):
    """Those of the running reactor; where none runs there are none, and no error."""
    assert _completed(system.config, "gre") == {"greet", "greet_too"}
    assert _completed(system.config, "x") == set()
    (tmp_path / "master").write_text("")
    assert _completed(tmp_path, "gre") == set()


def _completed(config, begun):
    line = f"reactor rules disable --config {config} {begun}"
    ended = subprocess.run(
        [sys.executable, "-m", "reactor"],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "_REACTOR_COMPLETE": "bash_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(line.split()) - 1),
        },
    )
    assert ended.stderr == ""
    return {each.partition(",")[2] for each in ended.stdout.splitlines() if each}
