"""Connecting to a bus's direct line, without ever waiting for it."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def connect(path: Path) -> socket.socket | None:
    """Return a connection that does not block, or None if no bus is there.

    A bus that is stopped, and whose queue of new clients is full, counts as none: whoever asks
    has a time-out to keep.
    """
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(False)
    try:
        sock.connect(os.fspath(path))
    except OSError:
        sock.close()
        return None
    return sock
