"""The host's addresses."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bus import netlink

_LOG = logging.getLogger(__name__)


def addresses() -> dict[str, Any]:
    """Return the addresses of the host and of each interface."""
    entries = netlink.addresses()
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


def _sorted(entries: Iterable[netlink.Address]) -> list[str]:
    return sorted({str(entry.address) for entry in entries})


def _by_interface(entries: Iterable[netlink.Address]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for entry in entries:
        found.setdefault(entry.interface, []).append(str(entry.address))
    return found
