"""The addresses of this host, asked of the kernel over netlink(7): no program, no name server."""

from __future__ import annotations

import ipaddress
import logging
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_LOG = logging.getLogger(__name__)

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg: family, prefix, flags, scope, index
_ATTRIBUTE = struct.Struct("=HH")  # struct rtattr: length, type
_NEW_ADDRESS, _GET_ADDRESS, _DONE, _ERROR = 20, 22, 3, 2
_REQUEST_DUMP = 0x301
_IFA_ADDRESS, _IFA_LOCAL, _IFA_LABEL, _IFA_BROADCAST = 1, 2, 3, 4
_SCOPES = {0: "global", 200: "site", 253: "link", 254: "host"}  # rtnetlink(7)
_BUFFER = 65_536
_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Address:
    """One address of one interface.

    Attributes:
        interface: the interface's name.
        address: the address itself.
        prefix: how many bits of it name the network.
        label: what IPv4 calls this address, such as ``eth0:1``.
        broadcast: where to reach the whole network; IPv6 has none.
        scope: how far it is valid: ``global``, ``link``, ``host``.
    """

    interface: str
    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    prefix: int
    label: str = ""
    broadcast: str = ""
    scope: str = "global"

    @property
    def network(self) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
        """The network that it is in."""
        return ipaddress.ip_network((self.address, self.prefix), strict=False)


def addresses() -> list[Address]:
    """Return the addresses of all interfaces; a system without netlink has none here."""
    if not hasattr(socket, "AF_NETLINK"):
        return []
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as link:
            link.settimeout(_SECONDS)
            link.send(_question())
            return [found for body in _answers(link) if (found := _parse(body)) is not None]
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


def _parse(body: bytes) -> Address | None:
    _, prefix, _, scope, index = _ADDRESS.unpack_from(body)
    attributes = dict(_attributes(body[_ADDRESS.size :]))
    # On a point-to-point interface ADDRESS is the other end's.
    raw = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
    if raw is None:
        return None
    broadcast = attributes.get(_IFA_BROADCAST)
    try:
        return Address(
            interface=socket.if_indextoname(index),
            address=ipaddress.ip_address(raw),
            prefix=prefix,
            label=attributes.get(_IFA_LABEL, b"").rstrip(b"\0").decode(errors="replace"),
            broadcast=str(ipaddress.ip_address(broadcast)) if broadcast else "",
            scope=_SCOPES.get(scope, str(scope)),
        )
    except (OSError, ValueError):  # an interface that went away, a family that is not IP
        return None


def _attributes(raw: bytes) -> Iterator[tuple[int, bytes]]:
    while len(raw) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(raw)
        if length < _ATTRIBUTE.size:
            return
        yield kind, raw[_ATTRIBUTE.size : length]
        raw = raw[_aligned(length) :]
