"""The lease: which reactor of a master is the active one, and whether it still lives.

A file in the master's ``state_dir``. Its first line is a count that the holder raises every now
and then, the second says who it is. The holder locks the file as long as it lives, so the kernel
says at once when it has died; that it was stopped or hangs, the count says, which no longer moves.

Who takes over ends a holder that does not move, for good, before he acts: it may have stopped
within a transaction, whose lock it would keep, or right before an action, which it would begin
when it wakes. Whoever is left in spite of that finds that the lease is another one's
(`Lease.holds`) and is refused by the database, whose transactions belong to a term
(`State.take_over`).
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import logging
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bus.peercred import owner_of
from reactor.errors import DeposedError, ReactorError

log = logging.getLogger(__name__)

FILE_NAME = "reactor.lease"

RENEW_EVERY = 0.25
"""Seconds between two renewals, and between two looks of who stands by."""

VALID = 2 / 3
"""How much of the time after which another takes over the holder itself trusts its lease."""

LONGEST_TURN = 60.0
"""Seconds for which a reactor counts as alive though its loop does not come round: a start after a
long time reads much, and a template may call a function that takes its time."""

_ENDING = 1.0
"""Seconds for the kernel to take a killed process away."""

_COUNT = 20
"""Digits of the count."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has the lease.

    Attributes:
        name: the reactor's name.
        pid: its process.
        term: which number its time as the active one has.
        address: the socket at which it, active or not, can be asked.
        heir: whom it left the lease to, if it did.
    """

    name: str
    pid: int
    term: int
    address: str
    heir: str = ""


@dataclass(frozen=True, slots=True)
class Sight:
    """What one look at the lease shows.

    Attributes:
        place: device and inode of the file; None if there is none.
        count: the holder's count, as it stands there.
        is_free: the holder is gone, or there is none.
        holder: who it is or was, if that can be read.
    """

    place: tuple[int, int] | None = None
    count: str = ""
    is_free: bool = True
    holder: Holder | None = None

    def is_still(self, other: Sight) -> bool:
        """Say whether nothing moved between two looks."""
        return (self.place, self.count) == (other.place, other.count)


def lease_path(state_dir: str | Path) -> Path:
    """Return the file of the lease in a master's ``state_dir``."""
    return Path(state_dir) / FILE_NAME


