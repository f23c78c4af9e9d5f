"""Functions of templates that are loaded when the first of them is asked for."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from reactor.rules.model import Functions


class Deferred(Mapping[str, Callable[..., Any]]):
    """Functions that are loaded when a template first asks for one."""

    def __init__(self, load: Callable[[], Functions]) -> None:
        self._functions = functools.cache(load)

    def __getitem__(self, name: str) -> Callable[..., Any]:
        return self._functions()[name]

    def __contains__(self, name: object) -> bool:
        return name in self._functions()

    def __iter__(self) -> Iterator[str]:
        return iter(self._functions())

    def __len__(self) -> int:
        return len(self._functions())
