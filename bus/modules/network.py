"""Says how the host is connected, and tries whether others can be reached."""

from __future__ import annotations

import ipaddress
import pwd
import re
import shutil
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bus import netlink
from bus.grains import network as grains
from bus.modules import _procnet
from bus.modules._errors import ExecutionError, InvocationError
from bus.modules._process import Command, run

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_HOST = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9_.:%-]*")
_PINGS = 4
_PING_SECONDS = 5.0
_NO_ANSWER = 1  # ping(8)
_FAMILIES = {"": socket.AF_UNSPEC, "ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}
_UP = 0x1  # IFF_UP, netdevice(7)
_DEFAULTS = {("0.0.0.0", "0.0.0.0"), ("::/0", "")}  # noqa: S104 - nothing is bound to it
_ROUTE_FAMILIES = {None, "inet", "inet6"}


# -- this host's addresses ----------------------------------------------------------------


def interfaces() -> dict[str, dict[str, Any]]:
    """Return all interfaces: up, hwaddr, and their addresses as inet and inet6.

    CLI example: ``reactor call network.interfaces``
    """
    hardware = grains.hardware_addresses()["hwaddr_interfaces"]
    found: dict[str, dict[str, Any]] = {
        name: {"up": _is_up(name), **({"hwaddr": hardware[name]} if name in hardware else {})}
        for name in sorted(path.name for path in Path("/sys/class/net").iterdir() if path.is_dir())
    }
    for entry in netlink.addresses():
        family, shown = ("inet", _inet) if entry.address.version == 4 else ("inet6", _inet6)
        # An interface may come after the names were read.
        found.setdefault(entry.interface, {"up": True}).setdefault(family, []).append(shown(entry))
    return found


def interface(iface: str) -> list[dict[str, Any]]:
    """Return the IPv4 addresses of one interface, as `interfaces` shows them.

    CLI example: ``reactor call network.interface eth0``
    """
    return list(_known(iface).get("inet", []))


def interface_ip(iface: str) -> str:
    """Return the first IPv4 address of an interface, or nothing.

    CLI example: ``reactor call network.interface_ip eth0``
    """
    return next((str(entry["address"]) for entry in interface(iface)), "")


def hw_addr(iface: str) -> str:
    """Return the hardware address of an interface.

    CLI example: ``reactor call network.hw_addr eth0``
    """
    return str(_known(iface).get("hwaddr", ""))


hwaddr = hw_addr


def ip_addrs(
    interface: str | None = None,
    include_loopback: bool = False,
    cidr: str | None = None,
    type: str | None = None,
) -> list[str]:
    """Return the IPv4 addresses of the host.

    CLI example: ``reactor call network.ip_addrs cidr=10.0.0.0/8``

    Args:
        interface: only those of this one.
        include_loopback: also those by which the host reaches only itself.
        cidr: only those in this network.
        type: ``public`` or ``private``: only those that are.
    """
    return _addresses(4, interface, include_loopback, cidr, type)


def ip_addrs6(
    interface: str | None = None, include_loopback: bool = False, cidr: str | None = None
) -> list[str]:
    """Return the IPv6 addresses of the host; arguments as for ``network.ip_addrs``.

    CLI example: ``reactor call network.ip_addrs6``
    """
    return _addresses(6, interface, include_loopback, cidr, None)


ipaddrs = ip_addrs
ipaddrs6 = ip_addrs6


def subnets(interfaces: str | list[str] | None = None) -> list[str]:
    """Return the IPv4 networks that the host is in.

    CLI example: ``reactor call network.subnets eth0``
    """
    return _networks(4, interfaces)


def subnets6(interfaces: str | list[str] | None = None) -> list[str]:
    """Return the IPv6 networks that the host is in.

    CLI example: ``reactor call network.subnets6``
    """
    return _networks(6, interfaces)


def in_subnet(cidr: str, addr: str | None = None) -> bool:
    """Say whether an address, or else any of the host's, is in a network.

    CLI example: ``reactor call network.in_subnet 10.0.0.0/16``
    """
    network = _network(cidr)
    if addr is not None:
        return _ip(addr) in network
    return any(entry.address in network for entry in netlink.addresses())


def get_hostname() -> str:
    """Return the host's name.

    CLI example: ``reactor call network.get_hostname``
    """
    return socket.gethostname()


# -- sockets and routes -------------------------------------------------------------------


def netstat() -> list[dict[str, Any]]:
    """Return the sockets of TCP and UDP: addresses, state, user, program.

    CLI example: ``reactor call network.netstat``
    """
    programs = _procnet.owners()
    return [
        {
            "proto": found.protocol,
            "recv-q": found.queued[0],
            "send-q": found.queued[1],
            "local-address": _joined(found.local),
            "remote-address": _joined(found.remote),
            "state": found.state,
            "user": _user_name(found.uid),
            "inode": str(found.inode),
            "program": programs.get(found.inode, ""),
        }
        for found in _procnet.sockets("tcp", "tcp6", "udp", "udp6")
    ]


def active_tcp() -> dict[int, dict[str, Any]]:
    """Return the connections of TCP, numbered from 0.

    CLI example: ``reactor call network.active_tcp``
    """
    connected = (found for found in _procnet.sockets("tcp", "tcp6") if found.state == "ESTABLISHED")
    return {
        number: {
            "local_addr": found.local[0],
            "local_port": found.local[1],
            "remote_addr": found.remote[0],
            "remote_port": found.remote[1],
        }
        for number, found in enumerate(connected)
    }


def routes(family: str | None = None) -> list[dict[str, Any]]:
    """Return the routes: destination, gateway, interface.

    CLI example: ``reactor call network.routes inet``

    Args:
        family: only those of ``inet`` or of ``inet6``.
    """
    if family not in _ROUTE_FAMILIES:
        raise InvocationError(f"unknown family {family!r}: write inet or inet6")
    return [
        {
            "addr_family": route.family,
            "destination": route.destination,
            "gateway": route.gateway,
            "netmask": route.netmask,
            "flags": route.flags,
            "interface": route.interface,
            "metric": route.metric,
        }
        for route in _procnet.routes()
        if family in {None, route.family}
    ]


def default_route(family: str | None = None) -> list[dict[str, Any]]:
    """Return the routes to everywhere else, as `routes` shows them.

    CLI example: ``reactor call network.default_route inet``
    """
    # A tunnel may have a route to 0.0.0.0 with the mask 128.0.0.0: half of everywhere.
    return [
        route for route in routes(family) if (route["destination"], route["netmask"]) in _DEFAULTS
    ]


# -- others -------------------------------------------------------------------------------


def dig(host: str) -> list[str]:
    """Return the addresses of a name, in the order in which programs here try them.

    CLI example: ``reactor call network.dig example.com``

    Raises:
        ExecutionError: the resolver knows none.
    """
    found = _resolve(str(host), None, socket.AF_UNSPEC)
    return list(dict.fromkeys(str(address[0]) for _, _, _, _, address in found))


def ping(host: str, timeout: float | None = None, return_boolean: bool = False) -> str | bool:
    """Ask a host four times for an answer, with the system's program ``ping``.

    CLI example: ``reactor call network.ping example.com timeout=2 return_boolean=True``

    Args:
        host: a name or an address.
        timeout: seconds to wait for each answer.
        return_boolean: say whether it answers, instead of what the program writes.

    Raises:
        ExecutionError: this host has no program ``ping``, or it cannot ask.
    """
    if not _HOST.fullmatch(str(host)):
        raise InvocationError(f"{str(host)[:80]!r} is no name or address of a host")
    program = shutil.which("ping")
    if program is None:
        raise ExecutionError("no program ping on this host: the package iputils-ping has it")
    wait = _PING_SECONDS if timeout is None else _seconds(timeout)
    options = ["-c", str(_PINGS), "-W", f"{wait:g}"]
    done = run(Command([program, *options, "--", str(host)], timeout=_PINGS * (wait + 1) + wait))
    if return_boolean:
        return done.returncode == 0
    if done.returncode not in {0, _NO_ANSWER} and not done.timed_out:
        said = " ".join((done.stderr or done.stdout).split())
        raise ExecutionError(f"ping failed: {said or f'status {done.returncode}'}")
    return done.stdout.strip()


def connect(host: str, port: int, timeout: float = 5.0, family: str = "") -> dict[str, Any]:
    """Say whether a port of TCP can be connected to: result, and a comment on it.

    CLI example: ``reactor call network.connect web1 80 timeout=2``

    Args:
        host: a name or an address.
        port: its number, or a service's name.
        timeout: seconds to wait for each of the host's addresses.
        family: only ``ipv4`` or ``ipv6``.
    """
    if family not in _FAMILIES:
        raise InvocationError(f"unknown family {family!r}: write ipv4 or ipv6")
    seconds = _seconds(timeout)
    try:
        addresses = _resolve(str(host), port, _FAMILIES[family])
    except ExecutionError as error:
        return {"result": False, "comment": str(error)}
    problems: list[str] = []
    for kind, _, _, _, address in addresses:
        problem = _try(kind, address, seconds)
        if not problem:
            return {"result": True, "comment": f"connected to {_joined(address)}"}
        problems.append(f"{_joined(address)}: {problem}")
    return {"result": False, "comment": "; ".join(problems)}


# -- parts --------------------------------------------------------------------------------


def _known(iface: str) -> dict[str, Any]:
    found = interfaces()
    if iface not in found:
        raise ExecutionError(f"there is no interface {str(iface)[:80]!r}: {', '.join(found)}")
    return found[iface]


def _is_up(iface: str) -> bool:
    try:
        flags = (Path("/sys/class/net") / iface / "flags").read_text(encoding="ascii")
    except OSError:  # it went away
        return False
    return bool(int(flags, 16) & _UP)


def _inet(entry: netlink.Address) -> dict[str, Any]:
    return {
        "address": str(entry.address),
        "netmask": str(entry.network.netmask),
        "broadcast": entry.broadcast or None,
        "label": entry.label or entry.interface,
    }


def _inet6(entry: netlink.Address) -> dict[str, Any]:
    return {"address": str(entry.address), "prefixlen": str(entry.prefix), "scope": entry.scope}


def _addresses(
    version: int, iface: str | None, loopback: bool, cidr: str | None, kind: str | None
) -> list[str]:
    if kind not in {None, "public", "private"}:
        raise InvocationError(f"unknown type {kind!r}: write public or private")
    network = None if cidr is None else _network(cidr)
    found = {
        entry.address
        for entry in netlink.addresses()
        if entry.address.version == version
        and iface in {None, entry.interface}
        and (loopback or not entry.address.is_loopback)
        and (network is None or entry.address in network)
        and (kind is None or entry.address.is_private == (kind == "private"))
    }
    return [str(address) for address in sorted(found, key=int)]


def _networks(version: int, ifaces: str | list[str] | None) -> list[str]:
    wanted = [ifaces] if isinstance(ifaces, str) else ifaces
    found = {
        entry.network
        for entry in netlink.addresses()
        if entry.address.version == version
        and not entry.address.is_loopback
        and (wanted is None or entry.interface in wanted)
    }
    return [str(network) for network in sorted(found, key=_order)]


def _order(network: _Network) -> tuple[int, int]:
    return int(network.network_address), network.prefixlen


def _network(cidr: str) -> _Network:
    try:
        return ipaddress.ip_network(str(cidr), strict=False)
    except ValueError as error:
        raise InvocationError(f"{cidr!r} is no network: write one such as 10.0.0.0/8") from error


def _ip(addr: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(str(addr))
    except ValueError as error:
        raise InvocationError(f"{addr!r} is no address") from error


def _joined(address: Iterable[Any]) -> str:
    host, port, *_ = address
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _seconds(timeout: float) -> float:
    if not float(timeout) > 0:
        raise InvocationError("the timeout is more than 0 seconds")
    return float(timeout)


def _resolve(host: str, port: int | str | None, family: int) -> list[Any]:
    try:
        return list(socket.getaddrinfo(host, port, family, socket.SOCK_STREAM))
    except (socket.gaierror, UnicodeError, OverflowError) as error:
        text = error.strerror if isinstance(error, OSError) else str(error)
        raise ExecutionError(f"{host}: {text}") from error


def _try(family: int, address: Any, seconds: float) -> str:
    """Return why there is no connection, or nothing."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as connection:
            connection.settimeout(seconds)
            connection.connect(address)
    except TimeoutError:
        return f"no answer within {seconds:g} seconds"
    except OSError as error:
        return error.strerror or str(error)
    return ""
