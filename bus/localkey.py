"""The secret of local sockets on loopback ports: a key that only the user of the bus can read.

A file guards a UNIX socket; a port is open to every user of the host. So a server on a port
speaks CURVE, under a key of its own whose *public* half is never told to anybody: it stands, with
the rest, in a file of mode 0600 beside where the sockets would be. ZeroMQ lets nobody finish a
handshake who does not know it, and a stranger on the server's port cannot finish one either.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from bus.errors import BusError

FILE_NAME = "local.key"
"""In ``sock_dir``; it is made once, by whichever process of its owner comes first."""

_SIGN = "#"
_KEY_CHARACTERS = 40
"""Of a CURVE key in Z85 (ZeroMQ RFC 32)."""


@dataclass(frozen=True, slots=True)
class LocalKey:
    """The key of the servers of one ``sock_dir``, both halves in Z85."""

    public: bytes = field(repr=False)
    secret: bytes = field(repr=False)


def with_key(place: str, sock_dir: str | os.PathLike[str]) -> str:
    """Return the address of a port whose key is in ``sock_dir``.

    >>> with_key("tcp://127.0.0.1:4512", "/run/reactor")
    'tcp://127.0.0.1:4512#/run/reactor/local.key'
    """
    return f"{place}{_SIGN}{Path(sock_dir).absolute() / FILE_NAME}"


def split(address: str) -> tuple[str, Path | None]:
    """Return what ZeroMQ takes of an address, and the file of its key if it needs one.

    >>> split("ipc:///run/reactor/x#1.ipc")
    ('ipc:///run/reactor/x#1.ipc', None)
    """
    if not address.startswith("tcp://"):
        return address, None
    place, _, path = address.partition(_SIGN)
    return place, Path(path) if path else None


def load(path: Path) -> LocalKey | None:
    """Return the key in a file, or None if there is none that this user can reach.

    Raises:
        BusError: others can read the file, it belongs to somebody else, or it holds no key.
    """
    try:
        with path.open("rb") as file:
            _check(path, os.fstat(file.fileno()))
            lines = file.read(4 * _KEY_CHARACTERS).split()
    except OSError:
        return None
    if [len(line) for line in lines] != [_KEY_CHARACTERS] * 2:
        raise BusError(f"{path} holds no key: remove it and start again what uses it")
    return LocalKey(*lines)


def _check(path: Path, status: os.stat_result) -> None:
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise BusError(
            f"others can read the key {path} (mode {stat.S_IMODE(status.st_mode):o}): "
            "remove it and start again what uses it"
        )
    if os.geteuid() not in (0, status.st_uid):
        raise BusError(
            f"the key {path} belongs to the user {status.st_uid}, this runs as {os.geteuid()}: "
            "run it as that user, or choose another sock_dir"
        )


def load_or_create(path: Path) -> LocalKey | None:
    """Return the key in a file, made if it is missing; None if this user cannot make one there.

    Raises:
        BusError: as `load`.
    """
    found = load(path)
    if found is None and _is_ours(path.parent):
        with contextlib.suppress(OSError):
            _create(path)
        found = load(path)
    return found


def _is_ours(directory: Path) -> bool:
    """Nobody makes a key in another one's directory, not even root: its owner could not read it."""
    try:
        return directory.stat().st_uid == os.geteuid()
    except OSError:
        return False


def _create(path: Path) -> None:
    """Put a new key there, unless another process was faster: a link never replaces a file."""
    key = generate()
    draft = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    try:
        with open(draft, "xb", opener=_private) as file:
            file.write(key.public + b"\n" + key.secret + b"\n")
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def generate() -> LocalKey:
    """Return a new key."""
    import zmq  # a supervisor, which only splits addresses, needs none

    return LocalKey(*zmq.curve_keypair())
