"""Tells systemd how a service is doing: sd_notify's protocol, one datagram a word."""

from __future__ import annotations

import contextlib
import math
import os
import socket
from collections.abc import Callable, Mapping

READY = "READY=1"
STOPPING = "STOPPING=1"
ALIVE = "WATCHDOG=1"

_OFTEN = 0.4
"""Of the time after which systemd takes a service for hung: it asks for a sign in half of it."""


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


class Watchdog:
    """Gives a sign of life as often as ``WatchdogSec=`` of a unit wants it.

    Args:
        environ: where systemd says how often, and of which process.
        pid: this process.
        clock: seconds that never run backwards.
        tell: tells systemd.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        pid: int,
        clock: Callable[[], float],
        tell: Callable[[str], object] = notify,
    ) -> None:
        self._every = _interval(environ, pid)
        self._clock = clock
        self._tell = tell
        self._due = clock()

    def __call__(self) -> float:
        """Give the sign if it is time; return the seconds until the next one."""
        now = self._clock()
        if self._every < math.inf and now >= self._due:
            self._tell(ALIVE)
            self._due = now + self._every
        return max(0.0, self._due - now) if self._every < math.inf else math.inf


def _interval(environ: Mapping[str, str], pid: int) -> float:
    wanted = environ.get("WATCHDOG_USEC", "")
    if not wanted.isdecimal() or environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return math.inf
    return int(wanted) / 1e6 * _OFTEN or math.inf
