"""Reads the lists of `bus.link.autosign` when they have changed, if they can be trusted."""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bus.link import autosign
from bus.link.autosign import Entries

log = logging.getLogger(__name__)

MAX_BYTES = 4_194_304
_SETTLE_NS = 50_000_000
"""A file's time is coarse: one read this soon after its change may have changed again since."""

_Mark = tuple[int, ...]


class ListFile:
    """One list, which may be missing.

    Args:
        path: the file.
        effect: what else happens while the file is ignored, for the log.
        clock: nanoseconds since 1970, to know how old a change is.
    """

    def __init__(
        self, path: str | Path, effect: str = "", clock: Callable[[], int] = time.time_ns
    ) -> None:
        self._path = Path(path)
        self._ignored = f"{path} is ignored{effect}"
        self._clock = clock
        self._mark: _Mark | None = None
        self._entries: Entries | None = Entries()
        self._said: tuple[str, ...] = ()

    def entries(self) -> Entries | None:
        """Return what the file says now; None if it is there and cannot be trusted or read.

        Costs one ``stat`` while it has not changed.
        """
        try:
            self._refresh()
        except FileNotFoundError:
            self._take(Entries(), None, [])
        except OSError as error:
            self._take(None, None, [f"{self._ignored}: {error.strerror}"])
        return self._entries

    def _refresh(self) -> None:
        if _mark(self._path.stat()) == self._mark:
            return
        # Without waiting, or a pipe in the place of the file would stop the whole link.
        handle = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            status = os.fstat(handle)
            distrust = _distrust(status)
            if distrust:
                self._take(None, self._settled(status), [f"{self._ignored}: {distrust}"])
                return
            entries = autosign.parse(file.read(MAX_BYTES))
        lines = [f"{self._path}:{each.line}: {each.text}" for each in entries.problems]
        self._take(entries, self._settled(status), lines)

    def _settled(self, status: os.stat_result) -> _Mark | None:
        is_settled = self._clock() - max(status.st_mtime_ns, status.st_ctime_ns) > _SETTLE_NS
        return _mark(status) if is_settled else None

    def _take(self, entries: Entries | None, mark: _Mark | None, lines: list[str]) -> None:
        """Take over what was found, and say each new problem once."""
        self._entries, self._mark = entries, mark
        for line in lines:
            if line not in self._said:
                log.warning("%s", line)
        self._said = tuple(lines)


def _mark(status: os.stat_result) -> _Mark:
    # The owner and the mode count too: a chmod has to be noticed.
    return (
        status.st_dev,
        status.st_ino,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_size,
        status.st_mode,
        status.st_uid,
    )


def _distrust(status: os.stat_result) -> str:
    """Return why a file must not be followed, and what to do; empty if it may."""
    if not stat.S_ISREG(status.st_mode):
        return "it is no file"
    if status.st_uid not in (os.geteuid(), 0):
        return "it belongs to another user: chown it to the user of the master, and chmod 600 it"
    if status.st_mode & 0o022:
        return "others can write it: chmod 600 it"
    if status.st_size > MAX_BYTES:
        return f"it has more than {MAX_BYTES} bytes"
    return ""


class Policy:
    """Whom a master accepts or rejects without asking anybody.

    Args:
        opts: ``auto_accept``, and ``autosign_file`` and ``autoreject_file`` if there are any.
    """

    def __init__(self, opts: Mapping[str, Any]) -> None:
        self._accept_all = bool(opts.get("auto_accept"))
        self._sign = _list(opts, "autosign_file", "")
        self._reject = _list(opts, "autoreject_file", ", and nobody is accepted unseen")

    def decide(self, ident: str, public: bytes) -> str:
        """Return ``accept``, ``reject`` or ``ask``, see `bus.link.autosign.decide`."""
        return autosign.decide(
            ident,
            public,
            sign=self._sign.entries() if self._sign else None,
            reject=self._reject.entries() if self._reject else Entries(),
            accept_all=self._accept_all,
        )


def _list(opts: Mapping[str, Any], option: str, effect: str) -> ListFile | None:
    path = opts.get(option)
    return ListFile(path, effect) if path else None
