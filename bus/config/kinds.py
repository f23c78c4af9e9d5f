"""What each kind of option takes, and what becomes of it. One small function a kind."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bus import durations
from bus.config.options import Option, expectation
from bus.errors import BusError

MAX_ID_BYTES = 200
"""A minion's id names its key file; 255 bytes less what may be added is the limit of ext4."""

_ID = re.compile(r"[^\s/\\\x00-\x1f\x7f*?\[\],]+")
_FINGER = re.compile(r"\s*[0-9A-Fa-f]{2}(?::?[0-9A-Fa-f]{2}){31}\s*")
_SCHEME = re.compile(r"[a-z]+://")


class BadValueError(BusError):
    """A value that its option does not take.

    Attributes:
        expected: what it would take.
        inside: keys and indices from the option's value to what is wrong with it.
    """

    def __init__(self, expected: str, *inside: Any) -> None:
        super().__init__(expected)
        self.expected = expected
        self.inside = inside


def read(option: Option, value: Any, base: str) -> Any:
    """Return ``value`` as ``option`` holds it: checked, its paths absolute.

    Args:
        option: the option.
        value: as the file has it.
        base: the directory that relative paths are relative to.

    Raises:
        BadValueError: the wrong type, out of range, or none of the choices.
    """
    return _READERS[option.kind](option, value, base)


def _bool(option: Option, value: Any, _base: str) -> bool:
    if not isinstance(value, bool):
        raise BadValueError(expectation(option))
    return value


def _int(option: Option, value: Any, _base: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadValueError(expectation(option))
    _check_range(option, value)
    return value


def _float(option: Option, value: Any, _base: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise BadValueError(expectation(option))
    _check_range(option, value)
    return value


def _check_range(option: Option, value: float) -> None:
    low = -float("inf") if option.minimum is None else option.minimum
    high = 1e15 if option.maximum is None else option.maximum
    if not low <= value <= high:  # so written, it refuses NaN too
        raise BadValueError(expectation(option))


def _text(option: Option, value: Any, _base: str) -> str:
    if not isinstance(value, str) or (option.choices and value not in option.choices):
        raise BadValueError(expectation(option))
    return value


def _texts(option: Option, value: Any, _base: str) -> str | tuple[str, ...]:
    if isinstance(value, str) and value:
        return value
    if not isinstance(value, list | tuple) or not value:
        raise BadValueError(expectation(option))
    for index, item in enumerate(value):
        if not isinstance(item, str) or not item:
            raise BadValueError("text", index)
    return tuple(value)


def _duration(option: Option, value: Any, _base: str) -> str:
    try:
        durations.seconds(value)
    except durations.DurationError as error:
        raise BadValueError(expectation(option)) from error
    return str(value)


def _id(option: Option, value: Any, _base: str) -> str:
    fits = isinstance(value, str) and _ID.fullmatch(value) and not value.startswith(".")
    if not fits or len(os.fsencode(value)) > MAX_ID_BYTES:
        raise BadValueError(expectation(option))
    return str(value)


def _path(option: Option, value: Any, base: str) -> str:
    if value == "" and option.default == "":
        return ""
    return _absolute(value, base)


def _absolute(value: Any, base: str, *inside: Any) -> str:
    value = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(value, str) or not value or "\0" in value:
        raise BadValueError("a path", *inside)
    # pathlib would keep `..`, and raises for a `~name` that is nobody's.
    return os.path.normpath(Path(base, os.path.expanduser(value)))  # noqa: PTH111


def _paths(option: Option, value: Any, base: str) -> tuple[str, ...]:
    if isinstance(value, str | os.PathLike):
        return (_absolute(value, base),)
    if not isinstance(value, list | tuple):
        raise BadValueError(expectation(option))
    return tuple(_absolute(item, base, index) for index, item in enumerate(value))


def _roots(option: Option, value: Any, base: str) -> dict[str, tuple[str, ...]]:
    return {
        name: _nested(_paths, option, paths, base, name)
        for name, paths in _mapping(option, value, base).items()
    }


def _mapping(option: Option, value: Any, _base: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise BadValueError(expectation(option))
    for key in value:
        if not isinstance(key, str):
            raise BadValueError("a key that is text (in quotes)", key)
    return value


def _list(option: Option, value: Any, _base: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise BadValueError(expectation(option))
    return tuple(value)


def _reactor(option: Option, value: Any, base: str) -> tuple[dict[str, Any], ...]:
    entries = _list(option, value, base)
    return tuple(_reactor_entry(option, entry, base, at) for at, entry in enumerate(entries))


def _reactor_entry(option: Option, entry: Any, base: str, at: int) -> dict[str, Any]:
    if not isinstance(entry, Mapping) or len(entry) != 1:
        raise BadValueError("one 'tag glob': path or list of paths", at)
    ((tag, files),) = _nested(_mapping, option, entry, base, at).items()
    if isinstance(files, list | tuple):
        return {tag: tuple(_source(item, base, at, tag, n) for n, item in enumerate(files))}
    return {tag: _source(files, base, at, tag)}


def _source(value: Any, base: str, *inside: Any) -> str:
    """A path, or a `salt://` address, which is looked up in file_roots later."""
    if isinstance(value, str) and _SCHEME.match(value):
        return value
    return _absolute(value, base, *inside)


def _nested(reader: _Reader, option: Option, value: Any, base: str, key: Any) -> Any:
    """Read a part of a value; an error within it knows the way from the whole."""
    try:
        return reader(option, value, base)
    except BadValueError as error:
        whole = reader is _paths and not error.inside
        expected = "a path or a list of paths" if whole else error.expected
        raise BadValueError(expected, key, *error.inside) from error


_Reader = Callable[[Option, Any, str], Any]


def _finger(option: Option, value: Any, _base: str) -> str:
    if not isinstance(value, str) or (value and not _FINGER.fullmatch(value)):
        raise BadValueError(expectation(option))
    return value


_READERS: dict[str, _Reader] = {
    "bool": _bool,
    "int": _int,
    "float": _float,
    "text": _text,
    "texts": _texts,
    "duration": _duration,
    "id": _id,
    "finger": _finger,
    "path": _path,
    "paths": _paths,
    "roots": _roots,
    "mapping": _mapping,
    "list": _list,
    "reactor": _reactor,
}
