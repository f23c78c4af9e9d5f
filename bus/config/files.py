"""Reads the files of a configuration directory and joins them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bus.config import places, settings
from bus.config.lookup import ENVIRON_NAME, find_config_dir
from bus.config.options import options_of
from bus.config.opts import Opts
from bus.errors import ConfigError

Source = str | os.PathLike[str] | Mapping[str, Any] | None

_FILE_SUFFIXES = (".conf", ".yaml", ".yml")


def load(
    role: str,
    source: Source,
    *,
    environ: Mapping[str, str],
    cwd: str | os.PathLike[str],
    uid: int,
    forgive: settings.Forgive | None = None,
) -> Opts:
    """Return the options of ``role``.

    Args:
        role: ``master`` or ``minion``.
        source: a file, a directory, options in place of the files, or ``None`` to look.
        environ: the environment variables.
        cwd: the working directory.
        uid: the caller's user id.
        forgive: told of errors in settings that a client can do without.

    Raises:
        ConfigError: a directory that was named is missing, or a file or option is refused.
    """
    given = source if isinstance(source, Mapping) else None
    if given is None:
        reading = _Reading(role, _locate(role, source, environ, cwd, uid), forgive)
        reading.read_files()
    else:
        found = find_config_dir(environ=environ, cwd=cwd, uid=uid)
        reading = _Reading(role, _place_of(role, given, found))
        reading.take(given)
    return reading.finish(environ, uid)


def _place_of(role: str, given: Mapping[str, Any], found: Path) -> Path:
    """Options that came from `Opts` still know their place."""
    if given.get("conf_file"):
        return Path(given["conf_file"]).absolute()
    return Path(given.get("config_dir") or found).absolute() / role


def _locate(
    role: str, path: Any, environ: Mapping[str, str], cwd: str | os.PathLike[str], uid: int
) -> Path:
    """Return the main file, which need not exist; its directory is the configuration's."""
    place = find_config_dir(path, environ=environ, cwd=cwd, uid=uid)
    named = path or environ.get(ENVIRON_NAME)
    if not named or place.is_dir():
        return place / role
    looks_like_file = place.name == role or place.suffix in _FILE_SUFFIXES
    if os.path.lexists(place) or (looks_like_file and place.parent.is_dir()):
        return place
    missing = place.parent if looks_like_file else place
    raise ConfigError(
        f"there is no configuration directory {missing}: create it with "
        f"'reactor init --config {missing}', or name another"
    )


class _Reading:
    """Settings as they are gathered from file after file, and where each one stands."""

    def __init__(self, role: str, conf_file: Path, forgive: settings.Forgive | None = None) -> None:
        self._forgive = forgive
        self._role = role
        self._conf_file = conf_file
        self._conf_dir = conf_file.parent
        self._values: dict[str, Any] = {}
        self._where: dict[str, tuple[str, int]] = {}
        self._files: list[Path] = []

    def read_files(self) -> None:
        """Read the main file and its neighbours in ``<role>.d``, in the order of their names."""
        for path in config_files(self._conf_file, self._role):
            self._read(path)

    def take(self, given: Mapping[str, Any]) -> None:
        """Take settings from a program."""
        options = {
            name: value for name, value in given.items() if name not in ("conf_file", "config_dir")
        }
        self._values = settings.check(self._role, options, str(self._conf_dir))

    def finish(self, environ: Mapping[str, str], uid: int) -> Opts:
        """Lay what was gathered over the defaults."""
        defaults = places.defaults(self._role, self._conf_dir, environ, uid)
        values = {**defaults, **self._values}
        settings.check_together(self._role, values, self._find)
        return Opts(
            values,
            role=self._role,
            conf_dir=self._conf_dir,
            conf_file=self._conf_file,
            files=tuple(self._files),
        )

    def _read(self, path: Path) -> None:
        text = _read_text(path)
        self._files.append(path)
        if not _says_something(text):
            return
        raw, lines = _parse(text, path)

        def place(*keys: Any) -> tuple[str, int]:
            return str(path), lines.at(keys)

        checked = settings.check(self._role, raw, str(self._conf_dir), place, self._forgive)
        for name, value in checked.items():
            self._join(name, value)
            self._where[name] = place(name)

    def _join(self, name: str, value: Any) -> None:
        if options_of(self._role)[name].joined:
            value = (*self._values.get(name, ()), *value)
        self._values[name] = value

    def _find(self, name: str) -> tuple[str, int]:
        return self._where.get(name, ("", 0))


def config_files(conf_file: Path, role: str) -> list[Path]:
    """Return the files that exist of a configuration, in the order in which they are read."""
    neighbours = conf_file.parent / f"{role}.d"
    main = [conf_file] if os.path.lexists(conf_file) else []
    return main + sorted(neighbours.glob("*.conf"))


def _read_text(path: Path) -> str:
    if path.exists() and not path.is_file():
        raise ConfigError("it is not a regular file: move it away", str(path))
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"it cannot be read ({error.strerror}): run this as a user who may read it",
            str(path),
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError("it is not UTF-8 text: save it as UTF-8", str(path)) from error


def _says_something(text: str) -> bool:
    """Without a line beside comments, there is no need to load YAML."""
    return any(line.strip() and not line.lstrip().startswith("#") for line in text.splitlines())


def _parse(text: str, path: Path) -> tuple[Mapping[Any, Any], Any]:
    from bus import yamlfile  # loading YAML takes as long as firing an event

    try:
        raw, lines = yamlfile.load(text, str(path))
    except yamlfile.YamlError as error:
        raise ConfigError(error.problem, str(path), error.line) from error
    if raw is None:
        raw = {}
    if not isinstance(raw, Mapping):
        raise ConfigError("a configuration is a mapping (option: value)", str(path), lines.at())
    return raw, lines
