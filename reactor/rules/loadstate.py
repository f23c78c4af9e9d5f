"""What one load of the rules hands to the next: texts that were read and what was made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reactor.errors import RuleError
from reactor.rules.model import Source
from reactor.rules.native import NativeRule
from reactor.rules.saltfile import ReactorFile
from reactor.rules.templates import Reference

Stamp = tuple[int, int, int, int, int]
"""What `os.stat` says of a file: both times, size, inode and device."""


@dataclass(frozen=True, slots=True)
class Text:
    """A file as it was read.

    Attributes:
        path: the file.
        digest: the hash of what it holds.
        text: what it holds.
        stamp: as long as this is the same, the file need not be read again; None if the file
            was so new that it might change without a new stamp.
    """

    path: str
    digest: bytes
    text: str
    stamp: Stamp | None


@dataclass(frozen=True, slots=True)
class NamedPath:
    """A path, glob or ``salt://`` address as somebody wrote it, and where."""

    text: str
    source: Source


@dataclass(frozen=True, slots=True)
class MapEntry:
    """One entry of a ``reactor:`` map: a tag glob and the files that react to it."""

    glob: str
    files: tuple[NamedPath, ...]
    source: Source


@dataclass(frozen=True, slots=True)
class RuleFile:
    """A native rule file or a map, as it was last good, and what is wrong with it now.

    Attributes:
        digest: of the text that ``errors`` speaks of.
        rules: the native rules.
        entries: the map's entries.
        errors: what is wrong with the present text; empty if it is in force.
        good: whether ``rules`` and ``entries`` come from a good version.
        text: that good version; empty if there is none.
    """

    digest: bytes
    rules: tuple[NativeRule, ...] = ()
    entries: tuple[MapEntry, ...] = ()
    errors: tuple[RuleError, ...] = ()
    good: bool = True
    text: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """A template's text after its syntax was checked."""

    digest: bytes
    references: tuple[Reference, ...] = ()
    error: RuleError | None = None


@dataclass(frozen=True, slots=True)
class Reaction:
    """A reactor file with all that it includes, as it was last good.

    Attributes:
        parts: path and digest of the file and of all that it includes.
        file: the last good version, or None.
        error: what is wrong with the present version.
    """

    parts: tuple[tuple[str, bytes], ...]
    file: ReactorFile | None
    error: RuleError | None = None


@dataclass(frozen=True, slots=True)
class LoadState:
    """All of it, by path."""

    texts: Mapping[str, Text] = field(default_factory=dict)
    rule_files: Mapping[str, RuleFile] = field(default_factory=dict)
    checked: Mapping[str, Checked] = field(default_factory=dict)
    reactions: Mapping[str, Reaction] = field(default_factory=dict)
