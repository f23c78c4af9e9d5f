"""What bad input gets: one clear line, the right exit status, nothing lost and nothing ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import takewhile

import pytest

import bus
from bus.config import master_config
from tests.system import ROOT, running, wait_until

GOOD = "good:\n  on: ask/*\n  do:\n    - event: answered\n"

BROKEN_NATIVE = {
    "yaml": ("bad:\n  on: [a\n  do: 1\n", "bad.yaml:3"),
    "unknown_key": (
        "bad:\n  on: a\n  whn: data.x\n  do:\n    - event: b\n",
        "bad.yaml:3",
    ),
    "unknown_action": ("bad:\n  on: a\n  do:\n    - lokal: test.ping\n", "bad.yaml:4"),
    "expression": (
        'bad:\n  on: a\n  when: "data.x =="\n  do:\n    - event: b\n',
        "bad.yaml:3",
    ),
    "template": ('bad:\n  on: a\n  do:\n    - event: "{{ data.x"\n', "bad.yaml:4"),
}

BROKEN_SALT = {
    "jinja": ("{% if data.x %}\nx:\n  local.test.ping:\n    - tgt: '*'\n", "bad.sls:"),
    "missing_file": (None, "bad.sls"),
    "type": ("x:\n  lokal.test.ping:\n    - tgt: '*'\n", "bad.sls:2"),
    "yaml": ("x:\n  local.test.ping: [\n", "bad.sls:3"),
    "target": ("x:\n  local.test.ping:\n    - args: []\n", "bad.sls:2"),
}

BROKEN_WHEN_RUN = {
    "type": ("{{ data.id }}:\n  lokal.test.ping:\n    - tgt: '*'\n", "lokal"),
    "yaml": ("{{ data.id }}:\n  local.test.ping: [\n", "bad.sls"),
    "target": ("{{ data.id }}:\n  local.test.ping:\n    - args: []\n", "tgt"),
}


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    """A running system with one good rule, a folder for bad ones, and a minion."""
    folder = tmp_path_factory.mktemp("bad")
    rules = folder / "rules"
    rules.mkdir()
    (rules / "good.yaml").write_text(GOOD)
    with running(folder, "--rules", str(rules)) as running_system:
        running_system.rules = rules
        yield running_system


@pytest.fixture(autouse=True)
def _mended(system):
    """After each test the bad files are gone, and the good rule still works."""
    yield
    for path in system.rules.glob("*bad*"):
        path.unlink()
    seq = system.fire("ask/again", {})
    system.expect("answered", after=seq)
    assert not system.has_ended()


def _rules(system):
    return json.loads(system.run("rules", "--json").stdout)


def _one_line(ended, code=1):
    """Assert that a command failed with one line on standard error, and return it."""
    assert ended.returncode == code, ended.stdout + ended.stderr
    lines = ended.stderr.strip().splitlines()
    assert len(lines) == 1, ended.stderr
    assert "Traceback" not in ended.stdout
    return lines[0]


# -- rule files --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BROKEN_NATIVE)
def test_a_broken_native_file(system, kind):
    """It is reported as an event, by `rules` and by `check`, with file and line."""
    text, place = BROKEN_NATIVE[kind]
    seq = system.fire("mark", {})
    (system.rules / "bad.yaml").write_text(text)
    error = system.expect("reactor/rules/error", after=seq)
    assert place in error.payload["source"]
    assert any(place in problem["source"] for problem in _rules(system)["problems"])
    checked = system.run("check", str(system.rules), code=1)
    assert place in checked.stdout + checked.stderr


@pytest.mark.parametrize("kind", BROKEN_SALT)
def test_a_broken_salt_file(system, kind):
    """So is whatever is wrong for every event: bad Jinja, and all of a file without any."""
    text, place = BROKEN_SALT[kind]
    seq = system.fire("mark", {})
    if text is not None:
        (system.rules / "bad.sls").write_text(text)
    (system.rules / "bad.yaml").write_text("reactor:\n  - 'bad/*': bad.sls\n")
    error = system.expect("reactor/rules/error", after=seq)
    assert place in error.payload["source"] + error.payload["message"]


@pytest.mark.parametrize("kind", BROKEN_WHEN_RUN)
def test_a_salt_file_that_renders_to_nonsense(system, kind):
    """What can only be seen with an event fails that reaction, and says where and why."""
    text, word = BROKEN_WHEN_RUN[kind]
    seq = system.fire("mark", {})
    (system.rules / "bad.sls").write_text(text)
    (system.rules / "bad.yaml").write_text("reactor:\n  - 'bad/*': bad.sls\n")
    system.expect("reactor/rules/reloaded", after=seq, changed=["bad"])
    system.fire("bad/one", {"id": "x"})
    failed = system.expect("reactor/reaction/bad/failed", after=seq)
    assert word in failed.payload["error"]
    assert "bad.sls" in failed.payload["error"]


def test_a_file_that_breaks_keeps_its_last_good_version(system):
    """Broken, it goes on as it was; mended, the new version is in force."""
    path = system.rules / "bad_one.yaml"
    seq = system.fire("mark", {})
    path.write_text("one:\n  on: one/*\n  do:\n    - event: first\n")
    system.expect("reactor/rules/reloaded", after=seq, changed=["one"])
    seq = system.fire("mark", {})
    path.write_text("one:\n  on: one/*\n  do: nonsense\n")
    assert system.expect("reactor/rules/error", after=seq).payload["kept"] is True
    seq = system.fire("one/x", {})
    system.expect("first", after=seq)
    path.write_text("one:\n  on: one/*\n  do:\n    - event: second\n")
    system.expect("reactor/rules/reloaded", after=seq, problems=0, changed=["one"])
    seq = system.fire("one/x", {})
    system.expect("second", after=seq)


# -- events ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("fire", "", "{}"), "tag is empty"),
        (("fire", "a\nb", "{}"), "control character"),
        (("fire", "t", "[1, 2]"), "no mapping"),
        (("fire", "t", "{a: [}"), "data"),
        (("call", "event.send", "", "{}"), "tag is empty"),
        (("call", "event.fire", "[1]", "t"), "dict"),
        (("call", "no.such_function"), "no.such_function"),
        (("call", "test.sleep"), "test.sleep"),
        (("run", "no.such_runner"), "no.such_runner"),
        (("run", "event.send", "", "{}"), "tag is empty"),
        (("cmd", "web1"), "FUN"),
        (("events", "--since", "yesterdayish"), "yesterdayish"),
    ],
)
def test_wrong_arguments_of_a_command(system, arguments, words):
    """One line says what was wrong; the exit status is not 0."""
    ended = system.run(*arguments, code=None)
    assert ended.returncode in (1, 2)
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


def test_what_cannot_be_fired_is_a_value_error(system):
    """The library raises where the mistake is, and fires nothing."""
    with bus.connect("master", master_config(system.config)) as events:
        before = events.fire("mark", {})
        for tag, data in [("", {}), ("t", [1]), ("t", {"x": object()}), ("a\nb", {})]:
            with pytest.raises(ValueError, match=r"tag|data"):
                events.fire(tag, data)
        after = events.fire("mark", {})
        with events.listen(since=before) as heard:  # others may have fired in between
            between = takewhile(lambda event: event.seq < after, heard)
            assert not {"", "t", "a\nb"} & {event.tag for event in between}


def test_a_job_for_nobody(system):
    """No minion matches: it is said, with exit status 2, and nothing waits."""
    assert "no minion" in _one_line(system.run("cmd", "nobody*", "test.ping", code=None), 2).lower()


def test_a_function_that_is_not_there(system):
    """The minion's answer names it, and the exit status says that it failed."""
    ended = system.run("cmd", "web1", "no.such", code=None)
    assert ended.returncode == 1
    assert "no.such" in ended.stdout


