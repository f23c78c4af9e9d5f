"""Writes files whole: a reader sees the old content or the new, never a part."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

_NEW_MODE = 0o666  # what the umask leaves of it, as for any program's new file


def write(path: str | Path, content: bytes, mode: int | None = None) -> None:
    """Replace what ``path`` holds; mode and owner of an existing file are kept.

    Args:
        path: the file; a symbolic link is followed.
        content: all of it.
        mode: the permissions of a file that is new.

    Raises:
        OSError: the directory is not there, or cannot be written.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name[:80]}.{secrets.token_hex(6)}")
    descriptor = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _creation_mode(target, mode)
    )
    try:
        with os.fdopen(descriptor, "wb") as file:
            _keep_ownership(target, file.fileno())
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:  # a job that is being ended leaves no half-written file either
        with suppress(OSError):
            temporary.unlink()
        raise


def _creation_mode(target: Path, mode: int | None) -> int:
    """A file that exists may be private: its successor is never more open, not for an instant."""
    if target.exists():
        return 0o600
    return _NEW_MODE if mode is None else mode


def _keep_ownership(target: Path, descriptor: int) -> None:
    try:
        old = target.stat()
    except FileNotFoundError:
        return
    with suppress(PermissionError):  # only root gives files away; others keep their own
        os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(old.st_mode))
