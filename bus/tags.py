"""Event tags: how they are built, checked and matched. Pure functions."""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Callable, Iterable, Mapping

from bus.errors import TagError

SEPARATOR = "/"
MAX_TAG_BYTES = 4096
"""A tag is a path of words; POSIX's PATH_MAX is the precedent for the limit."""

BASE = "salt"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_GLOB_MAGIC = re.compile(r"[*?\[]")

Matcher = Callable[[str], bool]


def tagify(suffix: object = "", prefix: str = "", base: str = BASE) -> str:
    """Join ``base``, ``prefix`` and ``suffix`` (one part or several) with ``/``.

    Empty parts are left out, as ``salt.utils.event.tagify`` does.

    >>> tagify(["20261122093000123456", "ret", "web1"], "job")
    'salt/job/20261122093000123456/ret/web1'
    """
    tail: Iterable[object] = [suffix]
    if isinstance(suffix, Iterable) and not isinstance(suffix, str | bytes):
        tail = suffix
    return SEPARATOR.join(text for part in (base, prefix, *tail) if (text := _text(part)))


def _text(part: object) -> str:
    return part.decode(errors="replace") if isinstance(part, bytes) else str(part)


def check_tag(tag: object) -> str:
    """Return ``tag`` if it can go onto a bus.

    Raises:
        TagError: it is no text, empty, too long, or has control characters (a tag ends at
            the first line break on the wire, so one inside would cut it).
    """
    # Nearly every tag: printable means no control character, and in ASCII a character is a byte.
    if type(tag) is str and 0 < len(tag) <= MAX_TAG_BYTES and tag.isascii() and tag.isprintable():
        return tag
    if not isinstance(tag, str):
        hint = ": are tag and data the other way round?" if isinstance(tag, Mapping) else ""
        raise TagError(f"an event tag is text, not {type(tag).__name__}{hint}")
    if not tag:
        raise TagError("the event tag is empty: give one such as 'myco/deploy/done'")
    found = _CONTROL.search(tag)
    if found:
        raise TagError(
            f"the event tag {tag[:80]!r} has the control character {found.group()!r} "
            f"at position {found.start()}: remove it"
        )
    try:
        size = len(tag.encode())
    except UnicodeEncodeError as error:
        raise TagError(f"the event tag {tag[:80]!r} is no valid Unicode text") from error
    if size > MAX_TAG_BYTES:
        raise TagError(f"the event tag is {size} bytes long, at most {MAX_TAG_BYTES} are allowed")
    return tag


def _startswith(pattern: str) -> Matcher:
    return lambda tag: tag.startswith(pattern)


def _endswith(pattern: str) -> Matcher:
    return lambda tag: tag.endswith(pattern)


def _find(pattern: str) -> Matcher:
    return lambda tag: pattern in tag


def _regex(pattern: str) -> Matcher:
    try:
        match = re.compile(pattern).match
    except re.error as error:
        raise TagError(f"the tag pattern {pattern!r} is no regular expression: {error}") from error
    return lambda tag: match(tag) is not None


def _fnmatch(pattern: str) -> Matcher:
    prefix = literal_prefix(pattern)
    if pattern == f"{prefix}*":  # most patterns: no need of a regular expression
        return _startswith(prefix)
    match = re.compile(fnmatch.translate(pattern)).match
    return lambda tag: match(tag) is not None


_MATCH_TYPES: dict[str, Callable[[str], Matcher]] = {
    "startswith": _startswith,
    "endswith": _endswith,
    "find": _find,
    "regex": _regex,
    "fnmatch": _fnmatch,
}

MATCH_TYPES = tuple(_MATCH_TYPES)
"""The values of ``match_type`` and of the option ``event_match_type``."""


def matcher(pattern: str, match_type: str = "startswith") -> Matcher:
    """Return a function that says whether a tag matches ``pattern``.

    Args:
        pattern: the text, regular expression (anchored at the start) or glob.
        match_type: one of `MATCH_TYPES`.

    Raises:
        TagError: the match type is unknown, or the pattern is no text or no regular expression.
    """
    if not isinstance(pattern, str):
        raise TagError(f"a tag to match is text, not {type(pattern).__name__}")
    if match_type not in MATCH_TYPES:
        raise TagError(
            f"unknown match type {match_type!r}: use one of {', '.join(sorted(MATCH_TYPES))}"
        )
    return _remembered(pattern, match_type)


@functools.lru_cache(maxsize=512)
def _remembered(pattern: str, match_type: str) -> Matcher:
    """Make a matcher once: ``get_event`` is called with the same pattern again and again."""
    return _MATCH_TYPES[match_type](pattern)


def literal_prefix(glob: str) -> str:
    """Return what every tag that matches ``glob`` begins with.

    >>> literal_prefix("salt/job/*/ret/*")
    'salt/job/'
    """
    magic = _GLOB_MAGIC.search(glob)
    return glob[: magic.start()] if magic else glob


def is_literal(glob: str) -> bool:
    """Say whether ``glob`` matches itself only."""
    return _GLOB_MAGIC.search(glob) is None
