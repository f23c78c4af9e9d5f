"""The commands against a master and a minion that run: ``reactor up`` in a process of its own."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from bus.config import master_config
from bus.errors import NotRunningError
from reactor.cli import cmd, fire, program
from tests.support import wait_for

ROOT = Path(__file__).parents[3]

RULES = """
hello:
  on: salt/minion/*/start
  do:
    - event: hello/done
      data: {minion: "{{ data.id }}"}
fails:
  on: my/failure
  do:
    - local: test.ping
      tgt: "{{ data.nothing.here }}"
"""


def reactor(*args):
    return [sys.executable, "-m", "reactor", *args]


ENVIRON = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    """A running ``reactor up``: its directory, its process and what it shows."""
    place = tmp_path_factory.mktemp("up")
    (place / "r.yaml").write_text(RULES)
    shown = place / "shown"
    with shown.open("w") as file:
        process = subprocess.Popen(
            reactor("up", "--config", str(place / "c"), "--id", "web1", "--rules", "r.yaml"),
            cwd=place,
            env=ENVIRON,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        result = invoke_in(place / "c", "status", "--wait", "20")
        assert result.exit_code == 0, result.output + shown.read_text()
        yield Up(place / "c", process, shown)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Up:
    """What the fixture hands over."""

    def __init__(self, conf, process, shown):
        self.conf = conf
        self.process = process
        self.shown = shown

    def invoke(self, *args, **kwargs):
        return invoke_in(self.conf, *args, **kwargs)

    def fire(self, tag, *data):
        result = self.invoke("fire", tag, *data)
        assert result.exit_code == 0, result.output
        return int(result.stdout)

    def wait_shown(self, text):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if text in self.shown.read_text():
                return
            time.sleep(0.02)
        raise AssertionError(f"no {text!r} in {self.shown.read_text()}")


def invoke_in(conf, *args, **kwargs):
    return CliRunner().invoke(program.program, ["--config", str(conf), *args], **kwargs)


def test_status(up):
    """All parts serve; HTTP is one, but need not."""
    found = json.loads(up.invoke("status", "--json").stdout)
    assert found["ok"]
    assert set(found["parts"]) == {"bus", "link", "reactor", "http", "minion"}
    assert found["parts"]["minion"]["text"] == "web1: connected"


def test_the_console_shows_events_and_reactions(up):
    """The banner, the minion's start, what the rule made of it, and what to do next."""
    up.wait_shown("Reactor ")
    up.wait_shown("salt/minion/web1/start")
    up.wait_shown("└─ hello → event hello/done")
    up.wait_shown("reactor cmd web1 test.ping")
    assert "\x1b" not in up.shown.read_text()


def test_a_failed_reaction_is_shown_and_counted(up):
    """On the console and in ``reactor rules``."""
    up.fire("my/failure")
    up.wait_shown("└─ fails")
    up.wait_shown("failed: ")
    found = json.loads(up.invoke("rules", "--json").stdout)
    by_name = {rule["name"]: rule for rule in found["rules"]}
    assert by_name["fails"]["failed"] >= 1
    table = up.invoke("rules").stdout
    assert table.startswith("RULE ")
    assert "my/failure" in table
    assert "LAST ERROR" in table.splitlines()[0]


def test_rules_are_named_from_the_present_folder(up, monkeypatch):
    """A path that is below it is shown as it would be typed here; JSON has it whole."""
    file = up.conf.parent / "r.yaml"
    assert f" {file}:" in up.invoke("rules").stdout
    monkeypatch.chdir(up.conf.parent)
    assert " r.yaml:" in up.invoke("rules").stdout
    found = json.loads(up.invoke("rules", "--json").stdout)
    assert any(rule["source"].startswith(f"{file}:") for rule in found["rules"])


def test_a_broken_rule_file_is_shown(up):
    """On the console and below the table of rules."""
    path = up.conf / "rules" / "broken.yaml"
    path.write_text("x:\n  onn: a\n")
    try:
        up.wait_shown("broken.yaml:")
        result = up.invoke("rules")
        assert "broken.yaml:" in result.stderr
        assert (result.exit_code, "broken.yaml" in result.stdout) == (0, False)
    finally:
        path.unlink()


def test_check_names_what_only_the_running_reactor_loads(up):
    """What --rules added to the run is in no file that check reads."""
    result = up.invoke("check")
    assert result.exit_code == 0
    added = up.conf.parent / "r.yaml"
    assert f"the running reactor also loads {added}" in result.stderr
    assert f"reactor check {added}" in result.stderr
    assert "also loads" not in up.invoke("check", str(added)).stderr


def test_fire(up):
    """The number that is printed is the event's."""
    seq = up.fire("my/tag", "{a: 1}", "b=x")
    result = up.invoke("events", "--since", str(seq - 1), "--count", "1", "--json")
    document = json.loads(result.stdout)
    assert document["seq"] == seq
    assert document["payload"] == {"a": 1, "b": "x"}
    assert document["id"].endswith(f"-{seq}")
    as_json = json.loads(up.invoke("fire", "my/tag", "--json").stdout)
    assert as_json["tag"] == "my/tag"
    assert as_json["seq"] > seq


def test_fire_a_file(up, tmp_path):
    """Its tag and data; what stands on the command line goes over them."""
    path = tmp_path / "event.json"
    path.write_text('{"tag": "file/tag", "data": {"a": 1, "b": 2}}')
    first = int(up.invoke("fire", "--file", str(path)).stdout)
    up.invoke("fire", "-f", str(path), "other/tag", "b=3")
    shown = up.invoke("events", "*/tag", "--since", str(first - 1), "--count", "2", "--json")
    events = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [(event["tag"], event["payload"]) for event in events] == [
        ("file/tag", {"a": 1, "b": 2}),
        ("other/tag", {"a": 1, "b": 3}),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "event.json: no JSON"),
        ("[]", 'an event is {"tag": "...", "data": {...}}'),
        ('{"tag": "t", "data": 5}', "an event is"),
        ('{"data": {}}', "name a TAG"),
    ],
)
def test_fire_refuses_a_file(up, tmp_path, text, words):
    """One line with its name, and the status of a wrong use."""
    (tmp_path / "event.json").write_text(text)
    result = up.invoke("fire", "--file", str(tmp_path / "event.json"))
    assert result.exit_code == 2
    assert words in result.stderr


