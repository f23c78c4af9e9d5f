"""The host's addresses, asked of the kernel over netlink(7): no program, no name server."""

from __future__ import annotations

import ipaddress
import logging
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LOG = logging.getLogger(__name__)

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg: family, prefix, flags, scope, index
_ATTRIBUTE = struct.Struct("=HH")  # struct rtattr: length, type
_NEW_ADDRESS, _GET_ADDRESS, _DONE, _ERROR = 20, 22, 3, 2
_REQUEST_DUMP = 0x301
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_BUFFER = 65_536
_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Entry:
    """One address of one interface."""

    interface: str
    address: ipaddress.IPv4Address | ipaddress.IPv6Address


def addresses() -> dict[str, Any]:
    """Return the addresses of the host and of each interface."""
    entries = _entries()
    by_version = {
        version: [entry for entry in entries if entry.address.version == version]
        for version in (4, 6)
    }
    return {
        "ipv4": _sorted(by_version[4]),
        "ipv6": _sorted(by_version[6]),
        "ip_interfaces": _by_interface(entries),
        "ip4_interfaces": _by_interface(by_version[4]),
        "ip6_interfaces": _by_interface(by_version[6]),
    }


def hardware_addresses() -> dict[str, Any]:
    """Return the hardware address of each interface."""
    found: dict[str, str] = {}
    for path in sorted(Path("/sys/class/net").glob("*/address")):
        try:
            found[path.parent.name] = path.read_text(encoding="ascii").strip()
        except (OSError, ValueError) as error:  # an interface that went away
            _LOG.debug("no hardware address in %s: %s", path, error)
    return {"hwaddr_interfaces": {name: value for name, value in found.items() if value}}


def _sorted(entries: list[_Entry]) -> list[str]:
    return sorted({str(entry.address) for entry in entries})


def _by_interface(entries: list[_Entry]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for entry in entries:
        found.setdefault(entry.interface, []).append(str(entry.address))
    return found


def _entries() -> list[_Entry]:
    """Ask the kernel; a system without netlink has no addresses here."""
    if not hasattr(socket, "AF_NETLINK"):
        return []
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as link:
            link.settimeout(_SECONDS)
            link.send(_question())
            return [entry for body in _answers(link) if (entry := _parse(body)) is not None]
    except OSError as error:
        _LOG.warning("the kernel does not tell its addresses: %s", error)
        return []


def _question() -> bytes:
    length = _HEADER.size + _ADDRESS.size
    return _HEADER.pack(length, _GET_ADDRESS, _REQUEST_DUMP, 1, 0) + _ADDRESS.pack(
        socket.AF_UNSPEC, 0, 0, 0, 0
    )


def _answers(link: socket.socket) -> Iterator[bytes]:
    """Yield the bodies of the messages about addresses, until the kernel says it is done."""
    while True:
        rest = link.recv(_BUFFER)
        while len(rest) >= _HEADER.size:
            length, kind, *_ = _HEADER.unpack_from(rest)
            if kind in {_DONE, _ERROR} or length < _HEADER.size:
                return
            if kind == _NEW_ADDRESS:
                yield rest[_HEADER.size : length]
            rest = rest[_aligned(length) :]


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _parse(body: bytes) -> _Entry | None:
    *_, index = _ADDRESS.unpack_from(body)
    attributes = dict(_attributes(body[_ADDRESS.size :]))
    # On a point-to-point interface ADDRESS is the other end's.
    raw = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
    if raw is None:
        return None
    try:
        return _Entry(socket.if_indextoname(index), ipaddress.ip_address(raw))
    except (OSError, ValueError):  # an interface that went away, a family that is not IP
        return None


def _attributes(raw: bytes) -> Iterator[tuple[int, bytes]]:
    while len(raw) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(raw)
        if length < _ATTRIBUTE.size:
            return
        yield kind, raw[_ATTRIBUTE.size : length]
        raw = raw[_aligned(length) :]
