"""Tag patterns of every ``match`` type as globs, which is what the index of rules takes."""

from __future__ import annotations

import re
from collections.abc import Iterable

_MAGIC = re.compile(r"([*?\[])")
_LITERAL = re.compile(r"\^?(?:\\A)?([A-Za-z0-9_/@:,;=-]*)")
_ESCAPED = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
"""A letter after a backslash, and a class: no bracket in them opens a group."""

_OPTIONAL = ("?", "*", "{")


def globs_of(patterns: Iterable[str], match: str) -> list[str]:
    """Return globs for patterns of a match type.

    They match the same tags, but for ``regex``: there they match those that begin as every tag
    must that the expression matches, and it has to be asked as well.

    >>> globs_of(["salt/job/"], "startswith")
    ['salt/job/*']
    >>> globs_of(["salt/(job|run)/.*"], "regex")
    ['salt/*']
    """
    return [_glob(pattern, match) for pattern in patterns]


def _glob(pattern: str, match: str) -> str:
    if match == "fnmatch":
        return pattern
    if match == "regex":
        return f"{_certain_head(pattern)}*"
    text = _MAGIC.sub(r"[\1]", pattern)
    return {"startswith": f"{text}*", "endswith": f"*{text}", "find": f"*{text}*"}[match]


def _certain_head(pattern: str) -> str:
    """Return a text that every tag begins with which the regular expression matches."""
    bare = _ESCAPED.sub("", pattern)
    if "|" in re.sub(r"\([^()]*\)", "", bare) or "(?" in pattern:
        return ""  # an alternative at the top, or a flag that lets letters mean others
    found = _LITERAL.match(pattern)
    head = found[1] if found else ""
    rest = pattern[found.end() :] if found else ""
    return head[:-1] if rest.startswith(_OPTIONAL) else head