# -- configuration, keys and what is not running -----------------------------------------------


def _reactor(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "reactor", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=20,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("command", ["up", "master", "check", "status"])
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ret_prt: 4506", "ret_port"),
        ("ret_port: many", "ret_port"),
        ("ret_port: 99999", "ret_port"),
        ("master_port: 4506", "minion"),
    ],
)
def test_a_configuration_that_is_refused(tmp_path, command, line, words):
    """File, line and the nearest right name; nothing is started."""
    (tmp_path / "master").write_text(f"# a comment\n{line}\n")
    ended = _reactor(command, "--config", str(tmp_path), cwd=tmp_path)
    said = _one_line(ended)
    assert f"{tmp_path / 'master'}:2" in said
    assert words in said


@pytest.mark.parametrize(
    "arguments",
    [("fire", "t", "{}"), ("events",), ("cmd", "*", "test.ping"), ("rules",), ("jobs", "list")],
)
def test_a_bus_that_is_not_running(tmp_path, arguments):
    """One line says that nothing answers and what to start."""
    (tmp_path / "master").write_text("")
    command, *rest = arguments
    said = _one_line(_reactor(command, "--config", str(tmp_path), *rest, cwd=tmp_path))
    assert "is it running?" in said


def test_status_of_what_is_not_running(tmp_path):
    """Each part is named, and the exit status is 1."""
    (tmp_path / "master").write_text("")
    ended = _reactor("status", "--config", str(tmp_path), cwd=tmp_path)
    assert ended.returncode == 1
    assert "bus" in ended.stdout


def test_a_minion_whose_key_is_not_accepted(system, tmp_path):
    """It waits, says so, gets no job, and joins as soon as the key is accepted."""
    port = master_config(system.config)["ret_port"]
    (tmp_path / "minion").write_text(f"id: new1\nmaster: 127.0.0.1\nmaster_port: {port}\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "reactor", "minion", "--config", str(tmp_path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=system.environ,
    )
    try:
        wait_until(lambda: "new1" in system.run("key", "list", "pending").stdout)
        status = _reactor("status", "--config", str(tmp_path), cwd=tmp_path)
        assert status.returncode == 1
        assert "pending" in status.stdout
        assert system.run("cmd", "new1", "test.ping", code=None).returncode == 2
        seq = system.fire("mark", {})
        system.run("key", "accept", "new1", "-y")
        system.expect("salt/minion/new1/start", after=seq)
        assert "True" in system.run("cmd", "new1", "test.ping").stdout
        system.run("key", "delete", "new1", "-y")
        assert system.run("cmd", "new1", "test.ping", code=None).returncode == 2
    finally:
        process.terminate()
        _, err = process.communicate(timeout=10)
    assert "Traceback" not in err
    assert "reactor key accept" in err
