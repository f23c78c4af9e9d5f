"""What runner functions keep for later, by bank and key: small values in files of their own."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from bus import wire
from bus.config import private_dir
from bus.errors import BusError, DataError
from bus.modules import _atomic

_SUFFIX = ".value"
_MAX_NAME_BYTES = 200
"""What a file's name may have, with room for the suffix."""


class Banks:
    """Values in the folder ``path``, which is made when something is stored.

    A value is written whole: who reads meanwhile gets the old one or the new one.

    Args:
        path: a folder of ours, private.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def store(self, bank: str, key: str, value: Any) -> None:
        """Keep a value.

        Args:
            bank: a name, or several with ``/`` between them.
            key: a name.
            value: what msgpack can carry.

        Raises:
            DataError: a name cannot be used, or the value cannot be packed.
            BusError: the disk does not take it.
        """
        target = self._file(bank, key)
        content = wire.pack(value)
        try:
            private_dir(target.parent)
            _atomic.write(target, content, 0o600)
        except OSError as error:
            raise BusError(f"cannot store {key!r} in {target.parent}: {error.strerror}") from error

    def fetch(self, bank: str, key: str) -> Any:
        """Return a value, or None if there is none.

        Raises:
            DataError: a name cannot be used, or what is there cannot be read.
        """
        file = self._file(bank, key)
        try:
            return wire.unpack(file.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DataError(f"cannot read {file}: {error.strerror}") from error

    def list(self, bank: str) -> list[str]:
        """Return the keys in a bank, and the names of the banks in it, sorted.

        Raises:
            DataError: the name cannot be used.
        """
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            entries = [entry for entry in self._folder(bank).iterdir() if entry.name[0] != "."]
            return sorted({unquote(entry.name.removesuffix(_SUFFIX)) for entry in entries})
        return []

    def flush(self, bank: str, key: str | None = None) -> bool:
        """Remove a key, or a bank with all that is in it; return whether there was one.

        Raises:
            DataError: a name cannot be used.
            BusError: it cannot be removed.
        """
        try:
            if key is None:
                shutil.rmtree(self._folder(bank))
            else:
                self._file(bank, key).unlink()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise BusError(f"cannot remove {error.filename}: {error.strerror}") from error
        return True

    def _folder(self, bank: str) -> Path:
        return self._path.joinpath(*[_escaped("bank", part) for part in bank.split("/")])

    def _file(self, bank: str, key: str) -> Path:
        return self._folder(bank) / f"{_escaped('key', key)}{_SUFFIX}"


def _escaped(kind: str, name: object) -> str:
    """Return a name as that of a file: it may come from an event, and must lead nowhere else."""
    if not isinstance(name, str) or not name:
        raise DataError(f"a {kind} has a name that is text, not {name!r}")
    try:
        safe = quote(name, safe="").replace(".", "%2E")  # neither "..", nor a hidden file
    except UnicodeEncodeError as error:
        raise DataError(f"the {kind} {name!r} is no valid Unicode text") from error
    if len(safe) > _MAX_NAME_BYTES:
        raise DataError(f"the {kind} {name[:40]!r}... is too long to be a file's name")
    return safe
