"""Makes directories that nobody else can enter."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from bus.errors import ConfigError


def private_dir(path: str | os.PathLike[str]) -> Path:
    """Return ``path`` as a directory of ours, made (its parents too) with mode 0700 if missing.

    Raises:
        ConfigError: it cannot be made, is a link or no directory, belongs to somebody else, or
            others can write it.
    """
    place = Path(path).absolute()
    try:
        _make(place)
        _check(place)
        _check_shared_parents(place)
    except OSError as error:
        raise ConfigError(
            f"the directory {place} cannot be made or read ({error.strerror}): "
            f"make it yourself, or choose another in the configuration"
        ) from error
    return place


def _make(place: Path) -> None:
    missing = []
    while not os.path.lexists(place):
        missing.append(place)
        place = place.parent
    for each in reversed(missing):
        try:
            each.mkdir(mode=0o700)
        except FileExistsError:  # another process of ours was faster; _check looks at it
            continue


def _check(place: Path) -> None:
    status = place.lstat()
    mode, uid = stat.S_IMODE(status.st_mode), os.geteuid()
    if stat.S_ISLNK(status.st_mode):
        raise ConfigError(f"{place} is a symbolic link: put the directory itself there")
    if not stat.S_ISDIR(status.st_mode):
        raise ConfigError(f"{place} is not a directory: move it away")
    if status.st_uid != uid:
        raise ConfigError(
            f"the directory {place} belongs to the user {status.st_uid}, this runs as {uid}: "
            f"run it as that user, or choose another directory"
        )
    if mode & 0o022:
        raise ConfigError(
            f"others can write the directory {place} (mode {mode:o}): run chmod 700 {place}"
        )


def _check_shared_parents(place: Path) -> None:
    """What stands in a directory like /tmp may be a stranger's, who could swap what is in it."""
    for parent, child in zip(place.parents, (place, *place.parents), strict=False):
        if not parent.stat().st_mode & stat.S_ISVTX:
            continue
        owner = child.lstat().st_uid
        if owner not in (0, os.geteuid()):
            raise ConfigError(
                f"the directory {child} belongs to the user {owner} and stands in {parent}, "
                f"where anyone may write: remove it, or choose another directory than {place}"
            )
