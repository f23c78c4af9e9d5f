"""What this host is: system, hardware, name, Python. No program is started, no name looked up."""

from __future__ import annotations

import os
import platform
import pwd
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bus

_OS_RELEASE = (Path("/etc/os-release"), Path("/usr/lib/os-release"))
_FAMILIES = {
    "debian": "Debian",
    "ubuntu": "Debian",
    "rhel": "RedHat",
    "fedora": "RedHat",
    "centos": "RedHat",
    "suse": "Suse",
    "opensuse": "Suse",
    "arch": "Arch",
    "alpine": "Alpine",
    "gentoo": "Gentoo",
}
_NAMES = {
    "rhel": "RedHat",
    "centos": "CentOS",
    "almalinux": "AlmaLinux",
    "opensuse-leap": "openSUSE",
    "sles": "SUSE",
}
_MEBIBYTE = 1024 * 1024
_HYPERVISORS = {
    "qemu": "kvm",
    "kvm": "kvm",
    "vmware": "VMware",
    "virtualbox": "VirtualBox",
    "innotek": "VirtualBox",
    "microsoft": "HyperV",
    "xen": "xen",
    "amazon": "kvm",
    "google": "kvm",
    "openstack": "kvm",
}


def system() -> dict[str, Any]:
    """Return kernel and distribution."""
    uname = os.uname()
    return {
        "kernel": uname.sysname,
        "kernelrelease": uname.release,
        "kernelversion": uname.version,
        "cpuarch": uname.machine,
        **_distribution(uname.sysname),
    }


def _distribution(kernel: str) -> dict[str, Any]:
    release = _os_release()
    ident = release.get("ID", "")
    if not ident:
        return {"os": kernel, "os_family": kernel, "osrelease": platform.release()}
    version = release.get("VERSION_ID", "")
    return {
        "os": _NAMES.get(ident, release.get("NAME", ident).split()[0]),
        "os_family": _family(ident, release.get("ID_LIKE", "")),
        "osfullname": release.get("NAME", ident),
        "oscodename": release.get("VERSION_CODENAME", ""),
        "osrelease": version,
        "osrelease_info": [int(part) for part in version.split(".") if part.isdigit()],
        "osmajorrelease": _number(version.partition(".")[0]),
        "osfinger": f"{release.get('NAME', ident).split()[0]}-{version}",
    }


def _number(text: str) -> int | str:
    return int(text) if text.isdigit() else text


def _os_release() -> dict[str, str]:
    """Return the assignments of os-release(5)."""
    text = next((found for path in _OS_RELEASE if (found := _read(path))), "")
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {name.strip(): value.strip().strip("\"'") for name, _, value in pairs}


def _family(ident: str, like: str) -> str:
    names = [ident, *like.split()]
    return next((_FAMILIES[name] for name in names if name in _FAMILIES), ident.capitalize())


def hardware() -> dict[str, Any]:
    """Return processor and memory; memory in MiB."""
    return {
        "num_cpus": os.cpu_count() or 1,
        "cpu_model": _cpu_model(),
        "mem_total": _memory(),
        "swap_total": _swap(),
        "virtual": _virtual(),
        "machine_id": _read(Path("/etc/machine-id")).strip(),
    }


def _cpu_model() -> str:
    """The first processor's; what comes after it may be long on a large host."""
    for line in _read(Path("/proc/cpuinfo"), 8192).splitlines():
        name, _, value = line.partition(":")
        if name.strip().lower() in {"model name", "hardware", "cpu model"}:
            return value.strip()
    return platform.processor() or os.uname().machine


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // _MEBIBYTE


def _swap() -> int:
    for line in _read(Path("/proc/meminfo")).splitlines():
        if line.startswith("SwapTotal:"):
            return int(line.split()[1]) // 1024
    return 0


def _virtual() -> str:
    """Return what the host runs in, as far as files tell it, or ``physical``."""
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        return "container"
    if "container=" in _read(Path("/proc/1/environ")):
        return "container"
    maker = _read(Path("/sys/class/dmi/id/sys_vendor")) + _read(
        Path("/sys/class/dmi/id/product_name")
    )
    found = (name for sign, name in _HYPERVISORS.items() if sign in maker.lower())
    return next(found, "physical")


def names() -> dict[str, Any]:
    """Return the host's names. A name server may hang, so only files are asked."""
    node = socket.gethostname()
    host = node.partition(".")[0]
    fqdn = node if "." in node else _fqdn(host)
    return {
        "nodename": node,
        "localhost": node,
        "host": host,
        "fqdn": fqdn,
        "domain": fqdn.partition(".")[2],
    }


def _fqdn(host: str) -> str:
    known = (name for name in _hosts_names() if name.startswith(f"{host}."))
    domain = _resolver_domain()
    return next(known, f"{host}.{domain}" if domain else host)


def _hosts_names() -> Iterator[str]:
    for line in _read(Path("/etc/hosts")).splitlines():
        yield from line.partition("#")[0].split()[1:]


def _resolver_domain() -> str:
    for line in _read(Path("/etc/resolv.conf")).splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "domain":
            return words[1].strip(".")
    return ""


def software() -> dict[str, Any]:
    """Return the versions of this software and of its Python."""
    return {
        "reactorversion": bus.__version__,
        "pythonversion": list(sys.version_info[:3]),
        "pythonexecutable": sys.executable,
        "username": _user_name(),
        "uid": os.geteuid(),
        "path": os.environ.get("PATH", ""),
        "shell": os.environ.get("SHELL", "/bin/sh"),
    }


def _user_name() -> str:

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _read(path: Path, limit: int = 65_536) -> str:
    """Return the beginning of a file, nothing if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(limit).decode(errors="replace")
    except OSError:
        return ""
