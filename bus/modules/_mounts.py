"""What is mounted on this host, and how full it is."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bus.modules._errors import ExecutionError


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of the kernel's list."""

    device: str
    point: str
    fstype: str
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Filesystem:
    """A mount that can be asked how full it is."""

    mount: Mount
    figures: os.statvfs_result

    @property
    def total(self) -> int:
        """All its bytes."""
        return self.figures.f_blocks * self.figures.f_frsize

    @property
    def used(self) -> int:
        """The bytes that are taken."""
        return (self.figures.f_blocks - self.figures.f_bfree) * self.figures.f_frsize

    @property
    def available(self) -> int:
        """The bytes that a user who is not root may still take."""
        return self.figures.f_bavail * self.figures.f_frsize


def mounts() -> list[Mount]:
    """Return all mounts, in the order in which they were made."""
    import psutil

    return [
        Mount(found.device, found.mountpoint, found.fstype, tuple(found.opts.split(",")))
        for found in psutil.disk_partitions(all=True)
    ]


def filesystems() -> list[Filesystem]:
    """Return the file systems that hold something, each once, as ``df`` shows them."""
    found: dict[int, Filesystem] = {}
    for mount in mounts():
        system = _ask(mount)
        if system is None or not system.figures.f_blocks:
            continue  # such as /proc: it has no size
        device = Path(mount.point).stat().st_dev
        known = found.get(device)
        # A bind mount shows the same thing again, deeper in the tree.
        if known is None or len(mount.point) <= len(known.mount.point):
            found[device] = system
    return list(found.values())


def holding(path: str) -> Filesystem:
    """Return the file system that holds a path.

    Raises:
        ExecutionError: there is nothing at this path, or it may not be seen.
    """
    try:
        place = Path(path).resolve(strict=True)
        mount = _nearest(mounts(), place)
        return Filesystem(mount, os.statvfs(place))
    except OSError as error:
        raise ExecutionError(f"{path}: {error.strerror}") from error


def _ask(mount: Mount) -> Filesystem | None:
    """A mount outside this process' root, or one that its user may not see, has no answer."""
    try:
        return Filesystem(mount, os.statvfs(mount.point))
    except OSError:
        return None


def _nearest(known: Iterable[Mount], place: Path) -> Mount:
    """Return the deepest mount above a place; of several on one point the last hides the rest."""
    above = [mount for mount in known if place.is_relative_to(mount.point)]
    if not above:  # a chroot knows no mount at its root
        return Mount("-", "/", "-", ())
    return max(reversed(above), key=lambda mount: len(mount.point))