def test_fire_on_the_minions_bus(up):
    """It stays there."""
    assert up.invoke("fire", "own/tag", "--node", "minion").exit_code == 0
    assert up.invoke("events", "own/tag", "--until", "0s").stdout == ""


@pytest.mark.parametrize(("args", "status"), [(["", "a=1"], 2), ([" "], 2), (["bad\ntag"], 1)])
def test_fire_refuses_a_bad_tag(up, args, status):
    """In one line; to name none is a wrong use."""
    result = up.invoke("fire", *args)
    assert result.exit_code == status
    assert result.stderr.count("\n") == 1


class TestEvents:
    """Reading events."""

    def test_between_two_numbers(self, up):
        """Exactly those, and then it ends by itself."""
        first = up.fire("range/a", "n=1")
        last = up.fire("range/b", "n=2")
        up.fire("range/c")
        args = ["--since", str(first - 1), "--until", str(last)]
        lines = up.invoke("events", "range/*", *args).stdout.splitlines()
        assert [line.split()[2] for line in lines] == ["range/a", "range/b"]
        assert lines[0].split("  ")[1:] == [str(first), "range/a", '{"n": 1}']

    def test_until_alone_begins_with_the_journal(self, up):
        """What the journal has, up to there."""
        seq = up.fire("alone/a")
        result = up.invoke("events", "alone/*", "--until", str(seq))
        assert len(result.stdout.splitlines()) == 1

    def test_until_a_number_that_is_to_come(self, up):
        """It waits for it, and reads what was there before."""
        seq = up.fire("later/a")
        opts = master_config(up.conf)

        def fire_more():  # not by invoke, which takes over sys.stdout
            for _ in range(5):
                fire.fire(opts, "master", "later/b", {}, 5.0)

        timer = threading.Timer(0.3, fire_more)
        timer.start()
        args = ["--since", str(seq - 1), "--until", str(seq + 5), "--timeout", "10"]
        lines = up.invoke("events", "later/*", *args).stdout.splitlines()
        timer.join()
        seen = [tuple(line.split()[1:3]) for line in lines]
        assert seen[0] == (str(seq), "later/a")
        assert {tag for _, tag in seen[1:]} == {"later/b"}
        assert all(int(number) <= seq + 5 for number, _ in seen)

    def test_until_a_time_to_come(self, up):
        """It ends when that has come."""
        seq = up.fire("soon/a")
        from datetime import UTC, datetime, timedelta

        until = (datetime.now(UTC) + timedelta(seconds=0.5)).isoformat()
        result = up.invoke("events", "soon/*", "--since", str(seq - 1), "--until", until)
        assert result.exit_code == 0
        assert len(result.stdout.splitlines()) == 1

    def test_by_age(self, up):
        """The last hour."""
        up.fire("age/a")
        result = up.invoke("events", "age/a", "--since", "1h", "--until", "0s")
        assert result.exit_code == 0
        assert "age/a" in result.stdout

    def test_pretty(self, up):
        """The data below the head, for people and for programs."""
        seq = str(up.fire("pretty/a", "{b: {c: 1}}"))
        args = ["events", "pretty/a", "--since", str(int(seq) - 1), "--until", seq, "--pretty"]
        assert "    b:\n        ----------\n        c:\n            1\n" in up.invoke(*args).stdout
        assert json.loads(up.invoke(*args, "--json").stdout)["payload"] == {"b": {"c": 1}}

    def test_a_time_out_cuts_no_look_back(self, up):
        """However short it is, all that the journal had is shown: a part of it would look whole."""
        first = int(up.invoke("fire", "past/0", "{}").stdout)
        for number in range(1, 5):
            up.invoke("fire", f"past/{number}", "{}")
        args = ["--since", str(first - 1), "--timeout", "0", "--json"]
        lines = up.invoke("events", "past/*", *args).stdout.splitlines()
        assert [json.loads(line)["tag"] for line in lines] == [f"past/{n}" for n in range(5)]

    def test_too_few(self, up):
        """A count that is not reached is no success."""
        result = up.invoke("events", "never/*", "--count", "2", "--timeout", "0.2")
        assert result.exit_code == 1
        assert "2 of 2 events did not come" in result.stderr

    def test_the_minions_bus_has_no_journal(self, up):
        """So there is no --until there."""
        for option in ("--until", "--since"):
            result = up.invoke("events", "--node", "minion", option, "1")
            assert result.exit_code == 1
            assert "journal" in result.stderr

    def test_as_they_come_until_ctrl_c(self, up):
        """Each line is there at once, also through a pipe; Ctrl-C ends it quietly."""
        process = subprocess.Popen(
            reactor("events", "live/*", "--config", str(up.conf)),
            env={**ENVIRON, "PYTHONUNBUFFERED": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        lines = []
        reader = threading.Thread(target=lambda: lines.append(process.stdout.readline()))
        reader.start()
        deadline = time.monotonic() + 10
        while reader.is_alive() and time.monotonic() < deadline:
            up.fire("live/a")
            reader.join(0.1)
        assert "live/a" in lines[0]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
        assert process.returncode == 130
        assert errors.strip() == ""

    def test_a_reader_that_has_enough(self, up):
        """``| head -1`` ends it without a word."""
        seq = up.fire("pipe/a")
        for number in range(20):
            up.fire("pipe/a", f"n={number}")
        done = subprocess.run(
            f"{sys.executable} -m reactor events 'pipe/*' --config {up.conf} "
            f"--since {seq - 1} | head -1",
            shell=True,
            env=ENVIRON,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert "pipe/a" in done.stdout
        assert done.stderr == ""


class Answers:
    """Stands for `bus.returns.Following`: gives what it is given, errors too."""

    def __init__(self, answers, silent=None):
        self._answers = answers
        self._silent = silent or {}
        self.silent = {}
        self.minions = {name for one in answers if isinstance(one, dict) for name in one}
        self.minions |= set(self._silent) or {"slow"}
        self.jids = ["123"]

    @property
    def over(self):
        if not self._answers:
            self.silent = self._silent
        return not self._answers

    def step(self, _pause):
        answer = self._answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def run_of(answers, **more):
    """A run whose client has these answers."""
    client = type("Client", (), {"follow": lambda *_a, **_k: answers})()
    job = {"fun": "f", "arg": [], "kwarg": {}}
    return cmd.Run(client, "*", "glob", job, 1, **{"as_json": False, **more})


def on_a_terminal(up, *args):
    """Run a command whose output is a terminal, and return what that shows."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        reactor(args[0], "--config", str(up.conf), *args[1:]),
        env=ENVIRON,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # which is how a terminal says that it has ended
        while more := os.read(ours, 4096):
            shown += more
    os.close(ours)
    assert process.wait(30) == 0
    return shown.decode()


class TestCmd:
    """Functions on minions."""

    def test_ping(self, up):
        """In Salt's form."""
        result = up.invoke("cmd", "*", "test.ping")
        assert result.exit_code == 0
        assert result.stdout == "web1:\n    True\n"

    def test_json(self, up):
        """One document."""
        result = up.invoke("cmd", "-L", "web1", "test.echo", "{a: [1]}", "--json")
        assert json.loads(result.stdout) == {
            "web1": {"return": {"a": [1]}, "retcode": 0, "success": True}
        }

    def test_a_job_that_failed_looks_failed(self, up):
        """To people and to programs, at once and later, and on the console."""
        args = ("cmd", "web1", "cmd.run", "echo broken; exit 3")
        result = up.invoke(*args)
        assert result.exit_code == 1
        assert result.stdout == "web1:\n    broken\n    failed (retcode 3)\n"
        assert json.loads(up.invoke(*args, "--json").stdout) == {
            "web1": {"return": "broken", "retcode": 3, "success": False}
        }
        up.wait_shown("cmd.run failed (retcode 3): broken")
        jid = up.invoke("jobs", "list", "--limit", "1").stdout.splitlines()[1].split()[0]
        wait = time.monotonic() + 10
        while "web1:" not in (shown := up.invoke("jobs", "show", jid).stdout):
            assert time.monotonic() < wait, shown
        assert shown.endswith("web1:\n    broken\n    failed (retcode 3)\n")

    def test_a_function_that_is_not_there(self, up):
        """The return says so, and the status is 1."""
        result = up.invoke("cmd", "web1", "test.nope")
        assert result.exit_code == 1
        assert "test.nope" in result.stdout

    def test_nobody(self, up):
        """Status 2, and what to look at."""
        result = up.invoke("cmd", "nobody*", "test.ping", "--json")
        assert result.exit_code == 2
        assert json.loads(result.stdout) == {}
        assert "no minion matches 'nobody*'" in result.stderr
        assert up.invoke("cmd", "nobody*", "test.ping", "--async").exit_code == 2
        assert up.invoke("cmd", "nobody*", "test.ping", "-b", "1").exit_code == 2

    def test_a_list_with_a_name_that_no_minion_has(self, up):
        """It is named, and the status is not 0: a list says exactly who is meant."""
        result = up.invoke("cmd", "-L", "web1, web9", "test.ping", "-t", "3")
        assert (result.exit_code, result.stdout) == (1, "web1:\n    True\n")
        assert result.stderr == "reactor: web9 is no accepted minion: see 'reactor key list'\n"

    def test_one_that_is_not_connected(self, up):
        """It is named, and the others are shown."""
        import zmq

        from bus.keys import KeyStore

        store = KeyStore(up.conf / "pki" / "master")
        store.submit("away", zmq.curve_keypair()[0], auto_accept=True)
        deadline = time.monotonic() + 10
        try:
            # The link server looks at the key files every now and then.
            while time.monotonic() < deadline:
                result = up.invoke("cmd", "-L", "web1,away", "test.ping", "-t", "3")
                if "is not connected" in result.stderr:
                    break
        finally:
            store.delete("away")
        while up.invoke("cmd", "away", "test.ping").exit_code != 2:
            assert time.monotonic() < deadline + 10
        assert result.exit_code == 1
        assert result.stdout == "web1:\n    True\n"
        assert result.stderr == "reactor: away is not connected\n"

    def test_one_that_does_not_answer(self, capsys):
        """It is named with the reason, and the status is no success."""
        answers = Answers([{"quick": {"return": 1}}], {"slow": "did not answer in time"})
        run = run_of(answers, summary=True)
        assert run.at_once() == 1
        shown = capsys.readouterr()
        assert shown.out == "quick:\n    1\n"
        assert shown.err.splitlines() == [
            "reactor: slow did not answer in time",
            "2 minions: 1 returned (0 failed), 1 did not answer",
        ]

    def test_an_interrupt_while_waiting(self, capsys):
        """The job goes on, and its id is told."""
        with pytest.raises(KeyboardInterrupt):
            run_of(Answers([KeyboardInterrupt()])).at_once()
        error = capsys.readouterr().err
        assert "the job goes on: see 'reactor jobs show 123'" in error
        assert "'reactor jobs kill 123'" in error

    def test_a_master_that_goes_away(self, capsys):
        """What has come is printed, and the error passes."""
        answers = Answers([{"a": {"return": 1}}, NotRunningError("gone; job 123 may go on")])
        with pytest.raises(NotRunningError, match="job 123"):
            run_of(answers, as_json=True).at_once()
        assert json.loads(capsys.readouterr().out)["a"]["return"] == 1

    def test_progress_and_summary_on_a_terminal(self, up):
        """While it waits, and at the end; the line of progress is wiped out."""
        shown = on_a_terminal(up, "cmd", "web1", "test.sleep", "1.5")
        assert "\r0 of 1 minions have answered ...\x1b[K" in shown
        assert "\r\x1b[Kweb1:" in shown.replace("\x1b[36m", "")
        assert shown.endswith("1 minion: 1 returned (0 failed), 0 did not answer\r\n")
        as_json = on_a_terminal(up, "cmd", "web1", "test.ping", "--json")
        assert "returned" not in as_json

    def test_no_terminal_no_progress(self, up):
        """And a summary only if it is asked for, where it is in no program's way."""
        result = up.invoke("cmd", "web1", "test.sleep", "1")
        assert (result.stdout, result.stderr) == ("web1:\n    True\n", "")
        result = up.invoke("cmd", "web1", "test.ping", "--summary", "--json")
        assert json.loads(result.stdout)["web1"]["return"] is True
        assert result.stderr == "1 minion: 1 returned (0 failed), 0 did not answer\n"

    def test_subset(self, up):
        """Some of those that are connected."""
        assert up.invoke("cmd", "*", "test.ping", "--subset", "3").stdout == "web1:\n    True\n"
        result = up.invoke("cmd", "nobody*", "test.ping", "--subset", "3")
        assert result.exit_code == 2
        assert "no minion that 'nobody*' means is connected" in result.stderr

    def test_failhard(self, up):
        """The status of a failed batch; without a batch it is a wrong use."""
        assert up.invoke("cmd", "*", "cmd.run", "exit 1", "-b", "1", "--failhard").exit_code == 1
        result = up.invoke("cmd", "*", "test.ping", "--failhard")
        assert result.exit_code == 2
        assert "give --batch too" in result.stderr

    def test_active_and_kill(self, up):
        """What runs is listed, and ended where it runs."""
        jid = up.invoke("cmd", "web1", "test.sleep", "3600", "--async").stdout.split()[1][:-1]
        wait_for(lambda: jid in up.invoke("jobs", "active").stdout)
        line = up.invoke("jobs", "active").stdout.splitlines()[1].split()
        assert (line[0], line[1], line[-1]) == (jid, "web1", "test.sleep")
        found = json.loads(up.invoke("jobs", "active", "--json").stdout)
        assert found[jid]["web1"]["pid"] == int(line[2])
        result = up.invoke("jobs", "kill", jid)
        assert (result.exit_code, result.stdout) == (0, f"job {jid} was killed on web1\n")
        wait_for(lambda: "killed on request" in up.invoke("jobs", "show", jid).stdout)
        again = up.invoke("jobs", "kill", jid, "--json")
        assert again.exit_code == 1
        assert json.loads(again.stdout)["killed"] == []
        assert "was killed nowhere" in again.stderr
        assert jid not in up.invoke("jobs", "active").stdout
        unknown = up.invoke("jobs", "kill", "20200101000000000000")
        assert unknown.exit_code == 1
        assert "see 'reactor jobs list'" in unknown.stderr

    def test_async_and_the_job_later(self, up):
        """The id is printed, and the job can be looked up by it."""
        result = up.invoke("cmd", "*", "test.ping", "--async")
        jid = result.stdout.split()[1].rstrip(":")
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            shown = up.invoke("jobs", "show", jid).stdout
            if "web1:\n    True" in shown:
                break
        assert shown == f"{jid}  test.ping\nweb1:\n    True\n"
        assert jid in up.invoke("jobs", "list").stdout
        assert jid in json.loads(up.invoke("jobs", "list", "--json", "--limit", "5").stdout)
        found = json.loads(up.invoke("jobs", "show", jid, "--json").stdout)
        assert found["returns"]["web1"]["return"] is True
        as_json = json.loads(up.invoke("cmd", "*", "test.ping", "--async", "--json").stdout)
        assert as_json["minions"] == ["web1"]

    def test_a_job_that_is_not_there(self, up):
        """Status 1, and where to look."""
        result = up.invoke("jobs", "show", "20200101000000000000")
        assert result.exit_code == 1
        assert "there is no job" in result.stderr
        assert up.invoke("jobs", "show", "x").exit_code == 1

    def test_batch(self, up):
        """A part of the minions at a time."""
        result = up.invoke("cmd", "*", "test.ping", "-b", "50%")
        assert result.exit_code == 0
        assert result.stdout == "web1:\n    True\n"


class TestCallAndRun:
    """Functions in this process."""

    def test_call(self, up):
        """As Salt shows it."""
        assert up.invoke("call", "test.ping").stdout == "local:\n    True\n"
        result = up.invoke("call", "test.echo", "a b", "--json")
        assert json.loads(result.stdout) == {"local": "a b"}

    def test_call_sends_an_event_to_the_master(self, up):
        """The contract's own example."""
        data = '{success: True, message: "It works!"}'
        result = up.invoke("call", "event.send", "myco/mytag/success", data)
        assert result.exit_code == 0
        assert result.stderr == ""
        found = up.invoke(
            "events", "myco/mytag/success", "--since", "0", "--count", "1", "--timeout", "10",
            "--json",
        )  # fmt: skip
        document = json.loads(found.stdout)
        assert document["data"]["id"] == "web1"
        assert document["payload"] == {"success": True, "message": "It works!"}

    def test_call_without_a_master(self, up):
        """Then the event stays on the minion's bus."""
        assert up.invoke("call", "--local", "event.send", "local/only").exit_code == 0
        assert up.invoke("events", "local/only", "--until", "0s").stdout == ""

    def test_call_what_is_not_there(self, up):
        """One line and status 1."""
        result = up.invoke("call", "test.nope")
        assert result.exit_code == 1
        assert result.stderr.startswith("reactor: ")

    def test_call_says_what_the_function_said(self, up):
        """A function may set the return code."""
        assert up.invoke("call", "cmd.run", "exit 3").exit_code == 1

    def test_run(self, up):
        """A runner, and what it returned."""
        result = up.invoke("run", "event.send", "run/tag", "{a: 1}")
        assert result.exit_code == 0
        assert result.stdout == "True\n"
        as_json = up.invoke("run", "event.send", "run/tag", "{a: 1}", "--json")
        assert json.loads(as_json.stdout) is True

    def test_run_without_a_return(self, up):
        """Nothing is shown."""
        result = up.invoke("run", "state.event", "x", "count=0")
        assert (result.exit_code, result.stdout) == (0, "")


def test_a_second_up_in_the_same_directory(up):
    """One clear line."""
    done = subprocess.run(
        reactor("up", "--config", str(up.conf)),
        env=ENVIRON,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("reactor: bus: another server (process ")


def test_a_killed_part_comes_back(up):
    """The console says so, and all serve again."""
    pid = json.loads(up.invoke("status", "--json").stdout)["parts"]["minion"]["details"]["pid"]
    os.kill(pid, signal.SIGKILL)
    up.wait_shown("reactor: minion ended unexpectedly (signal SIGKILL): starting it again")
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        status = json.loads(up.invoke("status", "--wait", "10", "--json").stdout)
        if status["ok"] and status["parts"]["minion"]["details"]["pid"] != pid:
            return
    raise AssertionError(status)


class TestServices:
    """``reactor master`` and ``reactor minion``, as systemd starts them."""

    def start(self, conf, name, notify):
        return subprocess.Popen(
            reactor(name, "--config", str(conf), "--log-level", "info"),
            env={**ENVIRON, "NOTIFY_SOCKET": notify},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )

    def test_say_when_they_are_ready_and_end_in_time(self, tmp_path):
        """READY=1 once they serve; SIGTERM ends them clean."""
        import socket

        conf = tmp_path / "c"
        assert invoke_in(conf, "init").exit_code == 0
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(str(tmp_path / "n"))
            notify.settimeout(20)
            started = []
            try:
                for name in ("master", "minion"):
                    started.append(self.start(conf, name, str(tmp_path / "n")))
                    assert notify.recv(100) == b"READY=1"
                assert invoke_in(conf, "status", "--wait", "15").exit_code == 0
            finally:
                ended = [self.end(process) for process in reversed(started)]
        for status, log in ended:
            assert status == 0
            assert b"Traceback" not in log

    def test_an_event_that_waits_is_said_to_wait(self, tmp_path):
        """The minion has it safe, which is all that its True says; a person wants to know more."""
        import socket

        conf = tmp_path / "c"
        assert invoke_in(conf, "init").exit_code == 0
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(str(tmp_path / "n"))
            notify.settimeout(20)
            minion = self.start(conf, "minion", str(tmp_path / "n"))
            try:
                assert notify.recv(100) == b"READY=1"
                result = invoke_in(conf, "call", "event.send", "my/tag")
                local = invoke_in(conf, "call", "--local", "event.send", "my/tag")
            finally:
                self.end(minion)
        assert (result.exit_code, result.stdout) == (0, "local:\n    True\n")
        assert "reactor: kept in the minion's spool: its link to the master is" in result.stderr
        assert local.stderr == ""

    def end(self, process):
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=20)
        return process.returncode, log


def test_up_quiet_says_nothing(tmp_path):
    """And stops when told to; the log goes where it was asked to."""
    process = subprocess.Popen(
        reactor("up", "--quiet", "--log-level", "warning", "--file-roots", str(tmp_path)),
        cwd=tmp_path,
        env={key: value for key, value in ENVIRON.items() if key != "REACTOR_CONFIG_DIR"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    result = invoke_in(tmp_path / ".reactor", "status", "--wait", "20")
    process.send_signal(signal.SIGTERM)
    out, errors = process.communicate(timeout=10)
    assert result.exit_code == 0
    assert (process.returncode, out) == (0, "")
    assert "Traceback" not in errors
    assert not (tmp_path / ".reactor" / "log" / "up.log").exists()
