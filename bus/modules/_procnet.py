"""Reads the kernel's tables of sockets and routes below ``/proc/net``."""

from __future__ import annotations

import ipaddress
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_NET = Path("/proc/net")
_STATES = (
    "", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE",
    "CLOSE_WAIT", "LAST_ACK", "LISTEN", "CLOSING", "NEW_SYN_RECV",
)  # fmt: skip
"""``include/net/tcp_states.h``, in its order."""

_UNCONNECTED = "UNCONN"
_UP, _REJECT = 0x1, 0x200
_FLAGS = ((0x1, "U"), (0x2, "G"), (0x4, "H"), (0x10, "D"), (0x20, "M"), (0x200, "!"))


@dataclass(frozen=True, slots=True)
class Socket:
    """One line of a table of sockets."""

    protocol: str
    local: tuple[str, int]
    remote: tuple[str, int]
    state: str
    queued: tuple[int, int]  # to be received, to be sent
    uid: int
    inode: int


@dataclass(frozen=True, slots=True)
class Route:
    """One line of a table of routes."""

    family: str
    destination: str
    netmask: str
    gateway: str
    flags: str
    interface: str
    metric: int


def sockets(*protocols: str) -> Iterator[Socket]:
    """Yield the sockets of ``tcp``, ``tcp6``, ``udp``, ``udp6``."""
    for protocol in protocols:
        for line in _lines(protocol):
            yield _socket(protocol, line.split())


def owners() -> dict[int, str]:
    """Return which program has a socket, by its inode: ``pid/name``. Only root sees everybody's."""
    found: dict[int, str] = {}
    for process in Path("/proc").glob("[0-9]*"):
        for inode in _inodes(process):
            found[inode] = f"{process.name}/{_name(process)}"
    return found


def routes() -> list[Route]:
    """Return the routes that are in use: first those of IPv4."""
    return [*filter(None, map(_route4, _lines("route"))), *filter(None, map(_route6, _routes6()))]


def _routes6() -> list[str]:
    return _lines("ipv6_route", heading=False)


def _lines(name: str, *, heading: bool = True) -> list[str]:
    """A kernel without IPv6 has none of its files."""
    try:
        return (_NET / name).read_text(encoding="ascii").splitlines()[1 if heading else 0 :]
    except FileNotFoundError:
        return []


def _socket(protocol: str, words: list[str]) -> Socket:
    state = int(words[3], 16)
    sent, _, received = words[4].partition(":")
    return Socket(
        protocol=protocol,
        local=_endpoint(words[1]),
        remote=_endpoint(words[2]),
        state=_state(protocol, state),
        queued=(int(received, 16), int(sent, 16)),
        uid=int(words[7]),
        inode=int(words[9]),
    )


def _state(protocol: str, number: int) -> str:
    """UDP has no connections to close: its sockets have a peer or not."""
    name = _STATES[number] if number < len(_STATES) else str(number)
    return _UNCONNECTED if protocol.startswith("udp") and name == "CLOSE" else name


def _endpoint(text: str) -> tuple[str, int]:
    address, _, port = text.partition(":")
    return _address(address), int(port, 16)


def _address(text: str) -> str:
    """The kernel writes words of 32 bits in its own byte order."""
    words = [int(text[start : start + 8], 16) for start in range(0, len(text), 8)]
    return str(ipaddress.ip_address(struct.pack(f"={len(words)}I", *words)))


def _inodes(process: Path) -> Iterator[int]:
    """A process may end meanwhile, or belong to somebody else."""
    try:
        for entry in os.scandir(process / "fd"):
            target = os.readlink(entry.path)  # noqa: PTH115 - a Path for each is slow
            if target.startswith("socket:["):
                yield int(target[8:-1])
    except OSError:
        return


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text(errors="replace").strip()
    except OSError:
        return ""


def _route4(line: str) -> Route | None:
    words = line.split()
    flags = int(words[3], 16)
    if not flags & _UP:
        return None
    return Route(
        family="inet",
        destination=_address(words[1]),
        netmask=_address(words[7]),
        gateway=_address(words[2]),
        flags=_letters(flags),
        interface=words[0],
        metric=int(words[6]),
    )


def _route6(line: str) -> Route | None:
    """What the kernel keeps for itself on the loopback interface is no route to anywhere."""
    destination, prefix, _, _, gateway, metric, _, _, raw_flags, interface = line.split()
    flags = int(raw_flags, 16)
    if not flags & _UP or flags & _REJECT or interface == "lo":
        return None
    return Route(
        family="inet6",
        destination=f"{_plain6(destination)}/{int(prefix, 16)}",
        netmask="",
        gateway=_plain6(gateway),
        flags=_letters(flags),
        interface=interface,
        metric=int(metric, 16),
    )


def _plain6(text: str) -> str:
    return str(ipaddress.IPv6Address(bytes.fromhex(text)))


def _letters(flags: int) -> str:
    """Return the letters of route(8)."""
    return "".join(letter for bit, letter in _FLAGS if flags & bit)
