"""A master's key pair, the next one while it is being rotated, and those that were before.

The files are the truth: masters that stand in for one another share them, and follow what one of
them does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from bus.errors import ConfigError, KeyStateError
from bus.keys.files import keep_public, sync_folder, write_beside
from bus.keys.pairs import Keypair, gone_again, make_next

PAST = "master_old"
"""The folder of the keys that were; a file's name is when it was replaced, in ns since 1970."""

_Mark = tuple[int, int] | None


class MasterKeys:
    """The key pairs of a master.

    Args:
        folder: ``pki_dir``; ``master.pem`` in it is made if it is missing.
        grace: seconds during which a key that was replaced can still vouch for its successor.
        clock: nanoseconds since 1970.

    Attributes:
        grace: as given.
        current: the key pair in use.
        next: the one that minions are told of, if the key is being rotated.
        past: those that were before and can still vouch, the oldest first.

    Raises:
        ConfigError: a key cannot be read or made.
    """

    def __init__(
        self, folder: str | Path, grace: float, clock: Callable[[], int] = time.time_ns
    ) -> None:
        self._folder = Path(folder)
        self._path = self._folder / "master.pem"
        self._new = self._folder / "master.pem.new"
        self._past_folder = self._folder / PAST
        self.grace = grace
        self._clock = clock
        self.current = Keypair.load_or_create(folder, "master")
        self.next: Keypair | None = None
        self.past: list[Keypair] = []
        self._marks: tuple[_Mark, ...] = ()
        self._expires = 0
        self.refresh()

    def refresh(self) -> bool:
        """Read what has changed, forget what is too old; return whether anything is another.

        Raises:
            ConfigError: a file cannot be read, or holds no key.
        """
        marks = tuple(_mark(path) for path in (self._path, self._new, self._past_folder))
        if marks == self._marks and not 0 < self._expires <= self._clock():
            return False
        before = (self.current, self.next, self.past)
        # The next key is read first: what is renamed in between is seen as the current one.
        following = Keypair.read(self._new)
        # A master whose file was taken away goes on with the key that its minions know.
        self.current = Keypair.read(self._path) or self.current
        self.next = following if following != self.current else None
        self.past = self._read_past()
        self._marks = marks
        return before != (self.current, self.next, self.past)

    def _read_past(self) -> list[Keypair]:
        grace = int(self.grace * 1e9)
        found: list[Keypair] = []
        self._expires = 0
        for path in sorted(self._past_folder.glob("[0-9]*.pem")):
            if not path.stem.isdigit():
                continue
            ends = int(path.stem) + grace
            if ends <= self._clock():
                path.unlink(missing_ok=True)
                continue
            self._expires = min(self._expires or ends, ends)
            pair = Keypair.read(path)
            if pair is not None and pair != self.current:
                found.append(pair)
        return found

    def prepare(self) -> Keypair:
        """Return the next key pair; it is made if there is none.

        Raises:
            ConfigError: it cannot be made or read.
        """
        make_next(self._new)
        self.refresh()
        if self.next is None:
            raise gone_again(self._new)
        return self.next

    def cancel(self) -> bool:
        """Give the next key up; return whether there was one.

        Raises:
            ConfigError: its file cannot be deleted.
        """
        there = self._new.exists()
        try:
            self._new.unlink(missing_ok=True)
        except OSError as error:
            raise ConfigError(
                f"the next key cannot be deleted: {error.strerror}", str(self._new)
            ) from error
        self.refresh()
        return there

    def switch(self) -> None:
        """Put the next key pair in the place of the current one, which can vouch for it for a time.

        Killed in between, it can be done again, and nothing is lost.

        Raises:
            KeyStateError: there is no next key.
            ConfigError: the files cannot be changed.
        """
        if self.next is None:
            raise KeyStateError("there is no next key: 'reactor key rotate-master' makes it")
        try:
            if self.grace > 0:
                self._keep_current()
            self._new.replace(self._path)
            sync_folder(self._folder)
            keep_public(self._path.with_suffix(".pub"), self.next.public)
        except OSError as error:
            raise ConfigError(
                f"the new key cannot be put in place: {error.strerror}", str(self._path)
            ) from error
        self.refresh()

    def _keep_current(self) -> None:
        self._past_folder.mkdir(mode=0o700, exist_ok=True)
        path = self._past_folder / f"{self._clock()}.pem"
        write_beside(path, self.current.secret + b"\n", 0o600).replace(path)
        sync_folder(self._past_folder)


def _mark(path: Path) -> _Mark:
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_ino, status.st_mtime_ns)
