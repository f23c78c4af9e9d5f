"""Key files: written whole or not at all, and there after a loss of power."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from bus.errors import ConfigError, KeyStateError
from bus.keys.values import check_public


def write_beside(path: Path, content: bytes, mode: int, *, sync: bool = True) -> Path:
    """Write a new file in the folder of ``path``, to be renamed; return where it is."""
    temporary = path.with_name(f".{secrets.token_hex(8)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        if sync:
            os.fsync(file.fileno())
    return temporary


def sync_folder(path: Path) -> None:
    """See to it that what was renamed in a folder is still so after a loss of power."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def keep_public(path: Path, public: bytes) -> None:
    """Write a public key to ``path`` unless it is there."""
    if not path.exists() or path.read_bytes().strip() != public:
        write_public(path, public)


def write_public(path: Path, public: bytes, *, sync: bool = True) -> None:
    """Write a public key to ``path``, whole or not at all; ``sync`` waits for the disk."""
    write_beside(path, public + b"\n", 0o644, sync=sync).replace(path)


def sync_files(paths: Iterable[Path]) -> None:
    """See to it that what was written to files, and their names, outlive a loss of power.

    What is gone or cannot be read any more is passed over.
    """
    folders = set()
    for path in paths:
        with contextlib.suppress(OSError):
            _sync(path, os.O_RDONLY | os.O_NOFOLLOW)
            folders.add(path.parent)
    for folder in folders:
        with contextlib.suppress(OSError):
            sync_folder(folder)


def read_public(path: Path) -> bytes | None:
    """Return the public key in ``path``, or None if there is no such file.

    Raises:
        ConfigError: the file holds no key.
    """
    try:
        return check_public(path.read_bytes().strip())
    except FileNotFoundError:
        return None
    except (OSError, KeyStateError) as error:
        raise ConfigError(f"no public key in Z85: {error}", str(path)) from error
