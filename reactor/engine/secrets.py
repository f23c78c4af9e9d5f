"""Secrets of actions: each in a file of its own, read when it is needed, named and never shown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reactor.errors import ReactorError

_MAX_BYTES = 65_536
_OTHERS = 0o077


class Secrets:
    """The files that the option ``reactor_secrets`` names.

    Args:
        paths: name -> file; a relative path starts from ``folder``.
        folder: the configuration's folder.
    """

    def __init__(self, paths: Mapping[str, Any], folder: str) -> None:
        self._paths = {name: Path(folder, str(path)) for name, path in paths.items()}

    def get(self, name: str) -> bytes:
        """Return a secret, without white space around it.

        Raises:
            ReactorError: there is none of this name, or its file cannot be used.
        """
        path = self._paths.get(name)
        if path is None:
            known = ", ".join(sorted(self._paths)) or "none"
            raise ReactorError(f"unknown secret {name!r}: the option reactor_secrets has {known}")
        try:
            if path.stat().st_mode & _OTHERS:
                raise ReactorError(
                    f"the secret {name!r}: others may read {path}: run chmod 600 {path}"
                )
            with path.open("rb") as file:
                secret = file.read(_MAX_BYTES).strip()
        except OSError as error:
            raise ReactorError(f"the secret {name!r} cannot be read: {error}") from error
        if not secret:
            raise ReactorError(f"the secret {name!r}: {path} is empty")
        return secret

    def text(self, name: str) -> str:
        """Return a secret as text.

        Raises:
            ReactorError: as for `get`.
        """
        return self.get(name).decode(errors="replace")
