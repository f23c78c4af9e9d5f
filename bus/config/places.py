"""The defaults that depend on the configuration directory: where state, keys and sockets are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bus.config.lookup import SYSTEM_DIR, xdg_dir
from bus.config.options import MASTER, MINION, options_of
from bus.config.settings import socket_fits


def defaults(role: str, conf_dir: Path, environ: Mapping[str, str], uid: int) -> dict[str, Any]:
    """Return the default of every option of ``role``.

    Args:
        role: ``master`` or ``minion``.
        conf_dir: the configuration directory.
        environ: the environment variables, for the XDG directories.
        uid: the caller's user id.
    """
    values = {name: option.default for name, option in options_of(role).items()}
    values.update(_directories(role, conf_dir, environ, uid))
    if role == MASTER:
        values["autosign_file"] = str(conf_dir / "autosign.conf")
        values["autoreject_file"] = str(conf_dir / "autoreject.conf")
    if not socket_fits(role, values["sock_dir"]):
        values["sock_dir"] = str(_short_sock_dir(role, conf_dir, uid))
    if role == MINION:
        values["id"] = _host_name()
    return values


def _directories(role: str, conf_dir: Path, environ: Mapping[str, str], uid: int) -> dict[str, Any]:
    if _is_same(conf_dir, SYSTEM_DIR):
        return _system(role)
    if _is_same(conf_dir, xdg_dir("XDG_CONFIG_HOME", ".config", environ, uid)):
        return _of_user(role, conf_dir, environ, uid)
    return _inside(role, conf_dir)


def _is_same(one: Path, other: Path) -> bool:
    return one == other or os.path.realpath(one) == os.path.realpath(other)


def _system(role: str) -> dict[str, Any]:
    """As the Filesystem Hierarchy Standard has it, and Salt."""
    return {
        "sock_dir": f"/var/run/reactor/{role}",
        "pki_dir": f"/etc/reactor/pki/{role}",
        "cachedir": f"/var/cache/reactor/{role}",
        "state_dir": f"/var/lib/reactor/{role}",
        "file_roots": {"base": ("/srv/reactor",)},
    }


def _of_user(role: str, conf_dir: Path, environ: Mapping[str, str], uid: int) -> dict[str, Any]:
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    sockets = Path(runtime, "reactor") if runtime.startswith("/") else _temporary(uid)
    return {
        "sock_dir": str(sockets / role),
        "pki_dir": str(conf_dir / "pki" / role),
        "cachedir": str(xdg_dir("XDG_CACHE_HOME", ".cache", environ, uid) / role),
        "state_dir": str(xdg_dir("XDG_STATE_HOME", ".local/state", environ, uid) / role),
        "file_roots": {"base": (str(conf_dir / "files"),)},
    }


def _inside(role: str, conf_dir: Path) -> dict[str, Any]:
    return {
        "sock_dir": str(conf_dir / "run" / role),
        "pki_dir": str(conf_dir / "pki" / role),
        "cachedir": str(conf_dir / "cache" / role),
        "state_dir": str(conf_dir / "state" / role),
        "file_roots": {"base": (str(conf_dir / "files"),)},
    }


def _temporary(uid: int) -> Path:
    return Path(f"/tmp/reactor-{uid}")  # noqa: S108 - private_dir checks whose it is before use


def _short_sock_dir(role: str, conf_dir: Path, uid: int) -> Path:
    """One directory for each configuration, however it is spelled, with a short path."""
    import hashlib  # seldom needed, and `reactor fire` starts fast

    name = hashlib.sha256(os.fsencode(os.path.realpath(conf_dir))).hexdigest()[:12]
    return _temporary(uid) / name / role


def _host_name() -> str:
    import socket  # only a minion needs it

    return socket.gethostname()
