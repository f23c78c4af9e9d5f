"""Finds and loads the functions that jobs, runners and wheels name, and calls them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bus.loader import facts, sources
from bus.loader.calling import call, function_name, signature_text
from bus.loader.functions import Functions

__all__ = [
    "Functions",
    "call",
    "execution_modules",
    "function_name",
    "grains",
    "runners",
    "signature_text",
    "wheels",
]


def execution_modules(
    opts: Mapping[str, Any],
    *,
    grains: Mapping[str, Any],
    context: dict[str, Any] | None = None,
    dirs: Iterable[str | Path] = (),
) -> Functions:
    """Return the execution functions.

    Args:
        opts: the options of the process; ``module_dirs`` names directories of the user's own.
        grains: the host's grains, which functions see as ``__grains__``.
        context: what functions keep from call to call, as ``__context__``.
        dirs: directories of synced modules (``_modules``); the last of all wins.
    """
    custom = [*_option_dirs(opts, "module_dirs"), *dirs]
    return _functions("modules", opts, custom, grains, context)


def runners(opts: Mapping[str, Any], *, context: dict[str, Any] | None = None) -> Functions:
    """Return the runner functions, those of the option ``runner_dirs`` included."""
    return _functions("runners", opts, _option_dirs(opts, "runner_dirs"), {}, context)


def wheels(opts: Mapping[str, Any], *, context: dict[str, Any] | None = None) -> Functions:
    """Return the wheel functions."""
    return _functions("wheel", opts, (), {}, context)


def grains(opts: Mapping[str, Any], dirs: Iterable[str | Path] = ()) -> dict[str, Any]:
    """Return all grains of this host.

    Args:
        opts: the options of the process.
        dirs: directories of custom grain modules (``_grains``).
    """
    return facts.collect(opts, dirs)


def _option_dirs(opts: Mapping[str, Any], option: str) -> list[str]:
    return list(opts.get(option) or ())


def _functions(
    kind: str,
    opts: Mapping[str, Any],
    custom: Iterable[str | Path],
    grains: Mapping[str, Any],
    context: dict[str, Any] | None,
) -> Functions:
    dunders = {
        "__opts__": opts,
        "__grains__": grains,
        "__context__": {} if context is None else context,
    }
    return Functions(sources.find(sources.package_dir(kind), custom), kind, dunders)
