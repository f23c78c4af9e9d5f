"""One server a socket directory: ZeroMQ would let a second bind steal the first one's socket."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from bus import endpoints
from bus.errors import AlreadyRunningError, BusError


class DirectoryLock:
    """Holds ``<socket>.lock`` until it is released or the process ends, however it ends.

    Args:
        path: the file.
        option: which option says where it is.
    """

    def __init__(self, path: Path, option: str = "sock_dir") -> None:
        try:
            self._fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise BusError(f"cannot make {path}: {error.strerror}; is {option} right?") from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(self._fd, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._fd)
            raise AlreadyRunningError(
                f"another server (process {owner}) has {path.with_suffix('')}: "
                f"stop it first, or give this one another {option}"
            ) from error
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    @classmethod
    def for_address(cls, address: str) -> DirectoryLock | NoLock:
        """Return the lock of a socket's address; a TCP port needs none."""
        path = endpoints.socket_path(address)
        return cls(path.with_name(f"{path.name}.lock")) if path else NoLock()

    def release(self) -> None:
        """Let another server have the socket."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class NoLock:
    """What stands for a lock where the system itself refuses a second bind."""

    def release(self) -> None:
        """Nothing is held."""
