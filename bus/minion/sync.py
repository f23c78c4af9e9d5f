"""Brings the master's ``_modules`` and ``_grains`` onto the minion, whatever changed of them."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from bus.errors import BusError, DataError

log = logging.getLogger(__name__)

MAX_FILES = 10_000
MAX_FAILED = 5
"""Requests that may fail before a sync is given up: the master is away, or slow beyond use."""
_BYTECODE = "__pycache__"

Reply = Callable[[Any, str], None]
Request = Callable[[dict[str, Any], Reply], None]


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What a sync did.

    Attributes:
        changed: the names of files written or removed, such as ``_modules/mine.py``.
        errors: a line for each file or listing that could not be had.
    """

    changed: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class _Run:
    """One sync under way: what is still to be asked, and what was found."""

    listings: list[str]
    files: list[tuple[str, str]] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def give_up(self) -> None:
        """Ask for nothing more."""
        self.files.clear()
        self.listings.clear()


class Sync:
    """Keeps directories equal to the master's, one request at a time.

    Args:
        request: asks the master; the reply is a value, or None and what went wrong.
        directories: the master's directory name, such as ``_modules`` -> where it is kept.
        on_done: told of each finished sync.
    """

    def __init__(
        self,
        request: Request,
        directories: Mapping[str, Path],
        on_done: Callable[[SyncResult], None],
    ) -> None:
        self.last = SyncResult()
        self._request = request
        self._directories = dict(directories)
        self._on_done = on_done
        self._run: _Run | None = None
        self._again = False
        self.finished = 0

    def status(self) -> dict[str, Any]:
        """Return whether a sync runs, how many are over, and what the last one did."""
        return {
            "running": self._run is not None,
            "finished": self.finished,
            "changed": list(self.last.changed),
            "errors": list(self.last.errors),
        }

    def start(self) -> int:
        """Begin a sync; if one is under way, another one follows it.

        Returns:
            What `finished` will be when it is over.
        """
        finished = self.finished + (1 if self._run is None else 2)
        if self._run is not None:
            self._again = True
        else:
            self.restart()
        return finished

    def restart(self) -> None:
        """Begin a sync; one under way is dropped, since its connection is."""
        # Who waits for the one that is dropped, or for its follower, must not wait for ever.
        self.finished += (self._run is not None) + self._again
        self._again = False
        self._run = _Run(list(self._directories))
        self._next(self._run)

    def _next(self, run: _Run) -> None:
        """Ask for the next file, else the next listing, else finish."""
        if len(run.errors) >= MAX_FAILED:
            run.give_up()
        if run.files:
            name, digest = run.files.pop()
            self._request({"file": name}, partial(self._file, run, name, digest))
        elif run.listings:
            name = run.listings.pop(0)
            self._request({"files": name}, partial(self._listing, run, name))
        else:
            self._finish(run)

    def _finish(self, run: _Run) -> None:
        self._run = None
        self.finished += 1
        self.last = SyncResult(tuple(sorted(run.changed)), tuple(run.errors))
        for line in run.errors:
            log.warning("module sync: %s", line)
        self._on_done(self.last)
        if self._again:
            self._again = False
            self.start()

    def _listing(self, run: _Run, name: str, value: Any, text: str) -> None:
        if run is not self._run:
            return
        try:
            wanted = _read_listing(name, value, text)
            have = digests(self._directories[name])
            self._remove(run, name, have.keys() - wanted.keys())
        except (BusError, OSError) as error:
            run.errors.append(str(error))
        else:
            changed = [path for path, digest in wanted.items() if have.get(path) != digest]
            run.files = [(f"{name}/{path}", wanted[path]) for path in sorted(changed, reverse=True)]
        self._next(run)

    def _remove(self, run: _Run, name: str, gone: set[str]) -> None:
        for path in sorted(gone):
            target = self._directories[name] / path
            target.unlink(missing_ok=True)
            _forget_bytecode(target)
            run.changed.append(f"{name}/{path}")

    def _file(self, run: _Run, name: str, digest: str, value: Any, text: str) -> None:
        if run is not self._run:
            return
        try:
            content = _read_content(name, value, text)
            if hashlib.sha256(content).hexdigest() != digest:
                raise DataError(f"{name} changed while it was fetched, or came damaged")
            write_file(self._path(name), content)
            run.changed.append(name)
        except (BusError, OSError) as error:
            run.errors.append(str(error))
        self._next(run)

    def _path(self, name: str) -> Path:
        directory, _, path = name.partition("/")
        return self._directories[directory] / path


def _read_listing(name: str, value: Any, text: str) -> dict[str, str]:
    """Return the listing of a directory.

    Raises:
        BusError: it did not come, or names what no file may be called.
    """
    if not isinstance(value, dict):
        raise DataError(f"no list of {name} from the master: {text or 'it sent none'}")
    if len(value) > MAX_FILES:
        raise DataError(f"the master lists {len(value)} files in {name}, more than {MAX_FILES}")
    return {check_path(path): str(digest) for path, digest in value.items()}


def _read_content(name: str, value: Any, text: str) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if not isinstance(value, bytes):
        raise DataError(f"no file {name} from the master: {text or 'it sent none'}")
    return value


def check_path(path: Any) -> str:
    """Return ``path`` if it stays within the directory that it is relative to.

    Raises:
        DataError: it may lead elsewhere.
    """
    parts = path.split("/") if isinstance(path, str) else [".."]
    odd = not all(parts) or {".", "..", _BYTECODE} & set(parts)
    if odd or any(char < " " or char == "\\" for char in path):
        raise DataError(f"refused the file name {str(path)[:80]!r} that the master lists")
    return str(path)


def digests(directory: Path) -> dict[str, str]:
    """Return the SHA-256 of each file under ``directory``, by relative path."""
    found = {}
    for path in sorted(directory.rglob("*")):
        relative = PurePosixPath(path.relative_to(directory))
        if path.is_file() and _BYTECODE not in relative.parts:
            found[str(relative)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, readable by its owner only.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
    fresh.replace(path)
    _forget_bytecode(path)


def _forget_bytecode(path: Path) -> None:
    """Python tells bytecode that is out of date by whole seconds and size, which is not enough."""
    with contextlib.suppress(OSError):
        shutil.rmtree(path.parent / _BYTECODE)
