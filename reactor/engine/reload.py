"""Hot reload: watches what the rules depend on, and loads a new snapshot beside the loop."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch

from reactor.rules.snapshot import Snapshot

log = logging.getLogger(__name__)

QUIET = 0.05
"""Seconds without a further change before a reload: a git checkout is one, not a thousand."""
LONGEST = 0.5
"""Seconds after the first change when a reload happens even if changes go on."""
MOST_LOOKS = 5
"""Looks at files that change all the time before what was seen last is taken as it is."""
_MOST_PATHS = 20_000
"""Changed files that are remembered, to be looked at while others are still being saved."""
LOOK_EVERY = 2.0
"""Seconds between two looks without any notice: network mounts send none."""


_CLOSED = (FileClosedEvent,) if sys.platform == "linux" else (FileModifiedEvent,)
_WANTED: list[type[FileSystemEvent]] = [
    *_CLOSED,
    FileCreatedEvent,
    FileMovedEvent,
    FileDeletedEvent,
    DirCreatedEvent,
    DirMovedEvent,
    DirDeletedEvent,
]
"""What the kernel is to tell. Not each write, as a file is whole when it is closed, and not that
somebody reads: of a thousand files that would be most of the work of a reload. A change of rights,
or a file that stays open, is seen by the look every two seconds."""


class Rules(Protocol):
    """Where rules come from; see `reactor.rules.loading.RuleSet`."""

    def load(self, previous: Snapshot | None = None) -> Snapshot:
        """Read what changed; never raises for a bad file."""
        ...

    def prepare(self, paths: Iterable[str], before: Snapshot) -> None:
        """Do what can be done about changed files before the load; never raises for a bad file."""
        ...

    def watch_paths(self) -> Iterable[str | Path]:
        """Return the files and folders that the last load depends on."""
        ...


OnLoaded = Callable[[Snapshot, float], None]
"""Told of a new snapshot and of the seconds that it took; in the reloader's thread."""


class Reloader:
    """Loads a new snapshot whenever something changed that the rules depend on.

    Args:
        rules: where they come from.
        snapshot: what is in force.
        on_loaded: told of each snapshot that differs.
    """

    def __init__(self, rules: Rules, snapshot: Snapshot, on_loaded: OnLoaded) -> None:
        self._rules = rules
        self._snapshot = snapshot
        self._on_loaded = on_loaded
        self._changed = threading.Event()
        self._ending = False
        self._watches = _Watches(self._changed)
        self._thread = threading.Thread(target=self._run, name="reloader", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._watches.set(self._rules.watch_paths())
        self._thread.start()

    def poke(self) -> None:
        """Have it look now."""
        self._changed.set()

    def close(self) -> None:
        """End watching."""
        self._ending = True
        self._changed.set()
        if self._thread.ident is not None:  # else it never began
            self._thread.join(2)
        self._watches.close()

    def _run(self) -> None:
        while not self._ending:
            if self._changed.wait(LOOK_EVERY):
                self._settle()
            if not self._ending:
                self._load()

    def _settle(self) -> None:
        """Wait until the changes pause; of what is saved meanwhile, rules are made already."""
        first = time.monotonic()
        while time.monotonic() - first < LONGEST and not self._ending:
            self._changed.clear()
            self._prepare()
            if not self._changed.wait(QUIET):
                return

    def _prepare(self) -> None:
        try:
            self._rules.prepare(self._watches.take_paths(), self._snapshot)
        except Exception:  # the boundary of the thread, as below
            log.exception("changed files could not be looked at; they are when they are loaded")

    def _load(self) -> None:
        begun = time.monotonic()
        try:
            snapshot = self._load_whole()
            self._watches.set(self._rules.watch_paths())
        except Exception:  # the boundary of the thread: a failed reload leaves the old rules
            log.exception("the rules could not be reloaded; the old ones stay in force")
            return
        differs = not snapshot.same_as(self._snapshot)
        self._snapshot = snapshot
        if differs:
            self._on_loaded(snapshot, time.monotonic() - begun)

    def _load_whole(self) -> Snapshot:
        """Return what all files held at one moment.

        One look at many files takes its time, and a file that is moved meanwhile is seen at both
        places or at neither. What two looks see alike was so between them.
        """
        snapshot = self._rules.load(self._snapshot)
        if snapshot.same_as(self._snapshot):
            return snapshot
        for _ in range(MOST_LOOKS):
            before, snapshot = snapshot, self._rules.load(snapshot)
            if snapshot.same_as(before):
                break
        return snapshot


class _Watches(FileSystemEventHandler):
    """The folders that are watched now."""

    def __init__(self, changed: threading.Event) -> None:
        self._changed = changed
        self._observer: BaseObserver | None = None
        self._watched: dict[str, ObservedWatch] = {}
        self._paths: deque[str] = deque(maxlen=_MOST_PATHS)

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Note a change."""
        self._paths.append(os.fsdecode(event.dest_path or event.src_path))
        self._changed.set()

    def take_paths(self) -> set[str]:
        """Return what was saved since this was last called."""
        return {self._paths.popleft() for _ in range(len(self._paths))}

    def set(self, paths: Iterable[str | Path]) -> None:
        """Watch the folders of these paths and no others."""
        wanted = {str(folder) for path in paths if (folder := _existing_folder(Path(path)))}
        if self._observer is None:
            self._observer = Observer()
            self._observer.start()
        for gone in self._watched.keys() - wanted:
            self._drop(gone)
        for new in wanted - self._watched.keys():
            self._add(new)

    def _add(self, folder: str) -> None:
        assert self._observer is not None
        try:
            self._watched[folder] = self._observer.schedule(
                self, folder, recursive=False, event_filter=_WANTED
            )
        except OSError as error:
            log.warning(
                "cannot watch %s (%s); it is looked at every %g s instead",
                folder,
                error,
                LOOK_EVERY,
            )

    def _drop(self, folder: str) -> None:
        watch: Any = self._watched.pop(folder)
        if self._observer is not None:
            try:
                self._observer.unschedule(watch)
            except (KeyError, OSError):
                log.debug("the folder %s was no longer watched", folder)

    def close(self) -> None:
        if self._observer is not None:
            self._observer.stop()
            self._observer.join(2)


def _existing_folder(path: Path) -> Path | None:
    """Return the folder to watch for ``path``: itself, its parent, or the nearest that exists."""
    for candidate in (path, *path.parents):
        if candidate.is_dir():
            return candidate
    return None
