"""Which rules an event's tag matches, at a cost that hardly grows with the number of rules.

Every glob is filed in a tree under what a matching tag must have: a whole segment between
slashes, a beginning, an end, or four letters in a row. A tag then meets only the few globs
that its own parts lead to, and these are tried as `fnmatch.fnmatchcase` would.
"""

from __future__ import annotations

import fnmatch
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

T = TypeVar("T")

_LEAF = 4
"""So few globs are tried one by one: that costs no more than looking further."""

_GRAM = 4
_MAX_LENGTHS = 8
"""Each length of a beginning or end costs a look-up, so longer ones are cut to few lengths."""


@dataclass(frozen=True, slots=True)
class _Literals:
    """The literal text in a glob, by what a matching tag must have of it."""

    head: str
    tail: str
    segments: frozenset[str]
    grams: frozenset[str]


def _chunks(glob: str) -> list[str]:
    """Return the literal texts between wildcards; the first and last touch the glob's ends."""
    chunks = [""]
    position = 0
    while position < len(glob):
        width = _wildcard_width(glob, position)
        if width:
            chunks.append("")
        else:
            chunks[-1] += glob[position]
        position += width or 1
    return chunks


def _wildcard_width(glob: str, position: int) -> int:
    """Return how long the wildcard at ``position`` is, or 0: fnmatch's reading of ``[``."""
    char = glob[position]
    if char != "[":
        return 1 if char in "*?" else 0
    start = position + 1
    start += glob.startswith("!", start)
    start += glob.startswith("]", start)
    end = glob.find("]", start)
    return end + 1 - position if end >= 0 else 0


def _read(chunks: Sequence[str]) -> _Literals:
    segments: set[str] = set()
    grams: set[str] = set()
    for number, chunk in enumerate(chunks):
        parts = chunk.split("/")
        # A wildcard may go on within the segment that it touches.
        first = 0 if number == 0 else 1
        last = len(parts) if number == len(chunks) - 1 else len(parts) - 1
        segments.update(part for part in parts[first:last] if part)
        grams.update(chunk[i : i + _GRAM] for i in range(len(chunk) - _GRAM + 1))
    return _Literals(chunks[0], chunks[-1], frozenset(segments), frozenset(grams))


class _Glob:
    """One glob and the numbers of the items that have it."""

    __slots__ = ("_chunks", "_head", "_search", "_tail", "literals", "numbers", "pattern")

    def __init__(self, pattern: str, numbers: tuple[int, ...]) -> None:
        chunks = _chunks(pattern)
        self.pattern = pattern
        self.numbers = numbers
        self.literals = _read(chunks)
        self._head, *self._chunks, self._tail = chunks
        self._search: Callable[[str], Any] | None = None
        if "*".join(chunks) != pattern:
            self._search = self._first_search

    def matches(self, tag: str) -> bool:
        """Say what `fnmatch.fnmatchcase` would."""
        if self._search is not None:
            return bool(self._search(tag))
        if not (tag.startswith(self._head) and tag.endswith(self._tail)):
            return False
        return self._holds_between(tag, len(self._head), len(tag) - len(self._tail))

    def _holds_between(self, tag: str, start: int, end: int) -> bool:
        for chunk in self._chunks:
            found = tag.find(chunk, start, end)
            if found < 0:
                return False
            start = found + len(chunk)
        return start <= end

    def _first_search(self, tag: str) -> Any:
        # Compiling costs 100 microseconds: a reload of 1,000 rules must not pay for them all.
        self._search = re.compile(fnmatch.translate(self.pattern)).match
        return self._search(tag)


