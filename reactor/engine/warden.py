"""The warden: a program that outlives a killed reactor only to end what the reactor had started.

It runs by itself (``python -I -S warden.py``) and imports nothing of ours. On its standard input
come lines, ``+PID`` for a process group that began and ``-PID`` for one that has ended. At
end-of-file, which the kernel sees to however the reactor ended, it kills those that are left.
"""

from __future__ import annotations

import os
import signal

_CHUNK = 65_536


def watch(fd: int) -> set[int]:
    """Return the groups that had begun and not ended when ``fd`` came to its end."""
    groups: set[int] = set()
    rest = b""
    while chunk := os.read(fd, _CHUNK):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            change = groups.add if line[:1] == b"+" else groups.discard
            change(int(line[1:]))
    return groups


def main() -> None:
    """Wait for the end of the reactor, and clear up after it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Whoever ends the reactor ends this too: by its standard input, and not before.
        signal.signal(number, signal.SIG_IGN)
    for group in watch(0):
        try:
            os.killpg(group, signal.SIGKILL)
        except OSError:
            continue  # it has ended meanwhile


if __name__ == "__main__":
    main()
