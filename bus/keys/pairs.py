"""Key pairs in files, and a minion's while it is being rotated."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path

import zmq

from bus.errors import ConfigError, KeyStateError
from bus.keys.files import keep_public, sync_folder, write_beside
from bus.keys.values import check_public


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


def make_next(path: Path) -> None:
    """Write the secret of a next key pair to ``path``, unless one is there.

    Raises:
        ConfigError: it cannot be made.
    """
    try:
        # The file, not what is remembered of it: it must be there after a restart too.
        if not path.exists():
            make_secret(path)
        sync_folder(path.parent)
    except OSError as error:
        raise ConfigError(f"the next key cannot be made: {error.strerror}", str(path)) from error


def gone_again(path: Path) -> ConfigError:
    """Return the error that says that somebody took the next key away."""
    return ConfigError("the next key is gone again: try once more", str(path))


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
        make_next(self._new)
        self.next = Keypair.read(self._new)
        if self.next is None:
            raise gone_again(self._new)
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
