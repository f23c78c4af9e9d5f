"""Where the configuration directory is."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

ENVIRON_NAME = "REACTOR_CONFIG_DIR"
LOCAL_NAME = ".reactor"
SYSTEM_DIR = Path("/etc/reactor")


def find_config_dir(
    explicit: str | os.PathLike[str] | None = None,
    *,
    environ: Mapping[str, str],
    cwd: str | os.PathLike[str],
    uid: int,
) -> Path:
    """Return the configuration directory, absolute; it need not exist.

    The first of: ``explicit``; the variable ``REACTOR_CONFIG_DIR``; ``.reactor`` in ``cwd`` if
    it is the caller's and nobody else can write it; ``/etc/reactor`` for root, and for others
    ``reactor`` in the XDG configuration directory.

    Args:
        explicit: what the user named, such as by ``--config``.
        environ: the environment variables.
        cwd: the working directory.
        uid: the caller's user id.
    """
    named = explicit or environ.get(ENVIRON_NAME)
    if named:
        # pathlib would keep `..`, and raises for a `~name` that is nobody's.
        return Path(os.path.abspath(Path(cwd, os.path.expanduser(named))))  # noqa: PTH100, PTH111
    local = Path(cwd, LOCAL_NAME).absolute()
    if _is_usable(local, uid):
        return local
    return SYSTEM_DIR if uid == 0 else xdg_dir("XDG_CONFIG_HOME", ".config", environ, uid)


def _is_usable(local: Path, uid: int) -> bool:
    refused = _refusal(local, uid)
    if refused:
        import logging  # seldom needed, and it takes time

        logging.getLogger(__name__).warning(
            "%s is not used: %s; to use it none the less, name it with --config", local, refused
        )
    return refused == ""


def _refusal(local: Path, uid: int) -> str | None:
    """Say why ``local`` is refused: an empty string if it is not, ``None`` if it is absent."""
    try:
        link, status = local.lstat(), local.stat()
    except OSError:
        return None
    if not stat.S_ISDIR(status.st_mode):
        return "it is not a directory"
    if status.st_uid != uid or link.st_uid != uid:
        return f"it belongs to the user {status.st_uid}, not to you ({uid})"
    if status.st_mode & 0o022:
        return (
            f"others can write it (mode {stat.S_IMODE(status.st_mode):o}): run chmod go-w {local}"
        )
    return ""


def xdg_dir(variable: str, fallback: str, environ: Mapping[str, str], uid: int) -> Path:
    """Return ``reactor`` in an XDG base directory.

    Args:
        variable: such as ``XDG_CONFIG_HOME``; as the specification says, only an absolute
            path counts.
        fallback: the directory below the home directory that holds without it.
        environ: the environment variables.
        uid: whose home directory it is if there is no ``HOME``.
    """
    base = environ.get(variable, "")
    root = Path(base) if base.startswith("/") else _home(environ, uid) / fallback
    return root / "reactor"


def _home(environ: Mapping[str, str], uid: int) -> Path:
    home = environ.get("HOME", "")
    if home.startswith("/"):
        return Path(home)
    import pwd  # not on every platform, and seldom needed

    try:
        return Path(pwd.getpwuid(uid).pw_dir)
    except KeyError:  # a container may run under a number without an entry
        return Path("/")
