"""Which masters a minion may speak to, and by which key it knows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bus.errors import ConfigError, KeyStateError
from bus.keys import fingerprint, key_from_fingerprint, read_public, write_public

PINNED = "minion_master.pub"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a master listens."""

    host: str
    port: int

    @property
    def name(self) -> str:
        """The address as people write it: ``host:port``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def endpoint(self) -> str:
        """The address as ZeroMQ wants it."""
        return f"tcp://{self.name}"


def parse_masters(value: str | Sequence[str], default_port: int) -> list[Address]:
    """Return the masters that the option ``master`` names, in the order in which to try them.

    Args:
        value: one or several of ``host``, ``host:port``, ``[address]:port`` or an IPv6 address.
        default_port: where no port is given.

    Raises:
        ConfigError: one of them is no address, or there is none.
    """
    names = [value] if isinstance(value, str) else list(value)
    if not names:
        raise ConfigError("the option master is empty: name at least one master")
    return [_parse_master(str(name).strip(), default_port) for name in names]


def _parse_master(name: str, default_port: int) -> Address:
    host, port = name, str(default_port)
    if name.startswith("["):
        host, _, rest = name[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif name.count(":") == 1:
        host, _, port = name.partition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigError(f"the option master: {name!r} is no 'host' or 'host:port'")
    return Address(host, int(port))


class Trust:
    """The key by which this minion knows its master.

    Several masters for fail-over share one key pair, as they are one master to their minions.

    Args:
        pki_dir: where the pinned key is.
        finger: the option ``master_finger``; empty to trust the first key that answers.

    Raises:
        KeyStateError: ``finger`` is no fingerprint.
    """

    def __init__(self, pki_dir: str | Path, finger: str) -> None:
        self._path = Path(pki_dir) / PINNED
        self._wanted = key_from_fingerprint(finger) if finger else None

    @property
    def path(self) -> Path:
        """The file with the pinned key."""
        return self._path

    def key(self) -> bytes | None:
        """Return the master's key in Z85; None if it has to be asked for.

        Raises:
            KeyStateError: the pinned key is not that of ``master_finger``.
            ConfigError: the pinned file holds no key.
        """
        pinned = read_public(self._path)
        if self._wanted and pinned and pinned != self._wanted:
            raise KeyStateError(
                f"the master's key pinned in {self._path} has the fingerprint "
                f"{fingerprint(pinned)}, and master_finger is another: remove the file "
                "if master_finger is right"
            )
        return self._wanted or pinned

    @property
    def advice(self) -> str:
        """What to do if a master does not prove the key that is expected."""
        if self._wanted:
            return "compare the option master_finger with 'reactor key finger' on the master"
        return f"if the key was renewed, remove {self._path} and set master_finger"

    def pin(self, public: bytes) -> None:
        """Remember the key of a master that has proved it.

        Raises:
            ConfigError: the file cannot be written.
        """
        try:
            if read_public(self._path) != public:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_public(self._path, public)
        except OSError as error:
            raise ConfigError(
                f"cannot keep the master's key: {error.strerror}", str(self._path)
            ) from error
