"""CURVE key pairs in files, and the master's record of which minion keys it accepts.

The folders are Salt's: ``minions``, ``minions_pre``, ``minions_rejected``, ``minions_denied``
under ``pki_dir``, one file a minion, which holds its public key.
"""

from __future__ import annotations

import binascii
import contextlib
import fcntl
import fnmatch
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import zmq
from zmq.utils import z85

from bus.errors import ConfigError, KeyStateError

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

MAX_ID_BYTES = 255
"""A minion id is a file name: POSIX's NAME_MAX."""

MAX_PENDING = 10_000
"""Anybody who reaches the port can ask for acceptance, so the folder has a limit."""

_KEY = re.compile(rb"[0-9A-Za-z.:+=^!/*?&<>()\[\]{}@%$#-]{40}\Z")
_SETTLE_NS = 50_000_000
"""A folder's time is coarse: one read this soon after its change may have changed again since."""


# -- keys as values ---------------------------------------------------------------------------


_NOT_IN_IDS = frozenset("/*?[], ")


def check_minion_id(ident: object) -> str:
    """Return ``ident`` if it can be the id of a minion.

    Raises:
        KeyStateError: it is no text, empty, too long, begins with a dot, or contains ``/``, a
            character that is not shown, by which it could pass for another, or one that a
            target reads as more than itself: a minion named ``*`` would get everybody's jobs.
    """
    if not isinstance(ident, str) or not ident:
        raise KeyStateError("a minion id is text that is not empty")
    if ident.startswith(".") or not ident.isprintable() or not _NOT_IN_IDS.isdisjoint(ident):
        raise KeyStateError(
            f"the minion id {ident[:80]!r} must not begin with '.' or contain blanks, "
            "'/', any of '*?[],' or characters that are not shown"
        )
    size = len(ident.encode())
    if size > MAX_ID_BYTES:
        raise KeyStateError(f"a minion id of {size} bytes: at most {MAX_ID_BYTES} are allowed")
    return ident


def check_public(key: bytes) -> bytes:
    """Return ``key`` if it is a public key: 40 characters in Z85 that are 32 bytes.

    Raises:
        KeyStateError: it is none.
    """
    if _KEY.match(key) is None:
        raise KeyStateError("a public key is 40 characters in Z85")
    try:
        z85.decode(key)
    except Exception as error:  # pyzmq lets struct.error through, which has no other base
        raise KeyStateError("a public key that is no valid Z85") from error
    return key


def fingerprint(public: bytes) -> str:
    """Return the 32 bytes of a key in hex with colons: it names the key and contains it.

    Raises:
        KeyStateError: ``public`` is no key in Z85.
    """
    return z85.decode(check_public(public)).hex(":")


def key_from_fingerprint(text: str) -> bytes:
    """Return the key, in Z85, that a fingerprint contains.

    Raises:
        KeyStateError: ``text`` is no fingerprint.
    """
    try:
        raw = binascii.unhexlify(text.strip().replace(":", ""))
    except (binascii.Error, ValueError) as error:
        raise KeyStateError(f"the fingerprint {text[:100]!r} is not hex with colons") from error
    if len(raw) != 32:
        raise KeyStateError(
            f"a fingerprint has 32 bytes, this one {len(raw)}: copy it whole, "
            "as 'reactor key finger' prints it"
        )
    return z85.encode(raw)


