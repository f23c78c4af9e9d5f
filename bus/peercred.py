"""Who listens at a UNIX socket, by the kernel's word; no ZeroMQ is needed to see."""

from __future__ import annotations

import socket
import struct

from bus import endpoints

_SECONDS = 1.0


def owner(sock: socket.socket) -> int:
    """Return the pid of the process at the other end, or 0 where the system does not tell."""
    if not hasattr(socket, "SO_PEERCRED"):
        return 0
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", raw)[0])


def owner_of(address: str) -> int:
    """Return the pid of the process that listens at an address, or 0; of a port's always 0.

    A process that is stopped still listens.
    """
    path = endpoints.socket_path(address)
    if path is None:
        return 0
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(_SECONDS)
            sock.connect(str(path))
            return owner(sock)
    except OSError:
        return 0
