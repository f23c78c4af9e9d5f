"""Prepares the directory of ``reactor up``: configuration, a port of its own, keys that fit."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bus.config import Opts, has_master, has_minion, master_config, minion_config, private_dir
from bus.config.lookup import ENVIRON_NAME, LOCAL_NAME
from bus.config.options import MASTER, options_of
from bus.errors import ConfigError

PORTS = range(20_000, 32_000)
"""Below the ports that Linux gives to outgoing connections, so that none takes it meanwhile."""

_PORT_TRIES = 200

_LOOPBACK = ("127.0.0.1", "localhost", "::1")

LARGE_LOG = 10_000_000
"""Bytes after which the log of ``up`` is put aside at the next start."""

_MASTER = """\
# The master, its bus and its reactor. Every option: docs/reference/options.md

# Where minions connect. 0.0.0.0 lets other hosts in; they also need the port.
interface: 127.0.0.1
ret_port: {port}

# HTTPS: events, webhooks and the page. 0 for none.
http_interface: 127.0.0.1
http_port: {http_port}

# Native rules: files, folders or globs. They are read again as soon as they change.
rules:
  - rules

# Salt's reactor map: tag glob -> reactor files. Uncomment and edit:
# reactor:
#   - 'salt/minion/*/start':
#     - reactors/start.sls
"""

_MINION = """\
# The minion on this host. Every option: docs/reference/options.md

id: {id}
master: 127.0.0.1
master_port: {port}
"""

_NEW_ID = """\
# Written by 'reactor up --id', which named this minion anew.
id: {id}
"""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A directory that master and minion can start from.

    Attributes:
        directory: the configuration directory.
        made: the files that were not there before.
        master: the master's options.
        minion: the minion's options.
    """

    directory: Path
    made: tuple[Path, ...]
    master: Opts
    minion: Opts

    def log_file(self) -> str:
        """Return where this run logs to: the master's ``log_file``, or one in the directory.

        What earlier runs left there is put aside when it has grown large.
        """
        named = str(self.master["log_file"])
        path = private_dir(self.directory / "log") / "up.log"
        if not named and path.exists() and path.stat().st_size > LARGE_LOG:
            path.replace(path.with_suffix(".log.1"))
        return named or str(path)


def default_directory(config: str | None) -> Path:
    """Return where ``up`` and ``init`` work: ``--config``, the variable, or ``./.reactor``."""
    named = config or os.environ.get(ENVIRON_NAME) or LOCAL_NAME
    return Path(os.path.abspath(os.path.expanduser(named)))  # noqa: PTH100, PTH111 - pathlib keeps `..`


def prepare(
    directory: Path, ident: str | None = None, free_port: Callable[[], int] | None = None
) -> Prepared:
    """Make what is missing in ``directory`` and return the options.

    Only when both key pairs are made here, or the local minion is named anew, is its key
    accepted and the master's key pinned without anybody being asked.

    Args:
        directory: made with mode 0700 if it is missing.
        ident: the minion's id; by default the one in its file, or the host's name.
        free_port: chooses a port.

    Raises:
        ConfigError: the directory, a file in it or ``ident`` is refused.
    """
    private_dir(directory)
    made = [*_write_files(directory, ident, free_port or find_free_port)]
    minion = minion_config(directory)
    renamed = ident is not None and minion["id"] != ident
    if renamed:
        made.append(_rename(directory, minion, str(ident)))
        minion = minion_config(directory)
    master = master_config(directory)
    minion = _beside(directory, master, minion)
    introduce(master, minion, renamed=renamed)
    return Prepared(directory, tuple(made), master, minion)


def _write_files(directory: Path, ident: str | None, free_port: Callable[[], int]) -> list[Path]:
    made = []
    if not has_master(directory):
        port = minion_config(directory)["master_port"] if has_minion(directory) else free_port()
        private_dir(directory / "rules")
        made.append(_write(directory / "master", _MASTER.format(port=port, http_port=http_port())))
    if not has_minion(directory):
        port = master_config(directory)["ret_port"]
        made.append(_write(directory / "minion", _MINION.format(id=_checked(ident), port=port)))
    if made and not (directory / ".gitignore").exists():
        # Keys and journals have no place in a repository.
        _write(directory / ".gitignore", "*\n")
    return made


def _checked(ident: str | None) -> str:
    """Return the id as it is written into the file, in quotes, so that ``on`` stays a name."""
    name = ident if ident is not None else host_name()
    minion_config({"id": name})
    return "'" + name.replace("'", "''") + "'"


