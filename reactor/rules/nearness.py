"""Which patterns nearly match a tag, and in what they differ from it."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher

from reactor.rules.model import Rule
from reactor.rules.snapshot import OWN_TAGS

_NEAR = 0.6
_MOST_LETTERS = 200
_MOST_RULES = 2_000
"""Rules that are compared: more take longer than somebody who waits for an answer likes."""


@dataclass(frozen=True, slots=True)
class Near:
    """A rule whose pattern nearly matches.

    Attributes:
        rule: the rule.
        pattern: its pattern.
        why: in what it differs.
        likeness: from 0 to 1.
    """

    rule: Rule
    pattern: str
    why: str
    likeness: float


def nearest(tag: str, rules: Iterable[Rule], most: int = 3) -> list[Near]:
    """Return the rules whose patterns come nearest to ``tag`` without matching it."""
    found = []
    for _, rule in zip(range(_MOST_RULES), rules, strict=False):
        near = [_near(tag, pattern, rule) for pattern in rule.patterns]
        best = max(near, key=lambda one: one.likeness, default=None)
        if best is not None and best.likeness >= _NEAR:
            found.append(best)
    found.sort(key=lambda near: -near.likeness)
    return found[:most]


def _near(tag: str, pattern: str, rule: Rule) -> Near:
    if fnmatch.fnmatchcase(tag, pattern):
        return Near(rule, pattern, _own_or_other(tag), 1.0)
    tag, shown = tag[:_MOST_LETTERS], pattern[:_MOST_LETTERS]
    if fnmatch.fnmatchcase(tag.lower(), shown.lower()):
        return Near(rule, pattern, "only upper and lower case differ", 0.99)
    if fnmatch.fnmatchcase(tag.strip("/ "), shown.strip("/ ")):
        return Near(rule, pattern, "only a slash or blank at an end differs", 0.98)
    return Near(rule, pattern, _difference(tag, shown), _likeness(tag, shown))


def _own_or_other(tag: str) -> str:
    if tag.startswith(OWN_TAGS):
        return f"it would match, but only globs that begin with {OWN_TAGS} see the engine's events"
    return f"it matches, but globs that begin with {OWN_TAGS} see only the engine's events"


def _likeness(tag: str, pattern: str) -> float:
    """Compare part by part, a wildcard counting as whatever stands there."""
    mine, theirs = tag.split("/"), pattern.split("/")
    alike = sum(_part(a, b) for a, b in zip(mine, theirs, strict=False))
    by_parts = alike / max(len(mine), len(theirs))
    return max(by_parts, SequenceMatcher(None, tag, pattern, autojunk=False).ratio() * 0.95)


def _part(part: str, glob: str) -> float:
    if fnmatch.fnmatchcase(part, glob):
        return 1.0
    return SequenceMatcher(None, part, glob, autojunk=False).ratio() * 0.9


def _difference(tag: str, pattern: str) -> str:
    mine, theirs = tag.split("/"), pattern.split("/")
    for number, (part, glob) in enumerate(zip(mine, theirs, strict=False), 1):
        if not fnmatch.fnmatchcase(part, glob):
            return f"part {number} is {part!r}, not {glob!r}"
    if len(mine) > len(theirs):
        return f"the tag goes on: {'/'.join(mine[len(theirs) :])!r}"
    return f"the tag ends before {'/'.join(theirs[len(mine) :])!r}"
