"""Which masters a minion may speak to, and by which key it knows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bus.errors import ConfigError, KeyStateError
from bus.keys import (
    check_public,
    fingerprint,
    key_from_fingerprint,
    read_public,
    sync_folder,
    write_beside,
    write_public,
)

PINNED = "minion_master.pub"

CHAIN = "minion_master.keys"
"""The master's keys, each vouched for by the one before it, a line each."""

MAX_CHAIN = 32


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
    """The keys by which this minion knows its master.

    A master that takes a new key tells so over connections that were made with the old one. The
    new key is then tried when the old one is not proved any more, and pinned when it is.

    Several masters for fail-over share one key pair, as they are one master to their minions.

    Args:
        pki_dir: where the pinned key is.
        finger: the option ``master_finger``; empty to trust the first key that answers.

    Raises:
        KeyStateError: ``finger`` is no fingerprint.
    """

    def __init__(self, pki_dir: str | Path, finger: str) -> None:
        self._path = Path(pki_dir) / PINNED
        self._chain_path = Path(pki_dir) / CHAIN
        self._wanted = key_from_fingerprint(finger) if finger else None

    @property
    def path(self) -> Path:
        """The file with the pinned key."""
        return self._path

    def keys(self) -> list[bytes]:
        """Return the master's keys in Z85, in the order in which to try them.

        Returns:
            The one that was proved last, then those that it has vouched for, the newest first;
            none if the key has to be asked for.

        Raises:
            KeyStateError: the pinned key is not that of ``master_finger``, nor is one of the two
                the successor of the other.
            ConfigError: a file holds no key.
        """
        pinned, chain = read_public(self._path), self._chain()
        base = pinned or self._wanted
        if base is None:
            return []
        later = chain[chain.index(base) + 1 :] if base in chain else []
        if self._wanted is None or self._wanted == base:
            return [base, *reversed(later)]
        if self._wanted in later:
            # Whoever sets a successor's fingerprint has done with the keys before it.
            return [self._wanted, *reversed(later[later.index(self._wanted) + 1 :])]
        if self._wanted in chain and base in chain:
            return [base, *reversed(later)]
        raise KeyStateError(
            f"the master's key pinned in {self._path} has the fingerprint "
            f"{fingerprint(base)}, and master_finger is another: remove the file "
            "if master_finger is right"
        )

    def _chain(self) -> list[bytes]:
        try:
            return [check_public(key) for key in self._chain_path.read_bytes().split()]
        except FileNotFoundError:
            return []
        except (OSError, KeyStateError) as error:
            raise ConfigError(
                f"no public keys in Z85: {error}; remove the file", str(self._chain_path)
            ) from error

    def hand_over(self, old: bytes, new: Sequence[bytes]) -> None:
        """Note, durably, for which keys the owner of another one vouches.

        Args:
            old: the key, in Z85, that was proved.
            new: the keys after it; what was noted as being after it before is not any more.

        Raises:
            ConfigError: the file cannot be read or written.
        """
        chain = self._chain()
        past = chain[: chain.index(old) + 1] if old in chain else [old]
        after = past + [key for key in new if key not in past]
        kept = after[-MAX_CHAIN:]
        if self._wanted in after and self._wanted not in kept:
            kept = [self._wanted, *kept[1:]]
        if kept == chain:
            return
        try:
            path = self._chain_path
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_beside(path, b"\n".join(kept) + b"\n", 0o644).replace(path)
            sync_folder(path.parent)
        except OSError as error:
            raise ConfigError(
                f"cannot keep the master's next key: {error.strerror}", str(self._chain_path)
            ) from error

    @property
    def advice(self) -> str:
        """What to do if a master does not prove the key that is expected."""
        if self._wanted:
            return (
                "compare the option master_finger with 'reactor key finger' on the master; if it "
                f"has a new key, set master_finger to that and remove {self._path}"
            )
        return f"if the key was renewed, remove {self._path} and set master_finger"

    def proved(self, public: bytes) -> bool:
        """Begin with this key from now on, if it is a successor; return whether it is.

        Raises:
            KeyStateError: as for `keys`.
            ConfigError: a file cannot be read or written.
        """
        if self.keys()[:1] == [public]:
            return False
        self.pin(public)
        return True

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