def host_name() -> str:
    """Return this host's name, or ``minion`` if it has none that can be an id."""
    name = socket.gethostname()
    try:
        return str(minion_config({"id": name})["id"])
    except ConfigError:
        return "minion"


def _rename(directory: Path, minion: Opts, ident: str) -> Path:
    minion.with_(id=ident)  # refuses what can be no id before it is written
    private_dir(directory / "minion.d")
    path = directory / "minion.d" / "zz-id.conf"
    path.unlink(missing_ok=True)
    return _write(path, _NEW_ID.format(id=_checked(ident)))


def _write(path: Path, text: str) -> Path:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"it cannot be written: {error.strerror}", str(path)) from error
    return path


def introduce(master: Opts, minion: Opts, *, renamed: bool = False) -> None:
    """Make the key pairs of a master and its local minion, and let them know each other.

    Where one of the pairs was there before, people have decided about it, and they decide: a key
    that they accepted is still theirs when the minion's id was edited.
    """
    from bus.keys import Keypair, KeyStore, fingerprint
    from bus.link.trust import Trust

    pairs = [Path(master["pki_dir"], "master.pem"), Path(minion["pki_dir"], "minion.pem")]
    ours = renamed or not any(path.exists() for path in pairs)
    for role in (master, minion):
        private_dir(role["pki_dir"])
    master_pair = Keypair.load_or_create(master["pki_dir"], "master")
    minion_pair = Keypair.load_or_create(minion["pki_dir"], "minion")
    if not _is_its_master(master, minion):
        return
    store = KeyStore(master["pki_dir"])
    if ours or fingerprint(minion_pair.public) in store.finger()["minions"].values():
        store.submit(minion["id"], minion_pair.public, auto_accept=True)
    if ours:
        Trust(minion["pki_dir"], str(minion["master_finger"])).pin(master_pair.public)


def _beside(directory: Path, master: Opts, minion: Opts) -> Opts:
    """Return the minion's options for this run, in which it looks for the master beside it.

    Where both files were written here, only the port of the master is ever meant to be edited;
    a minion's file that people wrote means the port that is in it.
    """
    is_ours = _begins_like(directory / "master", _MASTER)
    is_ours = is_ours and _begins_like(directory / "minion", _MINION)
    if is_ours and minion["master"] in _LOOPBACK:
        return minion.with_(master_port=master["ret_port"])
    return minion


def _begins_like(path: Path, template: str) -> bool:
    """Say whether a file begins with the first line of what is written here."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.readline() == template.partition("\n")[0] + "\n"
    except OSError:
        return False


def _is_its_master(master: Opts, minion: Opts) -> bool:
    """Say whether the minion means the master beside it, not one on another host."""
    return minion["master"] in _LOOPBACK and minion["master_port"] == master["ret_port"]


def for_this_run(opts: Opts, rules: Sequence[str], file_roots: Sequence[str]) -> Opts:
    """Return ``opts`` with further rules and directories of files, which are not written down.

    Raises:
        ConfigError: one of them is not there.
    """
    changes = {}
    if rules:
        added = [_existing("--rules", path) for path in rules]
        changes["rules"] = [*dict.fromkeys([*opts["rules"], *added])]
    if file_roots:
        added = [_existing("--file-roots", path) for path in file_roots]
        roots = {name: list(paths) for name, paths in opts["file_roots"].items()}
        roots["base"] = [*dict.fromkeys([*roots.get("base", []), *added])]
        return opts.with_(**changes, file_roots=roots)
    return opts.with_(**changes)


def _existing(option: str, path: str) -> str:
    absolute = Path(path).expanduser().absolute()
    if not absolute.exists() and not set("*?[") & set(path):
        raise ConfigError(f"{option} {path}: there is no such file or directory")
    return str(absolute)


def find_free_port() -> int:
    """Return a port that nobody has on loopback, neither in TCP nor in UDP.

    Raises:
        ConfigError: none was found.
    """
    for _ in range(_PORT_TRIES):
        port = secrets.choice(PORTS)
        if _is_free(port, socket.SOCK_STREAM) and _is_free(port, socket.SOCK_DGRAM):
            return port
    raise ConfigError(
        f"no free port found between {PORTS.start} and {PORTS.stop}: write one as ret_port and "
        "master_port into the files 'master' and 'minion'"
    )


def http_port() -> int:
    """Return the port of HTTP for a new directory: the usual one, or another if that is taken."""
    usual = int(options_of(MASTER)["http_port"].default)
    return usual if _is_free(usual, socket.SOCK_STREAM) else find_free_port()


def _is_free(port: int, kind: socket.SocketKind) -> bool:
    with socket.socket(socket.AF_INET, kind) as sock:
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
