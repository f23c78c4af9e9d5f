"""How a process is told to end: signals become something that a loop can poll."""

from __future__ import annotations

import contextlib
import signal
import socket
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


ASK, ALIVE = b"?", b"!"
"""What whoever looks after a process writes into its descriptor, and what comes back."""


class Stop:
    """Set by SIGTERM and SIGINT, or by `set`; wakes whoever polls its file descriptor.

    Whoever looks after the process can ask through it whether its loop still comes round: the
    loop's own `drain` answers.

    Args:
        pair: the reading and the writing end, if somebody else keeps the writing one as well.
    """

    def __init__(self, pair: tuple[socket.socket, socket.socket] | None = None) -> None:
        self._reader, self._writer = pair or socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._is_set = False

    def install(self) -> Stop:
        """Take over the signals of this process (main thread only)."""
        for number in SIGNALS:
            signal.signal(number, self._on_signal)
        # Python runs handlers between bytecodes; the wakeup pipe ends a poll at once.
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        return self

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.set()

    def set(self) -> None:
        """Ask the loop to end."""
        self._is_set = True
        with contextlib.suppress(OSError):
            self._writer.send(b"\0")

    def is_set(self) -> bool:
        """Say whether the end was asked for."""
        return self._is_set

    def __call__(self) -> bool:
        """Say whether the end was asked for."""
        return self._is_set

    def fileno(self) -> int:
        """Return the descriptor that has input when something happened; see `drain`."""
        return self._reader.fileno()

    def drain(self) -> None:
        """Empty the descriptor, so that it can wake the loop again; answer if that was asked."""
        is_asked = False
        with contextlib.suppress(OSError):
            while found := self._reader.recv(64):
                is_asked = is_asked or ASK in found
        if is_asked:
            with contextlib.suppress(OSError):
                self._reader.send(ALIVE)

    def leave(self) -> None:
        """Give the reading end back where only the writing one is of use."""
        self._reader.close()

    def close(self) -> None:
        """Give the descriptors back."""
        with contextlib.suppress(ValueError):
            signal.set_wakeup_fd(-1)
        self._reader.close()
        self._writer.close()
