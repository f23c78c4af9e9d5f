"""Collects a host's grains: the shipped ones, custom modules, the grains file, the options."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bus import yamlfile
from bus.config.opts import thaw
from bus.errors import BusError, ConfigError
from bus.loader import sources
from bus.loader.functions import Functions
from bus.loader.module import Function

_LOG = logging.getLogger(__name__)

Grains = dict[str, Any]


def grains_file(opts: Mapping[str, Any]) -> Path | None:
    """Return where a host's own grains are kept, if the options know their directory."""
    directory = opts.get("config_dir")
    return Path(directory) / "grains" if directory else None


def read_grains_file(path: Path) -> Grains:
    """Return the grains that a file sets; none if there is no file.

    Raises:
        ConfigError: it cannot be read, or holds no mapping.
        YamlError: it is no YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the grains file cannot be read: {error}", str(path)) from error
    value, _ = yamlfile.load(text, str(path))
    if value is not None and not isinstance(value, dict):
        raise ConfigError("the grains file holds no mapping: write 'name: value'", str(path), 1)
    return value or {}


def collect(opts: Mapping[str, Any], dirs: Iterable[str | Path] = ()) -> Grains:
    """Return all grains of this host; what cannot be had is logged and left out.

    The later of these wins: the shipped grains, those of custom modules, the file ``grains``
    in the configuration directory, the option ``grains``.

    Args:
        opts: the options of the process.
        dirs: directories of custom grain modules (``_grains``).
    """
    functions = Functions(
        sources.find(sources.package_dir("grains"), dirs), "grains", {"__opts__": opts}
    )
    found: Grains = {}
    for name in list(functions):
        found.update(_ask(name, functions[name], found))
    for module, problem in functions.failures().items():
        _LOG.error("grains of %r left out: %s", module, problem)
    return {**found, **_own_file(opts), **_from_options(opts)}


def _ask(name: str, function: Function, found: Grains) -> Grains:
    """Call one grain function; those with a parameter ``grains`` see what was found so far."""
    wanted = "grains" in inspect.signature(function).parameters
    try:
        answer = function(grains=dict(found)) if wanted else function()
    except Exception as error:
        # A custom fact about a host must not keep the host's minion from starting.
        _LOG.error("the grain function %s failed: %s: %s", name, type(error).__name__, error)
        return {}
    if isinstance(answer, dict):
        return answer
    if answer is not None:
        _LOG.error("the grain function %s returned no dict: left out", name)
    return {}


def _own_file(opts: Mapping[str, Any]) -> Grains:
    path = grains_file(opts)
    try:
        return read_grains_file(path) if path else {}
    except BusError as error:
        _LOG.error("%s: left out", error)
        return {}


def _from_options(opts: Mapping[str, Any]) -> Grains:
    own = {"id": opts["id"]} if opts.get("id") else {}
    return {**own, **thaw(opts.get("grains") or {})}