def look(path: Path) -> Sight:
    """Look at a lease.

    Raises:
        ReactorError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            is_free = _is_free(file.fileno())
            count, _, text = file.read(4096).partition(b"\n")
            status = os.fstat(file.fileno())
    except FileNotFoundError:
        return Sight()
    except OSError as error:
        raise ReactorError(f"cannot read the lease {path}: {error.strerror}") from error
    place = (status.st_dev, status.st_ino)
    return Sight(place, count.decode(errors="replace"), is_free, _parse(text))


def _is_free(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    fcntl.flock(fd, fcntl.LOCK_UN)
    return True


def _parse(text: bytes) -> Holder | None:
    try:
        return Holder(**json.loads(text))
    except (ValueError, TypeError):
        return None


class Watch:
    """Judges, from one look to the next, whether a lease may be taken. No clock of its own.

    Args:
        name: who asks.
        patience: seconds without a move after which a holder counts as gone.
    """

    def __init__(self, name: str, patience: float) -> None:
        self._name = name
        self._patience = patience
        self._seen: Sight | None = None
        self._since = self._looked_at = 0.0

    def may_take(self, sight: Sight, now: float) -> bool:
        """Take a look into account and say whether the lease may be taken now."""
        # Who was stopped himself has not watched: what he missed says nothing about the other.
        was_away = now - self._looked_at > self._patience / 2
        if self._seen is None or was_away or not self._seen.is_still(sight):
            self._since = now
        self._seen, self._looked_at = sight, now
        heir = sight.holder.heir if sight.holder else ""
        if sight.is_free and heir in ("", self._name):
            return True
        return now - self._since >= self._patience


class Lease:
    """A lease that is held.

    Args:
        path: its file.
        holder: who holds it.
        patience: seconds without a renewal after which another may take over.
        clock: seconds, monotonic.

    Raises:
        ReactorError: the file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        holder: Holder,
        patience: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.holder = holder
        self._path = path
        self._valid = patience * VALID
        self._clock = clock
        self._count = 0
        self._renewed_at = self._touched_at = clock()
        self._over = threading.Event()
        self._lost: DeposedError | None = None
        self._thread: threading.Thread | None = None
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            self._fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            # Locked and complete before anybody can see it.
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._write(holder)
            fresh.replace(path)
        except OSError as error:
            raise ReactorError(f"cannot write the lease {path}: {error.strerror}") from error
        status = os.fstat(self._fd)
        self._place = (status.st_dev, status.st_ino)
        # A process that a function forks must not go on holding what its parent held.
        os.register_at_fork(after_in_child=functools.partial(_forget, weakref.ref(self)))

    def holds(self) -> bool:
        """Say whether it may still act. Safe from any thread, and cheap while it is renewed."""
        return self._clock() - self._renewed_at < self._valid or self._is_ours()

    def renew(self) -> None:
        """Say that it lives.

        Raises:
            DeposedError: it was away for long, and another took over.
        """
        now = self._clock()
        if now - self._renewed_at >= self._valid and not self._is_ours():
            raise DeposedError("another reactor took over: this one stands down")
        self._count += 1
        self._renewed_at = now
        os.pwrite(self._fd, b"%0*d" % (_COUNT, self._count), 0)

    def keep(self) -> None:
        """Renew it from now on, in a thread, as long as the loop gives signs of life (`touch`)."""
        self._touched_at = self._clock()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()

    def touch(self) -> None:
        """Give a sign of life of the loop.

        Raises:
            DeposedError: another reactor took over.
        """
        self._touched_at = self._clock()
        if self._lost is not None:
            raise self._lost

    def _keep(self) -> None:
        while not self._over.wait(RENEW_EVERY):
            if self._clock() - self._touched_at > LONGEST_TURN:
                continue
            try:
                self.renew()
            except DeposedError as error:
                self._lost = error
                return
            except OSError as error:
                log.debug("the lease %s cannot be renewed: %s", self._path, error)

    def release(self, heir: str = "") -> None:
        """Let others have it: any of them, or one."""
        if self._fd < 0:
            return
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        with contextlib.suppress(OSError):
            self._write(Holder(**{**asdict(self.holder), "heir": heir}))
        os.close(self._fd)
        self._fd = -1

    def forget(self) -> None:
        """Let go of it in this process alone, which is a copy of the holder."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _is_ours(self) -> bool:
        try:
            status = self._path.stat()
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._place

    def _write(self, holder: Holder) -> None:
        text = json.dumps(asdict(holder)).encode()
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, b"%0*d\n%b\n" % (_COUNT, self._count, text), 0)


def _forget(lease: weakref.ref[Lease]) -> None:
    held = lease()
    if held is not None:
        held.forget()


def end(path: Path, sight: Sight) -> None:
    """End a holder that does not move, and wait until it is gone.

    Raises:
        ReactorError: it moved after all, or it cannot be ended.
    """
    if sight.is_free:
        return
    holder = sight.holder
    if holder is None:
        raise ReactorError(f"the holder of {path} does not move, and does not say who it is")
    who = f"the reactor {holder.name} (process {holder.pid})"
    try:
        descriptor = os.pidfd_open(holder.pid)
    except ProcessLookupError:
        descriptor = -1
    except (AttributeError, OSError) as error:
        raise ReactorError(f"{who} does not move, and cannot be ended: {error}") from error
    try:
        # The socket's owner, by the kernel's word, is the process that says so of itself: no
        # other process has that number here.
        if descriptor < 0 or owner_of(holder.address) != holder.pid:
            raise ReactorError(f"{who} does not move, and cannot be ended from here")
        if not look(path).is_still(sight):
            raise ReactorError(f"{who} moved again")
        log.warning("%s has not moved for long: it is ended, and this reactor takes over", who)
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except OSError as error:
        raise ReactorError(f"{who} does not move, and cannot be ended: {error}") from error
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    deadline = time.monotonic() + _ENDING
    while not look(path).is_free:
        if time.monotonic() > deadline:
            raise ReactorError(f"{who} was killed, but is not gone yet")
        time.sleep(0.01)


def describe(holder: Holder | None) -> Mapping[str, Any]:
    """Return what is said of who has the lease, if anybody has."""
    return {"name": holder.name, "pid": holder.pid, "term": holder.term} if holder else {}


def forget_strays(path: Path) -> None:
    """Remove what reactors left that were killed while they took over; nobody else may, then."""
    for stray in path.parent.glob(f"{path.name}.*"):
        with contextlib.suppress(OSError):
            stray.unlink()
