"""Connecting to a server's direct line, without ever waiting for it."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def connect(path: Path) -> socket.socket | None:
    """Return a connection that does not block, or None if no bus is there.

    A bus that is stopped, and whose queue of new clients is full, counts as none: whoever asks
    has a time-out to keep.
    """
    try:
        return try_connect(path)
    except OSError:
        return None


def try_connect(path: Path) -> socket.socket:
    """Return a connection that does not block.

    Raises:
        BlockingIOError: the server's queue of new clients is full.
        OSError: no server is there.
    """
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(False)
    try:
        sock.connect(os.fspath(path))
    except OSError:
        sock.close()
        raise
    return sock
