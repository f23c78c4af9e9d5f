"""The master's record of which minion keys it accepts.

The folders are Salt's: ``minions``, ``minions_pre``, ``minions_rejected``, ``minions_denied``
under ``pki_dir``, one file a minion, which holds its public key.
"""

from __future__ import annotations

import contextlib
import fcntl
import fnmatch
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from bus.errors import ConfigError, KeyStateError
from bus.keys.files import sync_files, sync_folder, write_public
from bus.keys.values import check_minion_id, check_public, fingerprint

ACCEPTED = "accepted"
PENDING = "pending"
REJECTED = "rejected"
DENIED = "denied"
UNKNOWN = "unknown"

FOLDERS = {
    ACCEPTED: "minions",
    PENDING: "minions_pre",
    REJECTED: "minions_rejected",
    DENIED: "minions_denied",
}
"""The folder of each state."""

MAX_PENDING = 10_000
"""Anybody who reaches the port can ask for acceptance, so the folder has a limit."""

_SETTLE_NS = 50_000_000
"""A folder's time is coarse: one read this soon after its change may have changed again since."""

Ids = list[str]
"""A name of its own, since `KeyStore.list` hides the type inside the class."""


class _Folder:
    """The keys of one folder, read again only when the folder has changed."""

    def __init__(self, path: Path, clock: Callable[[], int]) -> None:
        self.path = path
        self._name = str(path)
        self.keys: dict[str, bytes] = {}
        self._clock = clock
        self._seen: int | None = None
        self._files: dict[str, tuple[int, int]] = {}

    def refresh(self) -> bool:
        """Read what has changed; return whether anything has."""
        changed_at = os.stat(self._name).st_mtime_ns  # noqa: PTH116 - ten times a second
        if changed_at == self._seen:
            return False
        before = self.keys
        self._read()
        settled = self._clock() - changed_at > _SETTLE_NS
        self._seen = changed_at if settled else None
        return self.keys != before

    def look(self, ident: str) -> bool:
        """Read the key of one minion, whatever the folder's time says; return whether it is new.

        Costs one ``stat`` while nothing has changed, however many keys there are.
        """
        before = self.keys.get(ident)
        path = self.path / ident
        try:
            status = os.lstat(path)
            mark = (status.st_ino, status.st_mtime_ns)
            if self._files.get(ident) != mark:
                self.keys[ident] = check_public(path.read_bytes().strip())
                self._files[ident] = mark
        except (OSError, KeyStateError):
            self.keys.pop(ident, None)
            self._files.pop(ident, None)
        return self.keys.get(ident) != before

    def _read(self) -> None:
        keys: dict[str, bytes] = {}
        files: dict[str, tuple[int, int]] = {}
        with os.scandir(self.path) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                with contextlib.suppress(OSError, KeyStateError):
                    self._take(entry, keys, files)
        self.keys, self._files = keys, files

    def _take(
        self, entry: os.DirEntry[str], keys: dict[str, bytes], files: dict[str, tuple[int, int]]
    ) -> None:
        name = check_minion_id(entry.name)
        status = entry.stat(follow_symlinks=False)
        mark = (status.st_ino, status.st_mtime_ns)
        known = self.keys.get(name) if self._files.get(name) == mark else None
        keys[name] = known or check_public(Path(entry.path).read_bytes().strip())
        files[name] = mark


