"""The execution module cmd, with real programs."""

import os
import pwd
import time
from pathlib import Path

import pytest

from bus.errors import ArgumentsError, BusError
from bus.modules import _process
from tests.unit.bus.loader_tools import execution

ROOT = os.geteuid() == 0


@pytest.fixture
def context():
    """What the functions keep."""
    return {}


@pytest.fixture
def cmd(context):
    """The module."""
    return execution("cmd", context=context)


def test_run(cmd, context):
    """Output and errors come back together, and the status is that of the job."""
    assert cmd.run("echo out; echo err >&2") == "out\nerr"
    assert context["retcode"] == 0
    assert cmd.run("echo no; exit 3") == "no"
    assert context["retcode"] == 3


def test_single_streams(cmd):
    """One stream alone."""
    assert cmd.run_stdout("echo out; echo err >&2") == "out"
    assert cmd.run_stderr("echo out; echo err >&2") == "err"


def test_run_all(cmd, context):
    """Everything that is known of a command."""
    found = cmd.run_all("echo $$; echo err >&2; exit 7")
    assert found == {
        "pid": int(found["stdout"]),
        "retcode": 7,
        "stdout": str(found["pid"]),
        "stderr": "err",
    }
    assert context["retcode"] == 7


def test_retcodes(cmd, context):
    """A status may be ignored, or be a success."""
    assert cmd.retcode("exit 4") == 4
    assert cmd.retcode("exit 4", success_retcodes=[4]) == 0
    assert context["retcode"] == 0
    assert cmd.retcode("exit 5", ignore_retcode=True) == 5
    assert context["retcode"] == 0
    assert cmd.retcode("kill -9 $$") == -9


def test_without_a_shell(cmd):
    """A list, or python_shell=False, means no shell: nothing is expanded."""
    assert cmd.run(["echo", "$HOME", ";"]) == "$HOME ;"
    assert cmd.run("echo '$HOME' *", python_shell=False) == "$HOME *"
    assert cmd.shell("echo a | cat", python_shell=False) == "a"


def test_another_shell(cmd):
    """The shell can be chosen."""
    assert cmd.run("echo $0", shell="/bin/sh") == "/bin/sh"
    with pytest.raises(BusError, match="cannot run '/no/shell': No such file"):
        cmd.run("true", shell="/no/shell")


def test_cwd_stdin_umask(cmd, tmp_path):
    """Where it runs, what it reads, what it creates."""
    assert cmd.run("pwd -P", cwd=str(tmp_path)) == str(tmp_path.resolve())
    big = "x" * 300_000
    assert cmd.run("wc -c", stdin=big).strip() == "300000"
    assert cmd.run("true", stdin=big) == ""
    for umask in ("077", 77, 63):
        assert cmd.run("umask", umask=umask) in {"0077", "077"}
    with pytest.raises(ValueError, match="not octal"):
        cmd.run("true", umask="9")
    with pytest.raises(BusError, match="cannot run"):
        cmd.run("true", cwd=str(tmp_path / "none"))


def test_environment(cmd, monkeypatch):
    """Variables are added, taken away, or all there are."""
    monkeypatch.setenv("INHERITED", "yes")
    assert cmd.run("echo $INHERITED$MINE", env={"MINE": 5}) == "yes5"
    assert cmd.run("echo $INHERITED", env=[{"INHERITED": None}]) == ""
    assert cmd.run("echo $INHERITED-", clean_env=True) == "-"
    with pytest.raises(ValueError, match="env is a dict"):
        cmd.run("true", env=["A=1"])


def test_timeout_kills_the_whole_group(cmd, context, tmp_path):
    """What the command started ends with it, and the return says so."""
    pid_file = tmp_path / "pid"
    begin = time.monotonic()
    text = cmd.run(f"echo begun; sleep 60 & echo $! > {pid_file}; wait", timeout=0.5)
    assert time.monotonic() - begin < 10
    assert text == "begun\n\n[killed after 0.5 seconds]"
    assert context["retcode"] == 124
    _wait_until_gone(int(pid_file.read_text()))
    assert cmd.run_all("sleep 60", timeout=0.2)["stderr"].endswith("[killed after 0.2 seconds]")


def test_timeout_of_a_program_without_output(cmd):
    """A program that closes its streams is still watched."""
    assert cmd.retcode("exec >&- 2>&-; sleep 60", timeout=0.3) == 124
    assert cmd.retcode("exec >&- 2>&-; exit 3", timeout=30) == 3


def _wait_until_gone(pid):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        time.sleep(0.01)
    pytest.fail(f"process {pid} lives")


@pytest.mark.parametrize("timeout", [None, 30])
def test_an_interrupted_job_leaves_no_command(monkeypatch, timeout):
    """When the job is ended from outside, its command is ended too."""
    started = []
    start = _process._start

    def remember(command):
        started.append(start(command))
        return started[-1]

    def interrupt(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(_process, "_start", remember)
    monkeypatch.setattr(_process, "_turn", interrupt)
    with pytest.raises(KeyboardInterrupt):
        _process.run(_process.Command(["sleep", "60"], timeout=timeout))
    assert started[0].returncode == -9


def test_output_is_bounded(cmd):
    """A flood is read to its end and kept up to a limit, with a note of the rest."""
    text = cmd.run("head -c 1000000 /dev/zero | tr '\\0' x")
    kept, _, note = text.partition("\n")
    assert len(kept) == _process.MAX_OUTPUT_BYTES
    assert note == f"[{1_000_000 - _process.MAX_OUTPUT_BYTES} bytes more are left out]"


def test_output_that_is_no_text(cmd):
    """Bytes that are no UTF-8 are replaced."""
    assert cmd.run("printf 'a\\377b'") == "a\N{REPLACEMENT CHARACTER}b"


@pytest.mark.skipif(not ROOT, reason="only root changes the user")
def test_runas_as_root(cmd):
    """Root runs a command as another user, with his groups and home."""
    user = pwd.getpwnam("nobody")
    found = cmd.run("id -u; id -g; echo $HOME $USER", runas="nobody", cwd="/")
    assert found.split("\n") == [str(user.pw_uid), str(user.pw_gid), f"{user.pw_dir} nobody"]


def test_runas_limits(cmd, monkeypatch):
    """Oneself is always possible, others only for root."""
    me = pwd.getpwuid(os.geteuid()).pw_name
    assert cmd.run("id -un", runas=me) == me
    with pytest.raises(BusError, match="there is no such user"):
        cmd.run("true", runas="no-such-user")
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    with pytest.raises(BusError, match="only a minion of root"):
        cmd.run("true", runas=me)


@pytest.mark.parametrize("command", ["", "  ", []])
def test_an_empty_command(cmd, command):
    """There must be something to run."""
    with pytest.raises(ValueError, match="the command is empty"):
        cmd.run(command)
    with pytest.raises(ValueError, match="the command is empty"):
        cmd.run(command, python_shell=False)


def test_odd_arguments(cmd):
    """Unknown options and unbalanced quotes are named; a publisher's own are passed over."""
    with pytest.raises(ValueError, match="unknown option 'cdw': there are cwd, "):
        cmd.run("true", cdw="/")
    with pytest.raises(ValueError, match="No closing quotation"):
        cmd.run("echo 'a", python_shell=False)
    with pytest.raises(ArgumentsError):
        cmd.run()
    assert cmd.run("echo a", __pub_jid="1") == "a"


def test_which(cmd):
    """Programs are found in the path."""
    assert cmd.which("sh").endswith("/sh")
    assert cmd.which("no-such-program") is None
    assert cmd.has_exec("sh") is True
    assert cmd.has_exec("no-such-program") is False
