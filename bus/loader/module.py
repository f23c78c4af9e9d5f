"""Executes one module file under a private name and picks its public functions."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import logging
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any

from bus.errors import LoadError
from bus.loader.sources import Source

_LOG = logging.getLogger(__name__)

Function = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A module that has run.

    Attributes:
        name: what its functions are called by, in front of the dot.
        functions: the public ones by name.
        problem: why it has none, or an empty string.
    """

    name: str
    functions: Mapping[str, Function] = field(default_factory=dict)
    problem: str = ""


class _FreshLoader(SourceFileLoader):
    """Compiles from the source each time.

    Byte code is told stale by a time in whole seconds, so a module that is synced twice within
    one second would run in its old form; and nothing is written into a user's directory.
    """

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def load(source: Source, kind: str, dunders: Mapping[str, object]) -> Loaded:
    """Execute a module file; whatever it does wrong becomes the result's ``problem``.

    Args:
        source: the file.
        kind: what it is loaded as (``modules``, ``runners``, ...): part of its private name.
        dunders: names that its globals have before it runs, such as ``__salt__``.
    """
    try:
        module = _execute(source, kind, dunders)
        name = _virtual_name(module, source)
        functions = _public_functions(module)
    # The code is somebody else's and this is its boundary: it must not take others with it.
    except (Exception, SystemExit) as error:
        problem = str(error) if isinstance(error, LoadError) else _describe(error, source)
        _LOG.debug("module not loaded: %s", problem)
        return Loaded(_declared_name(source, kind), problem=problem)
    return Loaded(name, functions)


def _private_name(source: Source, kind: str) -> str:
    place = hashlib.sha256(str(source.path).encode()).hexdigest()[:12]
    return f"_loaded_{kind}_{source.name}_{place}"


def _execute(source: Source, kind: str, dunders: Mapping[str, object]) -> ModuleType:
    name = _private_name(source, kind)
    _forget(name)
    spec = _spec(name, source)
    module = importlib.util.module_from_spec(spec)
    vars(module).update(dunders)
    # Dataclasses and a package's relative imports look their own module up by its name.
    sys.modules[name] = module
    assert spec.loader is not None
    spec.loader.exec_module(module)
    return module


def _forget(name: str) -> None:
    """Drop what an earlier load left, so that a changed package is read as a whole."""
    for old in [known for known in sys.modules if known == name or known.startswith(name + ".")]:
        del sys.modules[old]


def _spec(name: str, source: Source) -> ModuleSpec:
    maker = SourceFileLoader if source.shipped else _FreshLoader
    path = str(source.path)
    spec = importlib.util.spec_from_file_location(
        name,
        path,
        loader=maker(name, path),
        submodule_search_locations=[str(source.path.parent)] if source.is_package else None,
    )
    assert spec is not None  # a loader was given, so there is a spec
    return spec


def _virtual_name(module: ModuleType, source: Source) -> str:
    """Return what the module wants to be called.

    Raises:
        LoadError: its ``__virtual__`` refused.
    """
    declared = str(getattr(module, "__virtualname__", source.name))
    check = getattr(module, "__virtual__", None)
    if check is None:
        return declared
    answer = check()
    verdict, reason = answer if isinstance(answer, tuple) else (answer, "")
    if not verdict:
        why = str(reason) or "it gives no reason"
        raise LoadError(f"{source.path}:{_line_of(check)}: its __virtual__() refused: {why}")
    return verdict if isinstance(verdict, str) else declared


def _line_of(function: Function) -> int:
    code = getattr(function, "__code__", None)
    return code.co_firstlineno if isinstance(code, CodeType) else 1


def _declared_name(source: Source, kind: str) -> str:
    """Return the name under which a module that did not load is missed."""
    module = sys.modules.get(_private_name(source, kind))
    return str(getattr(module, "__virtualname__", source.name))


def _public_functions(module: ModuleType) -> dict[str, Function]:
    """Return the functions that the module itself defines, under their aliases."""
    aliases: Mapping[str, str] = getattr(module, "__func_alias__", {})
    return {
        aliases.get(name, name): value
        for name, value in vars(module).items()
        if not name.startswith("_")
        and inspect.isfunction(value)
        and value.__module__ == module.__name__
    }


def _describe(error: BaseException, source: Source) -> str:
    text = " ".join(str(error).split()) or "no text"
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno or 1}: {error.msg}"
    return f"{source.path}:{_error_line(error, source)}: {type(error).__name__}: {text}"


def _error_line(error: BaseException, source: Source) -> int:
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(source.path)]
    return (lines[-1] if lines else None) or 1
