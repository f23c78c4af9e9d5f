"""The execution module ps, on real processes that the tests start themselves."""

import os
import pwd
import signal
import subprocess
import sys
import textwrap
import time
from collections import namedtuple
from types import SimpleNamespace

import psutil
import pytest

from bus import wire
from bus.errors import BusError
from tests.unit.bus.loader_tools import execution
from tests.unit.bus.process_tools import sleeper

ME = pwd.getpwuid(os.getuid()).pw_name
BUSY = "print('ready', flush=True)\nwhile True: pass"


@pytest.fixture
def ps():
    """The module."""
    return execution("ps")


def test_top(ps):
    """A process that does nothing but work is among the busiest."""
    with sleeper(program=BUSY) as (process, mark):
        found = ps.top(num_processes=1000, interval=0.2)
        entry = next(each for each in found if each["pid"] == process.pid)
        assert entry["cpu_percent"] > 0
        assert mark in entry["cmd"]
        assert entry["user"] == ME
        assert entry["mem"]["rss"] > 0
        assert entry["cpu"]["user"] >= 0
    shares = [each["cpu_percent"] for each in found]
    assert shares == sorted(shares, reverse=True)
    assert len(ps.top(1, interval=0.01)) == 1
    assert ps.top(0, interval=0.01) == []


def test_a_process_that_ends_meanwhile(ps, monkeypatch):
    """It is left out."""
    with sleeper() as (process, _):
        monkeypatch.setattr(psutil, "process_iter", lambda: [psutil.Process(process.pid)])
        names = ps.functions["ps.top"].__globals__

        def end(_seconds):
            process.kill()
            process.wait()

        monkeypatch.setitem(names, "time", SimpleNamespace(sleep=end))
        assert ps.top() == []


def test_pids(ps):
    """This one is among them."""
    assert os.getpid() in ps.get_pid_list()


def test_proc_info(ps):
    """What is cheap and no secret, or what is asked for."""
    with sleeper() as (process, mark):
        found = ps.proc_info(process.pid)
        assert (found["pid"], found["ppid"], found["username"]) == (process.pid, os.getpid(), ME)
        assert mark in found["cmdline"]
        assert found["memory_info"]["rss"] > 0
        assert "environ" not in found
        some = ps.proc_info(process.pid, ["environ", "threads", "ionice", "net_connections"])
        assert some["environ"]["PATH"] == os.environ["PATH"]
        assert some["threads"][0]["id"] == process.pid
        assert ps.proc_info(process.pid, "ppid") == {"ppid": os.getpid()}
        assert wire.unpack(wire.pack([found, some])) == [found, some]
        with pytest.raises(ValueError, match="nothing"):
            ps.proc_info(process.pid, ["nothing"])
    with pytest.raises(BusError, match=f"there is no process {process.pid}"):
        ps.proc_info(process.pid)


def test_pgrep(ps):
    """By name, by command line, by user, by expression."""
    with sleeper() as (process, mark):
        assert ps.pgrep(mark, full=True) == [process.pid]
        assert ps.pgrep(mark) == []
        assert ps.pgrep(mark, user=ME, full=True) == [process.pid]
        assert ps.pgrep(mark, user="nobody-of-this-name", full=True) == []
        assert ps.pgrep(f"{mark[:-1]}.$", full=True, pattern_is_regex=True) == [process.pid]
        assert ps.pgrep(f"{mark[:-1]}.$", full=True) == []
        assert process.pid in ps.pgrep(psutil.Process(process.pid).name())
    assert ps.pgrep(mark, full=True) == []


@pytest.mark.parametrize("full", [True, False])
def test_odd_patterns(ps, full):
    """What would match everything, or nothing that could be meant."""
    for function in (ps.pgrep, ps.pkill):
        with pytest.raises(ValueError, match="empty"):
            function("", full=full)
        with pytest.raises(ValueError, match="no regular expression"):
            function("(", full=full, pattern_is_regex=True)


def test_pkill(ps):
    """Those that match get the signal, and are told."""
    with sleeper() as (process, mark), sleeper() as (other, _):
        assert ps.pkill(mark, full=True) == {"killed": [process.pid]}
        assert process.wait(10) == -signal.SIGTERM
        assert other.poll() is None
    assert ps.pkill(mark, full=True) == {"killed": []}


def test_pkill_with_a_signal(ps):
    """By its name or its number."""
    for name in ("KILL", "SIGKILL", "9", 9):
        with sleeper() as (process, mark):
            ps.pkill(mark, user=ME, signal=name, full=True)
            assert process.wait(10) == -signal.SIGKILL


