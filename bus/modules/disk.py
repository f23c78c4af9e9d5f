"""Says how full the disks are, what is on them, and what is mounted where."""

from __future__ import annotations

import math
import re
import shutil
from typing import Any

from bus.modules import _mounts
from bus.modules._errors import ExecutionError, InvocationError
from bus.modules._process import Command, run

_KIBIBYTE = 1024
_SECONDS = 60.0  # blkid reads from each device, and a broken one answers late
_NOTHING_FOUND = 2  # blkid(8)
_PATH = re.compile(r"/[^\0\n]*")
_TOKEN = re.compile(r"[A-Z_]+=[^\0\n]+")
_ESCAPE = re.compile(r"\\(.)")


def usage(path: str | None = None) -> dict[str, dict[str, str]]:
    """Return how full each file system is, by mount point, in KiB.

    CLI example: ``reactor call disk.usage /var``

    Args:
        path: only the file system that holds this path.
    """
    return {system.mount.point: _blocks(system) for system in _systems(path)}


def inodeusage(path: str | None = None) -> dict[str, dict[str, str]]:
    """Return how many inodes of each file system are taken, by mount point.

    CLI example: ``reactor call disk.inodeusage``

    Args:
        path: only the file system that holds this path.
    """
    return {system.mount.point: _inodes(system) for system in _systems(path)}


def percent(path: str | None = None) -> dict[str, str] | str:
    """Return how full each file system is, such as ``42%``; with a path only that one's.

    CLI example: ``reactor call disk.percent /var``
    """
    if path is not None:
        return _capacity(_mounts.holding(_checked(path)))
    return {system.mount.point: _capacity(system) for system in _mounts.filesystems()}


def mounts() -> dict[str, dict[str, Any]]:
    """Return everything that is mounted, by mount point: device, fstype, opts.

    CLI example: ``reactor call disk.mounts``
    """
    return {
        mount.point: {
            "device": mount.device,
            "fstype": mount.fstype,
            "opts": list(mount.options),
        }
        for mount in _mounts.mounts()
    }


def fstype(device: str) -> str:
    """Return the type of the file system on a device or at a mount point; empty if unknown.

    CLI example: ``reactor call disk.fstype /dev/sda1``
    """
    _checked(device)
    for mount in reversed(_mounts.mounts()):
        if device in {mount.device, mount.point}:
            return mount.fstype
    return blkid(device).get(device, {}).get("TYPE", "") if shutil.which("blkid") else ""


def blkid(device: str | None = None, token: str | None = None) -> dict[str, dict[str, str]]:
    """Return what is on block devices: UUID, TYPE, LABEL, by device. Only root sees all.

    CLI example: ``reactor call disk.blkid /dev/sda1``

    Args:
        device: only this one.
        token: only those with this value, such as ``TYPE=ext4``.

    Raises:
        ExecutionError: this host has no program ``blkid``, or it fails.
    """
    program = shutil.which("blkid")
    if program is None:
        raise ExecutionError("no program blkid on this host: the package util-linux has it")
    words = ["-t", _checked_token(token)] if token is not None else []
    words += ["--", _checked(device)] if device is not None else []
    done = run(Command([program, "-o", "export", *words], timeout=_SECONDS))
    if done.returncode not in {0, _NOTHING_FOUND} or done.timed_out:
        said = " ".join(done.stderr.split()) or f"status {done.returncode}"
        raise ExecutionError(f"blkid failed: {said}")
    return _devices(done.stdout)


def _systems(path: str | None) -> list[_mounts.Filesystem]:
    return _mounts.filesystems() if path is None else [_mounts.holding(_checked(path))]


def _checked(path: str) -> str:
    if not isinstance(path, str) or not _PATH.fullmatch(path):
        raise InvocationError(f"the path {str(path)[:80]!r} is not absolute: begin it with /")
    return path


def _checked_token(token: str) -> str:
    if not _TOKEN.fullmatch(str(token)):
        raise InvocationError(f"{str(token)[:80]!r} is no token: write one such as TYPE=ext4")
    return str(token)


def _blocks(system: _mounts.Filesystem) -> dict[str, str]:
    return {
        "filesystem": system.mount.device,
        "1K-blocks": str(system.total // _KIBIBYTE),
        "used": str(system.used // _KIBIBYTE),
        "available": str(system.available // _KIBIBYTE),
        "capacity": _capacity(system),
    }


def _inodes(system: _mounts.Filesystem) -> dict[str, str]:
    total, free = system.figures.f_files, system.figures.f_ffree
    return {
        "filesystem": system.mount.device,
        "inodes": str(total),
        "used": str(total - free),
        "free": str(free),
        "use": _share(total - free, total),
    }


def _capacity(system: _mounts.Filesystem) -> str:
    """What is kept for root counts neither as used nor as available, as in ``df``."""
    return _share(system.used, system.used + system.available)


def _share(part: int, whole: int) -> str:
    return f"{math.ceil(100 * part / whole)}%" if whole else "-"


def _devices(text: str) -> dict[str, dict[str, str]]:
    """Read blocks of ``NAME=value`` lines; odd characters come with a backslash."""
    found: dict[str, dict[str, str]] = {}
    values: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition("=")
        if name == "DEVNAME":
            values = found.setdefault(value, {})
        elif name:
            values[name] = _ESCAPE.sub(r"\1", value)
    return found
