"""Tells systemd how a service is doing: sd_notify's protocol, one datagram."""

from __future__ import annotations

import contextlib
import os
import socket

READY = "READY=1"


def notify(state: str) -> bool:
    """Tell systemd ``state``; return whether there was a systemd to tell."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(state.encode(), address)
        return True
    return False
