"""Where the sockets of a master and a minion are: files in ``sock_dir``, or loopback ports.

The address of a port also says where its key is, see `bus.localkey`.
"""

from __future__ import annotations

import re
import select
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bus import localkey
from bus.config.options import MASTER, MINION, options_of
from bus.errors import ConfigError

LOOPBACK = "127.0.0.1"
_IPC = "ipc://"
_LINE = "line://"
_MASTER_LINE, _MINION_LINE = "master_event_line.ipc", "minion_event_{}_line.ipc"

REACTOR_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,8}")
"""The names of a master's reactors: short, as they are part of a socket's path."""
_REACTOR_NAMES = "take 1 to 9 of a to z, 0 to 9 and -"


def master_pub(opts: Mapping[str, Any]) -> str:
    """Return the address where the master's events come out."""
    return _address(opts, MASTER, "master_event_pub.ipc", "tcp_pub_port")


def master_fires(opts: Mapping[str, Any]) -> str:
    """Return the address where the master's events come out as they came in, many together."""
    return _line_of(_address(opts, MASTER, _MASTER_LINE, "tcp_fires_port"))


def master_pull(opts: Mapping[str, Any]) -> str:
    """Return the address where the master's bus takes events and questions."""
    return _address(opts, MASTER, "master_event_pull.ipc", "tcp_pull_port")


def master_direct(opts: Mapping[str, Any]) -> Path | None:
    """Return the file of the direct line to the master's bus; None with ``ipc_mode: tcp``."""
    return socket_path(_address(opts, MASTER, _MASTER_LINE, "tcp_pull_port"))


def master_link(opts: Mapping[str, Any]) -> str:
    """Return the address where the link server takes questions about keys and jobs."""
    return _line_of(_address(opts, MASTER, "master_link.ipc", "tcp_link_port"))


def master_reactor(opts: Mapping[str, Any]) -> str:
    """Return the address where the reactor takes questions."""
    return _line_of(_address(opts, MASTER, "master_reactor.ipc", "tcp_reactor_port"))


def master_reactor_named(opts: Mapping[str, Any], name: str) -> str:
    """Return the address where one of several reactors takes questions, active or not.

    Raises:
        ConfigError: such a name is none, or with ``ipc_mode: tcp`` there is only one reactor.
    """
    if opts.get("ipc_mode", "ipc") == "tcp":
        raise ConfigError("several reactors need ipc_mode: ipc; with tcp there is one")
    if not REACTOR_NAME.fullmatch(name):
        raise ConfigError(f"{name[:40]!r} cannot be a reactor's name: {_REACTOR_NAMES}")
    folder = Path(_need(opts, "sock_dir", MASTER)).absolute()
    return _line_of(f"{_IPC}{folder / f'reactor_{name}.ipc'}")


def master_reactors(opts: Mapping[str, Any]) -> dict[str, str]:
    """Return the addresses of all reactors that have a socket here, by their names."""
    if opts.get("ipc_mode", "ipc") == "tcp":
        return {}
    folder = Path(_need(opts, "sock_dir", MASTER)).absolute()
    names = (path.name[len("reactor_") : -len(".ipc")] for path in folder.glob("reactor_*.ipc"))
    return {
        name: master_reactor_named(opts, name)
        for name in sorted(names)
        if REACTOR_NAME.fullmatch(name)
    }


def master_http(opts: Mapping[str, Any]) -> str:
    """Return the address where the HTTP server says how it does."""
    return _line_of(_address(opts, MASTER, "master_http.ipc", "tcp_http_port"))


def minion_pub(opts: Mapping[str, Any]) -> str:
    """Return the address where the minion's events come out."""
    return _address(opts, MINION, "minion_event_{}_pub.ipc", "tcp_pub_port")


def minion_fires(opts: Mapping[str, Any]) -> str:
    """Return the address where the minion's events come out as they came in, many together."""
    return _line_of(_address(opts, MINION, _MINION_LINE, "tcp_fires_port"))


def minion_pull(opts: Mapping[str, Any]) -> str:
    """Return the address where the minion's bus takes events and questions."""
    return _address(opts, MINION, "minion_event_{}_pull.ipc", "tcp_pull_port")


def minion_direct(opts: Mapping[str, Any]) -> Path | None:
    """Return the file of the direct line to the minion's bus; None with ``ipc_mode: tcp``."""
    return socket_path(_address(opts, MINION, _MINION_LINE, "tcp_pull_port"))


def minion_reactor(opts: Mapping[str, Any]) -> str:
    """Return the address where a minion's reactor takes questions."""
    return _line_of(_address(opts, MINION, "minion_event_{}_react.ipc", "tcp_reactor_port"))


def socket_path(address: str) -> Path | None:
    """Return the socket file of an address; ``None`` if it is a port's."""
    return Path(address.partition("://")[2]) if address.startswith((_IPC, _LINE)) else None


def line_path(address: str) -> Path | None:
    """Return the socket file of the direct line that an address names; None if it names none."""
    return Path(address.removeprefix(_LINE)) if address.startswith(_LINE) else None


def line_address(path: Path) -> str:
    """Return the address of the direct line at ``path``."""
    return f"{_LINE}{path}"


def _line_of(address: str) -> str:
    """Return the direct line's address instead of a file's, where the system has what it needs."""
    path = socket_path(address)
    return line_address(path) if path and direct_line_works() else address


def direct_line_works() -> bool:
    """Say whether this system has what the direct line needs: without it ZeroMQ's serve."""
    return hasattr(select, "epoll") and hasattr(socket, "SO_PEERCRED")


def _address(opts: Mapping[str, Any], role: str, file_name: str, port_option: str) -> str:
    if opts.get("ipc_mode", "ipc") == "tcp":
        port = opts.get(port_option) or options_of(role)[port_option].default
        return localkey.with_key(f"tcp://{LOOPBACK}:{port}", _need(opts, "sock_dir", role))
    name = file_name.format(_short_hash(_need(opts, "id", role))) if role == MINION else file_name
    return f"{_IPC}{Path(_need(opts, 'sock_dir', role)).absolute() / name}"


def _need(opts: Mapping[str, Any], name: str, role: str) -> str:
    value = opts.get(name)
    if not value:
        raise ConfigError(
            f"the option {name} is missing: read the options with bus.config.{role}_config()"
        )
    return str(value)


def _short_hash(minion_id: str) -> str:
    """The first 10 hex digits of the id's SHA-256, as Salt names a minion's sockets."""
    import hashlib  # only a minion needs it, and `reactor fire` starts fast

    return hashlib.sha256(minion_id.encode()).hexdigest()[:10]
