"""`Opts`: the options of a master or a minion, as an immutable mapping."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bus.config import settings


def freeze(value: Any) -> Any:
    """Return ``value`` with its mappings and lists, at every depth, made read-only."""
    if isinstance(value, Mapping):
        return MappingProxyType({key: freeze(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return tuple(freeze(item) for item in value)
    return value


def thaw(value: Any) -> Any:
    """Return a copy of ``value`` in plain dicts and lists, as JSON and msgpack take them."""
    if isinstance(value, Mapping):
        return {key: thaw(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [thaw(item) for item in value]
    return value


class Opts(Mapping[str, Any]):
    """The options of one role, each present; nothing in it can be changed.

    Beside the options it has Salt's keys ``conf_file`` and ``config_dir``.

    Attributes:
        role: ``master`` or ``minion``.
        conf_dir: the configuration directory.
        conf_file: its main file, whether it exists or not.
        files: the files that were read, in their order.
    """

    __slots__ = ("_values", "conf_dir", "conf_file", "files", "role")

    role: str
    conf_dir: Path
    conf_file: Path
    files: tuple[Path, ...]

    def __init__(
        self,
        values: Mapping[str, Any],
        *,
        role: str,
        conf_dir: Path,
        conf_file: Path,
        files: tuple[Path, ...] = (),
    ) -> None:
        places = {"conf_file": str(conf_file), "config_dir": str(conf_dir)}
        self._set("_values", freeze({**values, **places}))
        self._set("role", role)
        self._set("conf_dir", conf_dir)
        self._set("conf_file", conf_file)
        self._set("files", files)

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"options cannot be changed: use with_({name}=...)")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"options cannot be changed: {name} stays")

    def __getitem__(self, name: str) -> Any:
        values: Mapping[str, Any] = object.__getattribute__(self, "_values")
        return values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(object.__getattribute__(self, "_values"))

    def __len__(self) -> int:
        return len(object.__getattribute__(self, "_values"))

    def __repr__(self) -> str:
        return f"<Opts of the {self.role} in {self.conf_dir}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.plain(), self.role, self.conf_dir, self.conf_file, self.files)

    def plain(self) -> dict[str, Any]:
        """Return a copy in plain dicts and lists, as JSON and msgpack take them."""
        copy: dict[str, Any] = thaw(self)
        return copy

    def with_(self, **changes: Any) -> Opts:
        """Return a copy with some options changed; relative paths are as in the file.

        Raises:
            ConfigError: an unknown option, or a value that it does not take.
        """
        values = {**self, **settings.check(self.role, changes, str(self.conf_dir))}
        settings.check_together(self.role, values)
        return Opts(
            values,
            role=self.role,
            conf_dir=self.conf_dir,
            conf_file=self.conf_file,
            files=self.files,
        )


def _rebuild(
    values: dict[str, Any], role: str, conf_dir: Path, conf_file: Path, files: tuple[Path, ...]
) -> Opts:
    return Opts(values, role=role, conf_dir=conf_dir, conf_file=conf_file, files=files)