@dataclass(frozen=True, slots=True)
class Keypair:
    """A CURVE key pair.

    Attributes:
        public: 40 characters in Z85.
        secret: the same; never shown.
    """

    public: bytes
    secret: bytes = field(repr=False)

    @classmethod
    def load_or_create(cls, folder: str | Path, name: str) -> Keypair:
        """Return the key pair in ``<folder>/<name>.pem``; it is made if there is none.

        The secret file is made with the mode 0600 and appears whole or not at all.

        Args:
            folder: made with the mode 0700 if it is missing.
            name: ``master`` or ``minion``.

        Raises:
            ConfigError: the files cannot be read or made, or the secret is readable by others.
        """
        path = Path(folder) / f"{name}.pem"
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not path.exists():
                make_secret(path)
            pair = cls._read(path)
            keep_public(path.with_suffix(".pub"), pair.public)
        except OSError as error:
            raise ConfigError(
                f"the key cannot be read or made: {error.strerror}", str(path)
            ) from error
        return pair

    @classmethod
    def create(cls, folder: str | Path, name: str) -> Keypair:
        """Return a new key pair in ``<folder>/<name>.pem`` and ``.pub``.

        Args:
            folder: made with the mode 0700 if it is missing.
            name: ``minion``, for one.

        Raises:
            ConfigError: there is a key already, or the files cannot be made.
        """
        path = Path(folder) / f"{name}.pem"
        if path.exists():
            raise ConfigError(
                "there is a key already: move it away, or name another --dir", str(path)
            )
        return cls.load_or_create(folder, name)

    @classmethod
    def read(cls, path: Path) -> Keypair | None:
        """Return the key pair whose secret is in ``path``; None if there is no such file.

        Raises:
            ConfigError: the file cannot be read, holds no key, or others can read it.
        """
        try:
            return cls._read(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(f"the key cannot be read: {error.strerror}", str(path)) from error

    @classmethod
    def _read(cls, path: Path) -> Keypair:
        if path.stat().st_mode & 0o077:
            raise ConfigError("this secret key can be read by others: chmod 600 it", str(path))
        secret = path.read_bytes().strip()
        try:
            return cls(zmq.curve_public(check_public(secret)), secret)
        except KeyStateError as error:
            # The error's own words are of a public key, and its chain could show this one.
            raise ConfigError(
                "no secret key in Z85: move the file away, and a new one is made", str(path)
            ) from error


def make_secret(path: Path) -> None:
    """Write a new secret; when another process was first, its secret stays."""
    _, secret = zmq.curve_keypair()
    temporary = write_beside(path, secret + b"\n", 0o600)
    try:
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink()


class MinionKeys:
    """A minion's key pair, and the next one while a rotation is under way.

    The next secret is on the disk before the master hears of its public half, and the old one
    stays until the master has said that it has the new one: whenever the minion is killed, it
    has the secret of the key that the master knows.

    Args:
        folder: where ``minion.pem`` is; the next secret is ``minion.pem.new`` beside it.
        current: the key pair in ``minion.pem``.

    Attributes:
        current: the key pair in use.
        next: the next one, if there is one.

    Raises:
        ConfigError: the next key is there and cannot be read.
    """

    def __init__(self, folder: str | Path, current: Keypair) -> None:
        self._path = Path(folder) / "minion.pem"
        self._new = self._path.with_suffix(".pem.new")
        self.current = current
        self.next = Keypair.read(self._new)

    def prepare(self) -> Keypair:
        """Return the next key pair; it is made if there is none.

        Raises:
            ConfigError: it cannot be made or read.
        """
        try:
            # The file, not what is remembered of it: it must be there after a restart too.
            if not self._new.exists():
                make_secret(self._new)
            sync_folder(self._new.parent)
        except OSError as error:
            raise ConfigError(
                f"the next key cannot be made: {error.strerror}", str(self._new)
            ) from error
        self.next = Keypair.read(self._new)
        if self.next is None:
            raise ConfigError("the next key is gone again: try once more", str(self._new))
        return self.next

    def adopt(self) -> None:
        """Forget the old key pair: from now on the next one is the current one.

        Raises:
            ConfigError: the files cannot be changed.
        """
        assert self.next is not None
        try:
            self._new.replace(self._path)
            sync_folder(self._path.parent)
            self.current, self.next = self.next, None
            keep_public(self._path.with_suffix(".pub"), self.current.public)
        except OSError as error:
            raise ConfigError(
                f"the new key cannot be put in place: {error.strerror}", str(self._path)
            ) from error


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


# -- the states of minion keys ----------------------------------------------------------------


Ids = list[str]
"""A name of its own, since `KeyStore.list` hides the type inside the class."""


class _Folder:
    """The keys of one folder, read again only when the folder has changed."""

    def __init__(self, path: Path, clock: Callable[[], int]) -> None:
        self.path = path
        self.keys: dict[str, bytes] = {}
        self._clock = clock
        self._seen: int | None = None
        self._files: dict[str, tuple[int, int]] = {}

    def refresh(self) -> bool:
        """Read what has changed; return whether anything has."""
        changed_at = self.path.stat().st_mtime_ns
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
