"""The execution module disk, on this host's mounts; ``df`` and the kernel are asked the same."""

import os
import shutil
import stat
import subprocess
import textwrap
from pathlib import Path

import pytest

from bus import wire
from bus.errors import BusError
from bus.modules import _mounts
from tests.support import need
from tests.unit.bus.loader_tools import execution


@pytest.fixture
def disk():
    """The module."""
    return execution("disk")


def test_usage(disk, tmp_path):
    """Of the one that holds a path, the figures are the kernel's."""
    ((point, found),) = disk.usage(str(tmp_path)).items()
    assert tmp_path.is_relative_to(point)
    figures = os.statvfs(tmp_path)
    assert list(found) == ["filesystem", "1K-blocks", "used", "available", "capacity"]
    assert found["1K-blocks"] == str(figures.f_blocks * figures.f_frsize // 1024)
    assert found["capacity"].endswith("%")
    assert point in disk.usage()


def test_usage_is_what_df_says(disk):
    """Size and percentage of the file system at the root."""
    need(shutil.which("df"), "no program df on this host")
    line = subprocess.run(["df", "-kP", "/"], capture_output=True, text=True, check=True).stdout
    words = line.splitlines()[1].split()
    assert disk.usage("/")["/"]["1K-blocks"] == words[1]
    # Another process may write meanwhile.
    assert abs(int(disk.percent("/").rstrip("%")) - int(words[4].rstrip("%"))) <= 1


def test_inodeusage(disk, tmp_path):
    """The same for inodes."""
    ((_, found),) = disk.inodeusage(str(tmp_path)).items()
    assert list(found) == ["filesystem", "inodes", "used", "free", "use"]
    assert found["inodes"] == str(os.statvfs(tmp_path).f_files)
    assert set(disk.inodeusage()) == set(disk.usage())


def test_percent(disk, tmp_path):
    """All of them, or one."""
    every = disk.percent()
    assert set(every) == set(disk.usage())
    assert disk.percent(str(tmp_path)) in every.values()


def test_mounts(disk):
    """Everything, also what has no size."""
    found = disk.mounts()
    assert found["/proc"]["fstype"] == "proc"
    assert "/proc" not in disk.usage()
    assert {"rw", "ro"} & set(found["/proc"]["opts"])
    assert disk.fstype("/proc") == "proc"


def test_odd_paths(disk, tmp_path):
    """A path is absolute and there."""
    for function in (disk.usage, disk.inodeusage, disk.percent, disk.fstype, disk.blkid):
        with pytest.raises(ValueError, match="not absolute"):
            function("-x")
    with pytest.raises(ValueError, match="not absolute"):
        disk.usage(7)
    with pytest.raises(BusError, match="none: No such file"):
        disk.usage(str(tmp_path / "none"))


def test_they_go_over_the_wire(disk):
    """Answers are plain data."""
    for answer in (disk.usage(), disk.inodeusage(), disk.percent(), disk.mounts()):
        assert wire.unpack(wire.pack(answer)) == answer


def test_which_mount(monkeypatch, tmp_path):
    """One that shows what another shows is left out; one that cannot be asked too."""
    deep = tmp_path / "deep"
    deep.mkdir()
    points = [str(deep), str(tmp_path), str(tmp_path / "none")]
    table = [_mounts.Mount("dev", point, "x", ("rw",)) for point in points]
    monkeypatch.setattr(_mounts, "mounts", lambda: table)
    assert [found.mount.point for found in _mounts.filesystems()] == [str(tmp_path)]
    assert _mounts.holding(str(deep)).mount.point == str(deep)
    assert _mounts.holding("/").mount.device == "-"


def test_nothing_in_it():
    """A file system without blocks is neither full nor empty."""
    figures = os.statvfs_result((512, 512, 0, 0, 0, 0, 0, 0, 0, 255))
    system = _mounts.Filesystem(_mounts.Mount("dev", "/x", "x", ()), figures)
    module = execution("disk").functions["disk.usage"].__globals__
    assert module["_capacity"](system) == "-"


BLKID = r"""
#!/bin/sh
echo "$*" >> "$0.calls"
case "$*" in
    *broken*) echo "blkid: no rights" >&2; exit 4 ;;
    *none*) exit 2 ;;
esac
printf 'DEVNAME=/dev/x1\nUUID=1-2\nLABEL=a\\ b\nTYPE=ext4\n\nDEVNAME=/dev/x2\nTYPE=swap\n'
"""


@pytest.fixture
def blkid(tmp_path, monkeypatch):
    """A program blkid that knows two devices; its file."""
    program = tmp_path / "blkid"
    program.write_text(textwrap.dedent(BLKID).lstrip())
    program.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return program


def test_blkid(disk, blkid):
    """What is on devices, by device."""
    assert disk.blkid() == {
        "/dev/x1": {"UUID": "1-2", "LABEL": "a b", "TYPE": "ext4"},
        "/dev/x2": {"TYPE": "swap"},
    }
    assert disk.blkid("/dev/none") == {}
    assert disk.fstype("/dev/x1") == "ext4"
    assert disk.fstype("/dev/none") == ""
    disk.blkid(token="TYPE=ext4")
    calls = Path(f"{blkid}.calls").read_text().splitlines()
    assert "-o export -- /dev/none" in calls
    assert calls[-1] == "-o export -t TYPE=ext4"


def test_blkid_fails(disk, blkid):
    """Its own words; odd tokens are refused before it is started."""
    with pytest.raises(BusError, match="blkid failed: blkid: no rights"):
        disk.blkid("/dev/broken")
    for token in ("-x", "TYPE", "a b=c"):
        with pytest.raises(ValueError, match="no token"):
            disk.blkid(token=token)


def test_the_real_blkid(disk, monkeypatch):
    """On a host with devices it names them; in a container there may be none."""
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:/usr/sbin:/sbin")
    need(shutil.which("blkid"), "no program blkid on this host")
    assert all(device.startswith("/") for device in disk.blkid())


def test_no_blkid(disk, tmp_path, monkeypatch):
    """The error says where it comes from; types of what is mounted need it not."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BusError, match=r"no program blkid.*util-linux"):
        disk.blkid()
    assert disk.fstype("/dev/none") == ""
    assert disk.fstype("/proc") == "proc"


def test_doc():
    """The loader shows the module as any other."""
    doc = execution("sys").doc("disk")
    assert {"disk.usage", "disk.percent", "disk.blkid"} <= set(doc)
    assert "reactor call disk.usage" in doc["disk.usage"]