class KeyStore:
    """Which minion keys a master accepts. Every process has its own; the files are the truth.

    Args:
        pki_dir: where the folders are; they are made if they are missing.
        clock: nanoseconds since 1970, to know how old a change is.

    Attributes:
        version: grows whenever `refresh`, which the other methods call too, finds a change.

    Raises:
        ConfigError: the folders cannot be made.
    """

    def __init__(self, pki_dir: str | Path, clock: Callable[[], int] = time.time_ns) -> None:
        self._dir = Path(pki_dir)
        self._folders: dict[str, _Folder] = {}
        self._unsynced: list[Path] = []
        self.version = 0
        for state, name in FOLDERS.items():
            path = self._dir / name
            try:
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigError(
                    f"cannot make this folder: {error.strerror}", str(path)
                ) from error
            self._folders[state] = _Folder(path, clock)

    def refresh(self) -> bool:
        """Take over what other processes changed; return whether anything has changed.

        Costs four ``stat`` calls while nothing has.

        Raises:
            ConfigError: a folder cannot be read.
        """
        try:
            # Every folder is to be read, not only up to the first that changed.
            changes = [folder.refresh() for folder in self._folders.values()]
        except OSError as error:
            where = str(error.filename or self._dir)
            raise ConfigError(f"cannot read this folder: {error.strerror}", where) from error
        self.version += any(changes)
        return any(changes)

    def accepted(self) -> dict[str, bytes]:
        """Return the accepted ids and their keys, as of the last `refresh`."""
        return self._folders[ACCEPTED].keys

    def state(self, ident: str, public: bytes) -> str:
        """Return the state of a minion's key, as of the last `refresh`.

        Returns:
            ``accepted``, ``pending``, ``rejected``, ``denied`` (another key is known under this
            id) or ``unknown``.
        """
        for state in (ACCEPTED, REJECTED, PENDING):
            known = self._folders[state].keys.get(ident)
            if known is not None:
                return state if known == public else DENIED
        denied = self._folders[DENIED].keys.get(ident)
        return DENIED if denied == public else UNKNOWN

    def submit(
        self, ident: str, public: bytes, auto_accept: bool = False, auto_reject: bool = False
    ) -> str:
        """Note a minion that says hello, and return its state.

        An unknown one becomes pending (or accepted with ``auto_accept``, or rejected with
        ``auto_reject``); another key under a known id is noted as denied. When too many are
        pending or rejected, it stays ``unknown``.

        Raises:
            KeyStateError: the id or the key has a wrong form.
            ConfigError: the key cannot be written.
        """
        check_minion_id(ident)
        check_public(public)
        self._look(ident)
        state = self.state(ident, public)
        wanted = REJECTED if auto_reject else ACCEPTED if auto_accept else PENDING
        if state == PENDING and wanted != PENDING:
            self._move(ident, PENDING, wanted)
            self._unsynced.append(self._folders[wanted].path / ident)
        elif state == UNKNOWN:
            self._first_contact(ident, public, wanted)
        elif state == DENIED and self._folders[DENIED].keys.get(ident) != public:
            self._write(DENIED, ident, public, sync=False)
        else:
            return state
        self._look(ident)
        return self.state(ident, public)

    def _look(self, ident: str) -> None:
        """Take over what has changed of one minion: thousands may be new, one after the other."""
        changes = [folder.look(ident) for folder in self._folders.values()]
        self.version += any(changes)

    def _first_contact(self, ident: str, public: bytes, wanted: str) -> None:
        if wanted == ACCEPTED or len(self._folders[wanted].keys) < MAX_PENDING:
            self._write(wanted, ident, public, sync=False)

    def _write(self, state: str, ident: str, public: bytes, *, sync: bool = True) -> None:
        path = self._folders[state].path / ident
        try:
            write_public(path, public, sync=sync)
        except OSError as error:
            raise ConfigError(f"cannot keep this key: {error.strerror}", str(path)) from error
        if not sync:
            self._unsynced.append(path)

    def take_unsynced(self) -> list[Path]:
        """Return the files that `submit` wrote and that are to be given to `sync_files`.

        A loss of power before that undoes a first contact, and the minion makes it again.
        """
        paths, self._unsynced = self._unsynced, []
        return paths

    def counts(self) -> dict[str, int]:
        """Return how many keys each folder holds, by the folder's name."""
        self.refresh()
        return {FOLDERS[state]: len(folder.keys) for state, folder in self._folders.items()}

    def _move(self, ident: str, source: str, target: str) -> bool:
        """Move a key; False if another process was first."""
        try:
            path = self._folders[source].path / ident
            path.replace(self._folders[target].path / ident)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise ConfigError(f"cannot move this key: {error.strerror}", str(path)) from error
        return True

    def add(self, ident: str, public: bytes) -> None:
        """Accept the key of a minion that has not come yet.

        Raises:
            KeyStateError: the id or the key has a wrong form, or a key of this id is known.
            ConfigError: the key cannot be written.
        """
        check_minion_id(ident)
        check_public(public)
        with self._lock():
            self.refresh()
            known = [name for name, folder in self._folders.items() if ident in folder.keys]
            if known:
                raise KeyStateError(
                    f"a key of {ident} is {known[0]} already: 'reactor key delete {ident}' first"
                )
            self._write(ACCEPTED, ident, public)
        self.refresh()

    def replace(self, ident: str, old: bytes, new: bytes) -> None:
        """Put another key in the place of an accepted one, as a whole, and durably.

        Does not wait: the link server, which calls this, has other things to do.

        Args:
            ident: the minion.
            old: the key that must be accepted for it now.
            new: the key that is accepted from now on.

        Raises:
            KeyStateError: ``new`` is no key, ``old`` is not the accepted one (any more), or the
                keys are being changed by another process.
            ConfigError: the key cannot be written.
        """
        check_public(new)
        with self._lock(wait=False):
            self.refresh()
            if self.accepted().get(ident) != old:
                raise KeyStateError(f"the key of {ident} that asks to be replaced is not accepted")
            self._write(ACCEPTED, ident, new)
            try:
                # The minion forgets its old secret as soon as it hears of this.
                sync_folder(self._folders[ACCEPTED].path)
            except OSError as error:
                raise ConfigError(f"cannot keep this key: {error.strerror}", ident) from error
        self.refresh()

    @contextlib.contextmanager
    def _lock(self, wait: bool = True) -> Iterator[None]:
        """Keep others from changing keys that are known, or a deleted key could be put back."""
        path = self._folders[ACCEPTED].path
        try:
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise ConfigError(f"cannot open this folder: {error.strerror}", str(path)) from error
        try:
            _lock_open(handle, path, wait=wait)
            yield
        finally:
            os.close(handle)

    def list(self) -> dict[str, Ids]:
        """Return the ids of each folder, sorted, by the folder's name as Salt shows them."""
        self.refresh()
        return {FOLDERS[state]: sorted(folder.keys) for state, folder in self._folders.items()}

    def accept(
        self, glob: str, include_rejected: bool = False, include_denied: bool = False
    ) -> Ids:
        """Accept the pending keys whose id matches ``glob``, and return their ids.

        Args:
            glob: matched as `fnmatch.fnmatchcase` does.
            include_rejected: accept rejected ones too.
            include_denied: accept denied ones too; the key that was accepted is replaced.
        """
        sources = [PENDING]
        sources += [REJECTED] if include_rejected else []
        sources += [DENIED] if include_denied else []
        return self._move_all(glob, sources, ACCEPTED)

    def reject(
        self, glob: str, include_accepted: bool = False, include_denied: bool = False
    ) -> Ids:
        """Reject the pending keys whose id matches ``glob``, and return their ids.

        Args:
            glob: matched as `fnmatch.fnmatchcase` does.
            include_accepted: reject accepted ones too.
            include_denied: reject denied ones too.
        """
        sources = [PENDING]
        sources += [ACCEPTED] if include_accepted else []
        sources += [DENIED] if include_denied else []
        return self._move_all(glob, sources, REJECTED)

    def _move_all(self, glob: str, sources: Iterable[str], target: str) -> Ids:
        with self._lock():
            self.refresh()
            moved = {
                ident
                for source in sources
                for ident in self._matching(source, glob)
                if self._move(ident, source, target)
            }
            sync_files(self._folders[target].path / ident for ident in moved)
        self.refresh()
        return sorted(moved)

    def _matching(self, state: str, glob: str) -> Ids:
        return [ident for ident in self._folders[state].keys if fnmatch.fnmatchcase(ident, glob)]

    def delete(self, glob: str, states: Iterable[str] = tuple(FOLDERS)) -> Ids:
        """Delete all keys whose id matches ``glob``, and return their ids.

        Args:
            glob: matched as `fnmatch.fnmatchcase` does.
            states: in which of these; by default in whatever state.
        """
        gone = set()
        with self._lock():
            self.refresh()
            for state in states:
                folder = self._folders[state]
                for ident in self._matching(state, glob):
                    _unlink(folder.path / ident)
                    gone.add(ident)
        self.refresh()
        return sorted(gone)

    def finger(self, glob: str = "*") -> dict[str, dict[str, str]]:
        """Return the fingerprints of the keys whose id matches ``glob``, by folder and id."""
        self.refresh()
        return {
            FOLDERS[state]: {
                ident: fingerprint(folder.keys[ident])
                for ident in sorted(self._matching(state, glob))
            }
            for state, folder in self._folders.items()
        }


def _lock_open(handle: int, path: Path, *, wait: bool) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError as error:
        raise KeyStateError("another process is changing keys: try again") from error
    except OSError as error:
        raise ConfigError(f"cannot lock this folder: {error.strerror}", str(path)) from error


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot delete this key: {error.strerror}", str(path)) from error
