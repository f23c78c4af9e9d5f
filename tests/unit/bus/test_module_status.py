"""The execution module status, on this host's own figures."""

import os
import pwd
import sys
from pathlib import Path

import psutil
import pytest

from bus import wire
from bus.errors import BusError
from tests.unit.bus.loader_tools import execution
from tests.unit.bus.process_tools import sleeper


@pytest.fixture
def status():
    """The module."""
    return execution("status")


def _globals(module):
    return module.functions["status.uptime"].__globals__


def test_uptime(status):
    """As the kernel has it, in whole seconds."""
    found = status.uptime()
    assert abs(found["seconds"] - float(Path("/proc/uptime").read_text().split()[0])) < 5
    assert found["days"] == found["seconds"] // 86_400
    hours, minutes = map(int, found["time"].split(":"))
    assert found["days"] * 86_400 + hours * 3600 + minutes * 60 <= found["seconds"]
    assert found["since_iso"].startswith("20")
    assert found["users"] == len(psutil.users())


def test_loadavg(status):
    """Three figures."""
    found = status.loadavg()
    assert list(found) == ["1-min", "5-min", "15-min"]
    assert all(value >= 0 for value in found.values())


def test_meminfo(status):
    """Text and unit of each figure."""
    found = status.meminfo()
    assert found["MemTotal"]["unit"] == "kB"
    assert int(found["MemTotal"]["value"]) * 1024 == psutil.virtual_memory().total
    assert found["HugePages_Total"].keys() == {"value"}


def test_processors(status):
    """How many there are, what they are, what they do."""
    assert status.nproc() == len(os.sched_getaffinity(0))
    found = status.cpuinfo()
    assert "processor" in found
    assert isinstance(found.get("flags", found.get("Features", [])), list)
    stats = status.cpustats()
    assert stats["cpu"]["user"] >= stats["cpu0"]["user"] >= 0
    assert stats["ctxt"] > 0


def test_counters(status):
    """Of memory and network."""
    assert status.vmstats()["pgfault"] > 0
    assert status.netdev()["lo"]["rx_bytes"] >= 0


def test_diskusage(status, tmp_path):
    """All file systems, or those of a type or at a place."""
    every = status.diskusage()
    assert every == status.diskusage("/*") or set(every) == set(status.diskusage("/*"))
    figures = os.statvfs("/")
    assert status.diskusage("/")["/"]["total"] == figures.f_blocks * figures.f_frsize
    kind = execution("disk").fstype("/")
    assert "/" in status.diskusage(kind)
    assert status.diskusage("no-such-type") == {}


def test_processes(status):
    """A process is found by its command line, and shown with its user."""
    with sleeper() as (process, mark):
        assert status.pid(mark) == str(process.pid)
        shown = status.procs()[str(process.pid)]
        assert mark in shown["cmd"]
        assert shown["user"] == pwd.getpwuid(os.getuid()).pw_name
    assert status.pid(mark) == ""


def test_it_does_not_find_itself(status):
    """Neither this process nor another that asks the same."""
    found = status.pid("python").split()
    assert str(os.getpid()) not in found
    with sleeper("status.pid") as (_, mark):
        assert status.pid(mark) == ""


def test_odd_patterns(status):
    """Each is refused."""
    with pytest.raises(ValueError, match="empty"):
        status.pid("")
    with pytest.raises(ValueError, match="no regular expression"):
        status.pid("(")


class Login:
    """What psutil tells of a login."""

    def __init__(self, terminal, pid):
        self.name, self.host, self.started = "alice", None, 1_700_000_000.0
        self.terminal, self.pid = terminal, pid


def test_users(status, monkeypatch):
    """Who is logged in; hosts of tests have nobody, so they are told."""
    logins = [Login("null", os.getpid()), Login(None, None)]
    monkeypatch.setattr(psutil, "users", lambda: logins)
    first, second = status.w()
    assert first["login"] == "2023-11-14T22:13:20"
    assert (first["user"], first["tty"], first["from"]) == ("alice", "null", "")
    assert first["idle"] >= 0
    assert Path(sys.executable).name[:6] in first["what"]
    assert (second["tty"], second["idle"], second["what"]) == ("", None, "")


def test_version(status):
    """The kernel's own words."""
    assert os.uname().release in status.version()


def test_all(status):
    """All parts at once, as an event carries them."""
    found = status.all_status()
    assert {"cpuinfo", "diskusage", "loadavg", "meminfo", "uptime", "version", "w"} <= set(found)
    assert wire.unpack(wire.pack(found)) == found


def test_no_proc(status, tmp_path, monkeypatch):
    """The file that is missing is named."""
    monkeypatch.setitem(_globals(status), "_PROC", tmp_path)
    with pytest.raises(BusError, match="meminfo: No such file"):
        status.meminfo()


def test_doc():
    """The loader shows the module as any other."""
    doc = execution("sys").doc("status")
    assert {"status.uptime", "status.all_status"} <= set(doc)
