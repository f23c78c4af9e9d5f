"""The files that a master offers to its minions: modules and grains under ``file_roots``."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from bus.errors import DataError
from bus.link.protocol import MAX_FILE_BYTES

FOLDERS = ("_modules", "_grains")
"""What can be asked for."""

SUFFIX = ".py"
MAX_FILES = 2_000

_Mark = tuple[int, int, int]


class FileTree:
    """Reads the offered files; nothing outside of them can be reached, not even by a link.

    Args:
        roots: the directories of ``file_roots``'s ``base``; the first that has a file gives it.
    """

    def __init__(self, roots: Sequence[str]) -> None:
        self._roots = [Path(root) for root in roots]
        self._hashes: dict[Path, tuple[_Mark, str]] = {}
        self._seen: dict[str, _Mark] | None = None

    def hashes(self, folder: str) -> dict[str, str]:
        """Return the SHA-256, in hex, of each file of a folder, by its path within the folder.

        Args:
            folder: one of `FOLDERS`.

        Raises:
            DataError: it is another.
        """
        if folder not in FOLDERS:
            raise DataError(f"no folder {str(folder)[:80]!r} is offered: ask for {FOLDERS[0]}")
        found = self._find(folder)
        return {name: self._hash(path) for name, path in found.items()}

    def _find(self, folder: str) -> dict[str, Path]:
        """Return the offered files of a folder by their relative path."""
        found: dict[str, Path] = {}
        for root in self._roots:
            for path in _walk(root / folder):
                if len(found) >= MAX_FILES:
                    return found
                found.setdefault(path.relative_to(root / folder).as_posix(), path)
        return found

    def _hash(self, path: Path) -> str:
        mark = _mark(path)
        known = self._hashes.get(path)
        if known is None or known[0] != mark:
            if len(self._hashes) > 2 * MAX_FILES:
                self._hashes.clear()
            known = (mark, hashlib.sha256(path.read_bytes()).hexdigest())
            self._hashes[path] = known
        return known[1]

    def read(self, name: str) -> bytes:
        """Return a file's content.

        Args:
            name: the folder and its path as `hashes` names it, such as ``_modules/mine.py``.

        Raises:
            DataError: no such file is offered, or it cannot be read.
        """
        if not _is_plain(name):
            raise DataError(f"no file {str(name)[:200]!r} is offered")
        for root in self._roots:
            path = root / name
            if _is_offered(path, root / PurePosixPath(name).parts[0]):
                return _read(path, name)
        raise DataError(f"no file {name[:200]!r} is offered")

    def has_changed(self) -> bool:
        """Say whether a file has come, gone or changed since the last call."""
        now = {name: _mark(path) for folder in FOLDERS for name, path in self._find(folder).items()}
        before, self._seen = self._seen, now
        return before is not None and before != now


def _is_plain(name: object) -> bool:
    if not isinstance(name, str) or "\0" in name or not name.endswith(SUFFIX):
        return False
    parts = PurePosixPath(name).parts
    return len(parts) > 1 and parts[0] in FOLDERS and ".." not in parts


def _is_offered(path: Path, top: Path) -> bool:
    """Say whether it is a file of ours of a fair size; a link may not lead out of its folder."""
    try:
        real, home = path.resolve(strict=True), top.resolve(strict=True)
        return (
            real.is_relative_to(home) and real.is_file() and path.stat().st_size <= MAX_FILE_BYTES
        )
    except (OSError, RuntimeError):  # pathlib's word for a loop of links is RuntimeError
        return False


def _walk(top: Path) -> Iterator[Path]:
    for folder, names, files in os.walk(top):
        names[:] = sorted(name for name in names if not name.startswith((".", "__pycache__")))
        for name in sorted(files):
            path = Path(folder, name)
            if name.endswith(SUFFIX) and _is_offered(path, top):
                yield path


def _read(path: Path, name: str) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise DataError(f"the file {name[:200]!r} cannot be read: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise DataError(f"the file {name[:200]!r} is larger than {MAX_FILE_BYTES} bytes")
    return content


def _mark(path: Path) -> _Mark:
    try:
        status = path.stat()
    except OSError:
        return (0, 0, 0)
    return (status.st_ino, status.st_mtime_ns, status.st_size)
