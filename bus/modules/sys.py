"""Says what functions there are and how they are called."""

from __future__ import annotations

import fnmatch
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

__salt__: Mapping[str, Callable[..., Any]]


def doc(*names: str) -> dict[str, str]:
    """Return the documentation of functions, of whole modules, or of what globs match.

    CLI example: ``reactor cmd web1 sys.doc test.ping``
    """
    return {name: inspect.getdoc(__salt__[name]) or "" for name in _selected(names)}


def list_functions(*globs: str) -> list[str]:
    """Return the names of all functions, of those of a module, or of those that globs match.

    CLI example: ``reactor cmd web1 sys.list_functions 'file.*'``
    """
    return _selected(globs)


def list_modules(*globs: str) -> list[str]:
    """Return the names of the modules that have functions.

    CLI example: ``reactor cmd web1 sys.list_modules 's*'``
    """
    modules = {name.partition(".")[0] for name in __salt__}
    return sorted(module for module in modules if not globs or _matches(module, globs))


def argspec(*names: str) -> dict[str, dict[str, Any]]:
    """Return the arguments that functions take: args, defaults, varargs, kwargs.

    CLI example: ``reactor cmd web1 sys.argspec test.sleep``
    """
    return {name: _argspec(__salt__[name]) for name in _selected(names)}


def reload_modules() -> bool:
    """Load all functions anew.

    CLI example: ``reactor cmd web1 sys.reload_modules``
    """
    return bool(__salt__["saltutil.refresh_modules"]())


def _selected(globs: Iterable[str]) -> list[str]:
    wanted = [glob if "." in glob else f"{glob}.*" for glob in map(str, globs)]
    return sorted(name for name in __salt__ if not wanted or _matches(name, wanted))


def _matches(name: str, globs: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, glob) for glob in globs)


def _argspec(function: Callable[..., Any]) -> dict[str, Any]:
    kinds = inspect.Parameter
    parameters = list(inspect.signature(function).parameters.values())
    stars = {each.kind: each.name for each in parameters}
    named = [
        each for each in parameters if each.kind not in {kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD}
    ]
    defaults = [each.default for each in named if each.default is not kinds.empty]
    return {
        "args": [each.name for each in named],
        "defaults": defaults or None,
        "varargs": stars.get(kinds.VAR_POSITIONAL),
        "kwargs": stars.get(kinds.VAR_KEYWORD),
    }
