"""Rules that somebody switched off while the reactor runs: by name, with who and when. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

from reactor.errors import ReactorError

_LONGEST = 100
"""Letters of a wrong name that an error repeats, and that are compared."""


class UnknownRuleError(ReactorError):
    """No rule has this name; the text names the nearest one."""

    status = 404


@dataclass(frozen=True, slots=True)
class Switch:
    """A rule that was switched off.

    Attributes:
        rule: its name; all rules of that name are meant.
        user: who did it.
        at: when, in seconds since 1970.
    """

    rule: str
    user: str
    at: float

    @property
    def why(self) -> str:
        """What is said of an event that the rule left alone."""
        when = datetime.fromtimestamp(self.at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return f"switched off by {self.user} at {when}"

    def describe(self) -> dict[str, Any]:
        """Return what JSON says of it."""
        return {"rule": self.rule, "user": self.user, "at": self.at, "why": self.why}


def named(patterns: Sequence[str], known: Iterable[str]) -> list[str]:
    """Return the names that are meant, each once, in the order in which they were asked for.

    Args:
        patterns: names, or globs as `fnmatch.fnmatchcase` reads them. What is a name is no glob,
            as a Salt rule's name is a path, which may hold brackets.
        known: the names that there are.

    Raises:
        UnknownRuleError: one of them means nothing.
    """
    names = sorted(set(known))
    found: dict[str, None] = {}
    for pattern in patterns:
        meant = [pattern] if pattern in names else [n for n in names if fnmatchcase(n, pattern)]
        if not meant:
            raise UnknownRuleError(_unknown(pattern, names))
        found.update(dict.fromkeys(meant))
    return list(found)


def _unknown(pattern: str, names: Sequence[str]) -> str:
    shown = repr(pattern[:_LONGEST])
    if any(letter in pattern for letter in "*?["):
        return f"no rule's name matches {shown}: 'reactor rules' lists them"
    near = difflib.get_close_matches(pattern[:_LONGEST], names, 1, cutoff=0.5)
    advice = f"did you mean {near[0]}?" if near else "'reactor rules' lists them"
    return f"there is no rule {shown}: {advice}"