class _Node:
    """Globs filed by what a tag must have; ``always`` are those that every tag must try."""

    __slots__ = ("always", "grams", "heads", "segments", "tails")

    def __init__(self, globs: Sequence[_Glob], used: frozenset[str]) -> None:
        self.segments: _Table = {}
        self.heads: _Tables = ()
        self.tails: _Tables = ()
        self.grams: _Table = {}
        rest = self._file_by_segment(globs, used)
        rest = self._file_by_end(rest, used, "head")
        rest = self._file_by_end(rest, used, "tail")
        self.always = tuple(self._file_by_gram(rest, used))

    def _file_by_segment(self, globs: Sequence[_Glob], used: frozenset[str]) -> list[_Glob]:
        counts = Counter(name for glob in globs for name in glob.literals.segments - used)
        groups, rest = _group(globs, lambda glob: _rarest(counts, glob.literals.segments - used))
        self.segments = {key: _branch(group, used | {key}) for key, group in groups.items()}
        return rest

    def _file_by_end(self, globs: list[_Glob], used: frozenset[str], end: str) -> list[_Glob]:
        mark = f"//{end}"  # no segment has a slash, so this cannot be taken for one
        if len(globs) <= _LEAF or mark in used:
            return globs
        lengths = _lengths({len(getattr(glob.literals, end)) for glob in globs})
        cut = _cut_head if end == "head" else _cut_tail
        groups, rest = _group(globs, lambda glob: cut(getattr(glob.literals, end), lengths))
        tables: defaultdict[int, _Table] = defaultdict(dict)
        for key, group in groups.items():
            tables[len(key)][key] = _branch(group, used | {mark})
        setattr(self, f"{end}s", tuple(sorted(tables.items())))
        return rest

    def _file_by_gram(self, globs: list[_Glob], used: frozenset[str]) -> list[_Glob]:
        if len(globs) <= _LEAF or "//gram" in used:
            return globs
        counts = Counter(gram for glob in globs for gram in glob.literals.grams)
        groups, rest = _group(globs, lambda glob: _rarest(counts, glob.literals.grams))
        self.grams = {key: _branch(group, used | {"//gram"}) for key, group in groups.items()}
        return rest

    def branches(self, tag: str, parts: Sequence[str]) -> list[_Branch]:
        """Return what the parts of ``tag`` lead to; one branch may come twice."""
        table = self.segments
        found = [table[part] for part in parts if part in table]
        for length, table in self.heads:
            key = tag[:length]
            if key in table:
                found.append(table[key])
        for length, table in self.tails:
            key = tag[-length:]
            if key in table:
                found.append(table[key])
        if self.grams:
            grams = {tag[i : i + _GRAM] for i in range(len(tag) - _GRAM + 1)}
            found += [self.grams[gram] for gram in grams & self.grams.keys()]
        return found


_Branch: TypeAlias = _Node | tuple[_Glob, ...]
_Table: TypeAlias = dict[str, _Branch]
_Tables: TypeAlias = tuple[tuple[int, _Table], ...]


def _branch(globs: Sequence[_Glob], used: frozenset[str] = frozenset()) -> _Branch:
    return tuple(globs) if len(globs) <= _LEAF else _Node(globs, used)


def _group(
    globs: Iterable[_Glob], key_of: Callable[[_Glob], str]
) -> tuple[dict[str, list[_Glob]], list[_Glob]]:
    """Sort ``globs`` by key; those without one are the rest."""
    groups: defaultdict[str, list[_Glob]] = defaultdict(list)
    for glob in globs:
        groups[key_of(glob)].append(glob)
    rest = groups.pop("", [])
    return groups, rest


def _rarest(counts: Mapping[str, int], names: Iterable[str]) -> str:
    return min(names, key=lambda name: (counts[name], name), default="")


def _lengths(wanted: set[int]) -> list[int]:
    """Return at most `_MAX_LENGTHS` lengths, spread over ``wanted``, longest first."""
    longest_first = sorted(wanted - {0}, reverse=True)
    step = -(-len(longest_first) // _MAX_LENGTHS) or 1
    # Counted from the shortest, so that every text has a length that it can be cut to.
    return longest_first[::-1][::step][::-1]


def _cut_head(text: str, lengths: Iterable[int]) -> str:
    return next((text[:length] for length in lengths if length <= len(text)), "")


def _cut_tail(text: str, lengths: Iterable[int]) -> str:
    return next((text[-length:] for length in lengths if length <= len(text)), "")


class Index(Generic[T]):
    """Items by the globs of tags that they want; immutable.

    >>> Index([(["salt/auth", "myco/*"], "first"), (["*"], "second")]).match("myco/x")
    ('first', 'second')
    """

    def __init__(self, entries: Iterable[tuple[Iterable[str], T]]) -> None:
        """File ``entries``: the globs of each item, and the item; their order is kept."""
        by_pattern: defaultdict[str, list[int]] = defaultdict(list)
        items: list[T] = []
        for number, (patterns, item) in enumerate(entries):
            items.append(item)
            for pattern in dict.fromkeys(patterns):
                by_pattern[pattern].append(number)
        self._items = tuple(items)
        # A lone "[" looks like a wildcard and is none, so the chunks decide.
        literals = [pattern for pattern in by_pattern if len(_chunks(pattern)) == 1]
        self._literals = {pattern: tuple(by_pattern.pop(pattern)) for pattern in literals}
        self._root = _branch([_Glob(glob, tuple(n)) for glob, n in by_pattern.items()])

    def match(self, tag: str) -> tuple[T, ...]:
        """Return the items one of whose globs matches ``tag``, each once, in order."""
        numbers = list(self._literals.get(tag, ()))
        todo = [self._root]
        parts = tag.split("/")
        for branch in todo:
            if isinstance(branch, _Node):
                todo += branch.branches(tag, parts)
                branch = branch.always  # noqa: PLW2901 - what is to be tried, in either case
            for glob in branch:
                if glob.matches(tag):
                    numbers += glob.numbers
        if len(numbers) > 1:
            numbers = sorted(set(numbers))
        return tuple([self._items[number] for number in numbers])
