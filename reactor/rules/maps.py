"""Reads Salt's ``reactor:`` map: a list of one-key mappings, tag glob -> path or paths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from reactor.errors import RuleError
from reactor.rules.loadstate import MapEntry, NamedPath
from reactor.rules.model import Source

PlaceOf = Callable[[tuple[Any, ...]], Source]
"""Says where a part of a map stands, by its path within the list."""


def read_map(value: Any, place: PlaceOf) -> tuple[tuple[MapEntry, ...], list[RuleError]]:
    """Return the entries of a map, and what is wrong with others.

    Args:
        value: what stands under ``reactor:``.
        place: where its parts stand.
    """
    if value is None:
        return (), []
    if not isinstance(value, Sequence) or isinstance(value, str):
        problem = "a list of 'tag glob: files' is wanted here"
        return (), [_error(problem, place(()), "reactor")]
    entries: list[MapEntry] = []
    errors: list[RuleError] = []
    for number, item in enumerate(value):
        try:
            entries += _entries(item, number, place)
        except RuleError as error:
            errors.append(error)
    return tuple(entries), errors


def _entries(item: Any, number: int, place: PlaceOf) -> list[MapEntry]:
    path = f"reactor[{number}]"
    if not hasattr(item, "items") or not item:
        raise _error("an entry is a mapping of one tag glob to files", place((number,)), path)
    return [_entry(glob, files, number, place) for glob, files in item.items()]


def _entry(glob: Any, files: Any, number: int, place: PlaceOf) -> MapEntry:
    source = place((number, glob))
    listed = isinstance(files, Sequence) and not isinstance(files, str)
    names = list(files) if listed else [files]
    if not isinstance(glob, str) or not all(isinstance(name, str) and name for name in names):
        problem = "a tag glob is text, and its files are a path or a list of paths"
        raise _error(problem, source, f"reactor[{number}]")
    named = tuple(
        NamedPath(name, place((number, glob, index)) if listed else source)
        for index, name in enumerate(names)
    )
    return MapEntry(glob, named, source)


def _error(problem: str, source: Source, path: str) -> RuleError:
    return RuleError(problem, source.path, source.line, path)
