"""Functions by their names, each module loaded when one of its functions is first asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bus.errors import FunctionNotFoundError, LoadError
from bus.loader import nearest
from bus.loader.module import Function, Loaded, load
from bus.loader.sources import Source


class MissingFunctionError(FunctionNotFoundError, KeyError):
    """No such function, for whoever looks it up as in a dict."""

    __str__ = Exception.__str__  # KeyError would show the text in quotes


class Functions(Mapping[str, Function]):
    """``"module.function"`` -> callable. Also ``functions.module.function``, for templates.

    A module file that changed on disk is seen by a new object. Safe to share among threads.
    """

    def __init__(
        self, sources: Iterable[Source], kind: str, dunders: Mapping[str, object] | None = None
    ) -> None:
        """Take module files; nothing is loaded yet.

        Args:
            sources: the files, the most important last.
            kind: what they are loaded as, such as ``modules``.
            dunders: further names for their globals; ``__salt__`` is this object.
        """
        self._sources = tuple(sources)
        self._kind = kind
        self._dunders = {"__salt__": self, **(dunders or {})}
        self._table: dict[str, Source | Loaded] = {}
        self._indexed = False
        self._lock = threading.RLock()  # a module may ask for another while it loads

    def __getitem__(self, name: str) -> Function:
        """Return the function.

        Raises:
            FunctionNotFoundError: there is none of this name (a KeyError too).
            LoadError: its module does not load.
        """
        module, _, function = str(name).partition(".")
        loaded = self._loaded(module)
        if loaded is not None and loaded.problem:
            raise LoadError(f"no function {name!r}, its module does not load: {loaded.problem}")
        if loaded is None or function not in loaded.functions:
            raise MissingFunctionError(nearest.describe(str(name), self._names_near(loaded)))
        return loaded.functions[function]

    def __iter__(self) -> Iterator[str]:
        for module in self.modules():
            loaded = self._loaded(module)
            yield from _full_names(module, loaded)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        module, _, function = str(name).partition(".")
        loaded = self._loaded(module)
        return loaded is not None and function in loaded.functions

    def __getattr__(self, module: str) -> _Module:
        if module.startswith("_") or self._loaded(module) is None:
            raise AttributeError(f"no module {module!r}")
        return _Module(self, module)

    def modules(self) -> list[str]:
        """Return the names of all modules, also of those that do not load."""
        with self._lock:
            self._index()
            return list(self._table)

    def failures(self) -> dict[str, str]:
        """Return what does not load: module name -> file, line and reason. Loads everything."""
        loaded = ((name, self._loaded(name)) for name in self.modules())
        return {name: module.problem for name, module in loaded if module and module.problem}

    def _loaded(self, module: str) -> Loaded | None:
        with self._lock:
            self._index()
            entry = self._table.get(module)
            if isinstance(entry, Source):
                entry = self._table[module] = self._load(entry)
            return entry

    def _load(self, source: Source) -> Loaded:
        return load(source, self._kind, self._dunders)

    def _index(self) -> None:
        """Learn all module names; only files that may rename themselves have to run for it."""
        if self._indexed:
            return
        self._indexed = True
        for source in self._sources:
            self._register(source, self._load(source) if source.may_rename else source)

    def _register(self, source: Source, entry: Source | Loaded) -> None:
        """A later module takes an earlier one's name; one that is of no use takes none."""
        if isinstance(entry, Loaded) and entry.problem:
            self._table.setdefault(source.name, entry)
            self._table.setdefault(entry.name, entry)
        else:
            self._table[entry.name] = entry

    def _names_near(self, loaded: Loaded | None) -> Iterable[str]:
        return _full_names(loaded.name, loaded) if loaded is not None else self


class _Module:
    """The functions of one module as attributes."""

    def __init__(self, functions: Functions, name: str) -> None:
        self._functions = functions
        self._name = name

    def __getattr__(self, function: str) -> Any:
        if function.startswith("_"):
            raise AttributeError(function)
        return self._functions[f"{self._name}.{function}"]


def _full_names(module: str, loaded: Loaded | None) -> list[str]:
    return [f"{module}.{function}" for function in loaded.functions] if loaded else []
