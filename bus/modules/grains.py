"""Reads the host's grains, and sets those that are its own."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from bus import endpoints, rpc
from bus.errors import BusError
from bus.loader import facts
from bus.modules import _atomic
from bus.modules._errors import ExecutionError, InvocationError

__opts__: Mapping[str, Any]
__grains__: Mapping[str, Any]

_PRIVATE = 0o600  # a grain may be a secret: who wants it otherwise changes the file's mode
_NOTHING = object()
_SECONDS = 5.0


def items() -> dict[str, Any]:
    """Return all grains.

    CLI example: ``reactor cmd web1 grains.items``
    """
    return dict(__grains__)


def item(*keys: str) -> dict[str, Any]:
    """Return the grains of these names; ``a:b`` looks within ``a``.

    CLI example: ``reactor cmd web1 grains.item os osrelease``
    """
    found = ((str(key), _look_up(str(key), ":")) for key in keys)
    return {key: value for key, value in found if value is not _NOTHING}


def get(key: str, default: Any = "", delimiter: str = ":") -> Any:
    """Return one grain, or ``default`` if it is not there; ``a:b`` looks within ``a``.

    CLI example: ``reactor cmd web1 grains.get ip_interfaces:eth0``
    """
    value = _look_up(str(key), delimiter)
    return default if value is _NOTHING else value


def ls() -> list[str]:
    """Return the names of all grains.

    CLI example: ``reactor cmd web1 grains.ls``
    """
    return sorted(__grains__)


def has_value(key: str) -> bool:
    """Say whether a grain is there and not empty.

    CLI example: ``reactor cmd web1 grains.has_value roles``
    """
    return bool(get(key, None))


def setval(key: str, val: Any) -> dict[str, Any]:
    """Set a grain of this host, for good.

    The minion loads its grains anew and tells the master, so targets by the new grain mean it
    a moment later.

    CLI example: ``reactor cmd web1 grains.setval roles '[web, db]'``
    """
    _change({_checked(key): val})
    return {str(key): val}


def setvals(grains: Mapping[str, Any]) -> dict[str, Any]:
    """Set several grains at once, as ``grains.setval`` does.

    CLI example: ``reactor cmd web1 grains.setvals '{"rack": 4, "role": "web"}'``
    """
    if not isinstance(grains, Mapping):
        raise InvocationError("grains.setvals takes a dict, such as '{rack: 4}'")
    _change({_checked(key): value for key, value in grains.items()})
    return dict(grains)


def append(key: str, val: Any, convert: bool = False) -> dict[str, Any]:
    """Add a value to a grain that is a list; ``convert`` makes one of what is there.

    CLI example: ``reactor cmd web1 grains.append roles web``
    """
    old = get(key, [])
    if not isinstance(old, list) and not convert:
        raise ExecutionError(f"the grain {key!r} is no list: convert=True makes it one")
    values = list(old) if isinstance(old, list) else [old]
    return setval(key, values if val in values else [*values, val])


def delval(key: str, destructive: bool = False) -> dict[str, Any]:
    """Take the value of a grain of this host's own away; ``destructive`` takes its name too.

    CLI example: ``reactor cmd web1 grains.delval roles``
    """
    if not destructive:
        return setval(key, None)
    _change({}, without=_checked(key))
    return {}


def delkey(key: str) -> dict[str, Any]:
    """Take a grain of this host's own away.

    CLI example: ``reactor cmd web1 grains.delkey roles``
    """
    return delval(key, destructive=True)


def _look_up(key: str, delimiter: str) -> Any:
    """Return what the path leads to; a name that holds the delimiter itself goes first."""
    if key in __grains__:
        return __grains__[key]
    value: Any = __grains__
    for part in key.split(delimiter):
        value = _step(value, part)
    return value


def _step(value: Any, part: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(part, _NOTHING)
    if isinstance(value, list) and part.isdigit() and int(part) < len(value):
        return value[int(part)]
    return _NOTHING


def _checked(key: str) -> str:
    if not isinstance(key, str) or not key or ":" in key:
        raise InvocationError(f"{key!r} is no name for a grain: write one without ':'")
    return key


def _change(changes: Mapping[str, Any], without: str = "") -> None:
    """Change the file, what this process has loaded of it, and what the minion has."""
    path = _file()
    old = facts.read_grains_file(path)
    new = {**{key: value for key, value in old.items() if key != without}, **changes}
    _save(path, new)
    if new != old:
        with contextlib.suppress(BusError):  # no minion runs here: it reads them when it starts
            rpc.call(endpoints.minion_pull(__opts__), "grains.refresh", {}, timeout=_SECONDS)
    if isinstance(__grains__, dict):
        __grains__.pop(without, None)
        __grains__.update(changes)


def _file() -> Path:
    path = facts.grains_file(__opts__)
    if path is None:
        raise ExecutionError("these options have no configuration directory to keep grains in")
    return path


def _save(path: Path, grains: Mapping[str, Any]) -> None:
    try:
        text = yaml.safe_dump(dict(grains), default_flow_style=False, allow_unicode=True)
        _atomic.write(path, text.encode(), _PRIVATE)
    except yaml.YAMLError as error:
        raise InvocationError(f"a grain must be plain data: {error}") from error
    except OSError as error:
        raise ExecutionError(f"{path}: the grains cannot be kept: {error.strerror}") from error