CALLER = """
    import subprocess, sys
    from bus import loader
    if len(sys.argv) > 2:
        sys.exit(subprocess.run([sys.executable, *sys.orig_argv[1:-1]]).returncode)
    functions = loader.execution_modules({}, grains={})
    assert len(functions["ps.pgrep"](sys.argv[1], full=True)) == 2
    assert functions["ps.pkill"](sys.argv[1], signal="KILL", full=True) == {"killed": []}
"""


def test_pkill_spares_itself(ps):
    """A caller whose own command line matches lives, and so does its parent."""
    mark = f"mark-{os.getpid()}-{time.monotonic_ns()}"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CALLER), mark, "parent"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def _refuse(_process, _number):
    raise psutil.AccessDenied(1)


def test_signals_that_are_not_allowed(ps, monkeypatch):
    """The error says which processes had it nevertheless."""
    monkeypatch.setattr(psutil.Process, "send_signal", _refuse)
    with sleeper() as (process, mark):
        with pytest.raises(BusError, match=rf"signal \[{process.pid}\]; signalled: \[\]"):
            ps.pkill(mark, full=True)
        with pytest.raises(BusError, match=f"not allowed to signal the process {process.pid}"):
            ps.kill_pid(process.pid)


def test_a_process_that_may_not_be_seen(ps, monkeypatch):
    """Its owner is named as the reason."""

    def refuse(pid):
        raise psutil.AccessDenied(pid)

    monkeypatch.setattr(psutil, "Process", refuse)
    with pytest.raises(BusError, match="the process 1 belongs to somebody else"):
        ps.proc_info(1)


def test_pkill_of_one_that_has_ended(ps, monkeypatch):
    """It is not among those that were reached."""

    def vanish(process, _number):
        raise psutil.NoSuchProcess(process.pid)

    monkeypatch.setattr(psutil.Process, "send_signal", vanish)
    with sleeper() as (_, mark):
        assert ps.pkill(mark, full=True) == {"killed": []}


def test_kill_pid(ps):
    """One process; false when it is not there any more."""
    with sleeper() as (process, _):
        assert ps.kill_pid(process.pid, "TERM") is True
        assert process.wait(10) == -signal.SIGTERM
        assert ps.kill_pid(process.pid) is False


def test_odd_signals_and_pids(ps):
    """To the kernel some of them would be whole groups of processes."""
    for number in (0, -1, "x", None):
        with pytest.raises(ValueError, match="no id of a process"):
            ps.kill_pid(number)
    for name in ("NONE", "999", -9, "", "_DFL", "sig_dfl"):
        with pytest.raises(ValueError, match="no signal"):
            ps.kill_pid(os.getpid(), name)


def test_the_host(ps):
    """Figures of processors and memory."""
    assert ps.num_cpus() == psutil.cpu_count()
    assert 0 <= ps.cpu_percent(0.01) <= 100
    assert len(ps.cpu_percent(0.01, per_cpu=True)) == ps.num_cpus()
    assert ps.cpu_times()["user"] > 0
    assert len(ps.cpu_times(per_cpu=True)) == ps.num_cpus()
    assert ps.virtual_memory()["total"] == psutil.virtual_memory().total
    assert ps.swap_memory()["total"] == psutil.swap_memory().total
    assert "/proc" in [found["mountpoint"] for found in ps.disk_partitions(all=True)]
    assert len(ps.disk_partitions()) <= len(ps.disk_partitions(all=True))
    for interval in (0, -1, 1e9):
        with pytest.raises(ValueError, match="the interval is"):
            ps.cpu_percent(interval)


def test_boot_time(ps):
    """In seconds, or as one likes it."""
    assert ps.boot_time() == int(psutil.boot_time())
    assert ps.boot_time("%Y").startswith("2")


def test_users(ps, monkeypatch):
    """Who is logged in; hosts of tests have nobody, so they are told."""
    login = namedtuple("Login", "name terminal host started pid")  # noqa: PYI024 - as psutil's
    monkeypatch.setattr(psutil, "users", lambda: [login("alice", "pts/0", None, 1.5, 7)])
    assert ps.get_users() == [
        {"name": "alice", "terminal": "pts/0", "host": None, "started": 1.5, "pid": 7}
    ]


def test_doc():
    """The loader shows the module as any other."""
    doc = execution("sys").doc("ps")
    assert {"ps.top", "ps.pkill", "ps.get_users"} <= set(doc)


def test_start_does_not_pay_for_psutil():
    """It is imported by the functions that use it."""
    code = textwrap.dedent("""
        import sys
        from bus import loader
        assert "ps.top" in loader.execution_modules({}, grains={})
        assert "psutil" not in sys.modules
    """)
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
