"""Says how the host does: load, memory, processors, processes, users."""

from __future__ import annotations

import fnmatch
import os
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bus.modules import _mounts
from bus.modules._errors import ExecutionError, InvocationError

_PROC = Path("/proc")
_DAY, _HOUR, _MINUTE = 86_400, 3600, 60


def uptime() -> dict[str, Any]:
    """Return since when the host runs: seconds, days, time, since_t, since_iso, and users.

    CLI example: ``reactor call status.uptime``
    """
    seconds = int(float(_read("uptime").split()[0]))
    started = int(time.time()) - seconds
    return {
        "seconds": seconds,
        "since_t": started,
        "since_iso": _iso(started),
        "days": seconds // _DAY,
        "time": f"{seconds % _DAY // _HOUR}:{seconds % _HOUR // _MINUTE:02}",
        "users": len(w()),
    }


def loadavg() -> dict[str, float]:
    """Return the load of the last 1, 5 and 15 minutes.

    CLI example: ``reactor call status.loadavg``
    """
    return dict(zip(("1-min", "5-min", "15-min"), os.getloadavg(), strict=True))


def meminfo() -> dict[str, dict[str, str]]:
    """Return the kernel's figures of the memory: each a value and mostly a unit.

    CLI example: ``reactor call status.meminfo``
    """
    found: dict[str, dict[str, str]] = {}
    for name, text in _pairs("meminfo"):
        value, *unit = text.split()
        found[name] = {"value": value, **({"unit": unit[0]} if unit else {})}
    return found


def cpuinfo() -> dict[str, Any]:
    """Return what the kernel knows of the processors: of what they differ in, the last one's.

    CLI example: ``reactor call status.cpuinfo``
    """
    lists = {"flags", "Features", "bugs"}
    return {name: text.split() if name in lists else text for name, text in _pairs("cpuinfo")}


def cpustats() -> dict[str, Any]:
    """Return how long each processor did what, in ticks, and how often the kernel did what.

    CLI example: ``reactor call status.cpustats``
    """
    names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
    found: dict[str, Any] = {}
    for line in _read("stat").splitlines():
        key, *values = line.split()
        numbers = [int(value) for value in values]
        if key.startswith("cpu"):
            found[key] = dict(zip(names, numbers, strict=False))
        else:
            found[key] = numbers[0]  # of interrupts the sum; one by one they are hundreds
    return found


def vmstats() -> dict[str, int]:
    """Return the kernel's counters of its virtual memory.

    CLI example: ``reactor call status.vmstats``
    """
    lines = (line.split() for line in _read("vmstat").splitlines())
    return {name: int(value) for name, value in lines}


def netdev() -> dict[str, dict[str, int]]:
    """Return what went through each network interface.

    CLI example: ``reactor call status.netdev``
    """
    import psutil

    return {
        name: {
            "rx_bytes": count.bytes_recv,
            "rx_packets": count.packets_recv,
            "rx_errs": count.errin,
            "rx_drop": count.dropin,
            "tx_bytes": count.bytes_sent,
            "tx_packets": count.packets_sent,
            "tx_errs": count.errout,
            "tx_drop": count.dropout,
        }
        for name, count in psutil.net_io_counters(pernic=True).items()
    }


def diskusage(*args: str) -> dict[str, dict[str, int]]:
    """Return the total and available bytes of file systems, by mount point.

    CLI example: ``reactor call status.diskusage / '/data*' ext4``

    Args:
        *args: globs of mount points and names of types; without any, all.
    """
    return {
        system.mount.point: {"total": system.total, "available": system.available}
        for system in _mounts.filesystems()
        if not args or any(_is_meant(system.mount, str(arg)) for arg in args)
    }


def nproc() -> int:
    """Return how many processors a process here may use.

    CLI example: ``reactor call status.nproc``
    """
    return len(os.sched_getaffinity(0))


def pid(sig: str) -> str:
    """Return the ids of the processes in whose command line a regular expression matches.

    CLI example: ``reactor call status.pid 'nginx: master'``

    Returns:
        One id a line, or nothing.
    """
    if not str(sig):
        raise InvocationError("the pattern is empty: it would match every process")
    try:
        expression = re.compile(str(sig))
    except re.error as error:
        raise InvocationError(f"{sig!r} is no regular expression: {error}") from error
    # The program that asks has the pattern in its own command line.
    meant = {
        number: found["cmd"]
        for number, found in procs().items()
        if expression.search(found["cmd"]) and "status.pid" not in found["cmd"]
    }
    return "\n".join(number for number in meant if number != str(os.getpid()))


def procs() -> dict[str, dict[str, str]]:
    """Return all processes by their ids: user and cmd.

    CLI example: ``reactor call status.procs``
    """
    import psutil

    found = (each.info for each in psutil.process_iter(["pid", "name", "cmdline", "username"]))
    return {
        str(info["pid"]): {
            "user": info["username"] or "",
            "cmd": " ".join(info["cmdline"] or ()).strip() or f"[{info['name']}]",
        }
        for info in found
    }


def w() -> list[dict[str, Any]]:
    """Return who is logged in: user, tty, from, login, idle (seconds), what.

    CLI example: ``reactor call status.w``
    """
    import psutil

    return [
        {
            "user": user.name,
            "tty": user.terminal or "",
            "from": user.host or "",
            "login": _iso(user.started),
            "idle": _idle(user.terminal),
            "what": _command_of(user.pid),
        }
        for user in psutil.users()
    ]


def version() -> str:
    """Return the kernel's description of itself.

    CLI example: ``reactor call status.version``
    """
    return _read("version").strip()


def all_status() -> dict[str, Any]:
    """Return all of it at once, except the processes.

    CLI example: ``reactor call status.all_status``
    """
    return {
        "cpuinfo": cpuinfo(),
        "cpustats": cpustats(),
        "diskusage": diskusage(),
        "loadavg": loadavg(),
        "meminfo": meminfo(),
        "netdev": netdev(),
        "nproc": nproc(),
        "uptime": uptime(),
        "version": version(),
        "vmstats": vmstats(),
        "w": w(),
    }


def _read(name: str) -> str:
    try:
        return (_PROC / name).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ExecutionError(f"{_PROC / name}: {error.strerror}") from error


def _pairs(name: str) -> list[tuple[str, str]]:
    lines = (line.partition(":") for line in _read(name).splitlines() if ":" in line)
    return [(key.strip(), value.strip()) for key, _, value in lines]


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).replace(tzinfo=None).isoformat(timespec="seconds")


def _is_meant(mount: _mounts.Mount, arg: str) -> bool:
    return fnmatch.fnmatchcase(mount.point if arg.startswith("/") else mount.fstype, arg)


def _idle(terminal: str | None) -> int | None:
    """Nobody has typed since the terminal was read from; a login without one says nothing."""
    try:
        return max(0, int(time.time() - (Path("/dev") / str(terminal)).stat().st_atime))
    except OSError:
        return None


def _command_of(number: int | None) -> str:
    try:
        raw = (_PROC / str(number) / "cmdline").read_bytes()
    except OSError:  # it has ended, or belongs to somebody else
        return ""
    return raw.replace(b"\0", b" ").decode(errors="replace").strip()
