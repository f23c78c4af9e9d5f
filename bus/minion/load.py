"""Loads what a worker runs: the execution functions and the grains, synced ones included."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, cast

from bus import cliargs, loader
from bus.loader.custom import custom_dirs
from bus.minion.worker import Loaded


def load(opts: Mapping[str, Any], context: MutableMapping[str, Any]) -> Loaded:
    """Load functions and grains.

    Args:
        opts: the minion's options.
        context: what the functions see as ``__context__``.
    """
    grains = loader.grains(opts, custom_dirs(opts, "grains"))
    functions = loader.execution_modules(
        opts,
        grains=grains,
        context=cast("dict[str, Any]", context),
        dirs=custom_dirs(opts, "modules"),
    )

    def call(fun: str, arg: Sequence[Any]) -> Any:
        args, kwargs = cliargs.expand(list(arg))
        return loader.call(functions, fun, args, kwargs)

    def available(fun: str) -> bool:
        return loader.function_name(fun) in functions

    return Loaded(call, available, grains)
