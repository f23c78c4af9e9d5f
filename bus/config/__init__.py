"""The configuration: Salt's names for reading it (``salt.config``), our table of options."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bus.config.directories import private_dir
from bus.config.files import Source, config_files, load
from bus.config.lookup import find_config_dir
from bus.config.options import MASTER, MINION, OPTIONS, Option, describe, options_of
from bus.config.opts import Opts
from bus.errors import ConfigError

__all__ = [
    "DEFAULT_MASTER_OPTS",
    "DEFAULT_MINION_OPTS",
    "OPTIONS",
    "Option",
    "Opts",
    "client_config",
    "describe",
    "find_config_dir",
    "has_master",
    "has_minion",
    "master_config",
    "minion_config",
    "private_dir",
    "tolerant_config",
]


def _table_defaults(role: str) -> Mapping[str, Any]:
    return MappingProxyType({name: option.default for name, option in options_of(role).items()})


DEFAULT_MASTER_OPTS = _table_defaults(MASTER)
"""The defaults of a master; ``None`` stands for what depends on the directory."""

DEFAULT_MINION_OPTS = _table_defaults(MINION)
"""The defaults of a minion; ``None`` stands for what depends on the directory or the host."""


def master_config(path: Source = None) -> Opts:
    """Return the options of the master.

    Args:
        path: its file (``/etc/reactor/master``), whose neighbours ``master.d/*.conf`` are read
            too; or the directory; or options in place of the files; or ``None`` for the usual
            look-up. `DEFAULT_MASTER_OPTS` itself is as ``None``.

    Raises:
        ConfigError: a directory that was named is missing, or a file or option is refused.
    """
    return _load(MASTER, path, DEFAULT_MASTER_OPTS)


def client_config(path: Source = None) -> Opts:
    """Return the options for a client on the master's host: the master's.

    Args:
        path: as for `master_config`.

    Raises:
        ConfigError: as `master_config`.
    """
    return master_config(path)


def minion_config(path: Source = None) -> Opts:
    """Return the options of the minion.

    Args:
        path: its file, directory, options in place of the files, or ``None``, as for
            `master_config`. `DEFAULT_MINION_OPTS` itself is as ``None``.

    Raises:
        ConfigError: as `master_config`.
    """
    return _load(MINION, path, DEFAULT_MINION_OPTS)


def tolerant_config(role: str, path: Source, forgive: Callable[[ConfigError], None]) -> Opts:
    """Return the options for a client, which a slip elsewhere in the file need not stop.

    Args:
        role: ``master`` or ``minion``.
        path: as for `master_config`.
        forgive: told of each setting that is refused and left out.

    Raises:
        ConfigError: as `master_config`, of what a client cannot do without.
    """
    return load(role, path, environ=os.environ, cwd=os.curdir, uid=os.geteuid(), forgive=forgive)


def _load(role: str, path: Source, defaults: Mapping[str, Any]) -> Opts:
    if isinstance(path, Opts) and path.role == role:
        return path
    source = None if isinstance(path, Mapping) and path == defaults else path
    return load(role, source, environ=os.environ, cwd=os.curdir, uid=os.geteuid())


def has_master(directory: str | os.PathLike[str]) -> bool:
    """Say whether ``directory`` has a master's configuration: ``master`` or ``master.d/*.conf``."""
    return bool(config_files(Path(directory, MASTER), MASTER))


def has_minion(directory: str | os.PathLike[str]) -> bool:
    """Say whether ``directory`` has a minion's configuration: ``minion`` or ``minion.d/*.conf``."""
    return bool(config_files(Path(directory, MINION), MINION))
