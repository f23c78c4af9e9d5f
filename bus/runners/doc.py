"""Says what functions there are to run here, and what they are for."""

from __future__ import annotations

import fnmatch
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from bus import loader

__opts__: Mapping[str, Any]
__salt__: Mapping[str, Callable[..., Any]]


def runner(*names: str) -> dict[str, str]:
    """Return the documentation of runner functions, of whole modules, or of what globs match.

    CLI example: ``reactor run doc.runner jobs``
    """
    return _documented(__salt__, names)


def wheel(*names: str) -> dict[str, str]:
    """Return the same of wheel functions.

    CLI example: ``reactor run doc.wheel key.accept``
    """
    return _documented(loader.wheels(__opts__), names)


def execution(*names: str) -> dict[str, str]:
    """Return the same of the execution functions of this host; minions may have others.

    CLI example: ``reactor run doc.execution 'service.*'``
    """
    return _documented(loader.execution_modules(__opts__, grains={}), names)


def _documented(
    functions: Mapping[str, Callable[..., Any]], names: tuple[str, ...]
) -> dict[str, str]:
    wanted = [name if "." in name else f"{name}.*" for name in map(str, names)]
    return {
        name: inspect.getdoc(functions[name]) or ""
        for name in sorted(functions)
        if not wanted or any(fnmatch.fnmatchcase(name, glob) for glob in wanted)
    }
