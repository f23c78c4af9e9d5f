"""Regular expressions of rules, over text of events: one minion must not stop the whole engine."""

from __future__ import annotations

from bus import regexes
from bus.regexes import LIMIT, MAX_PATTERN
from reactor.errors import ReactorError

__all__ = ["LIMIT", "MAX_PATTERN", "Regex", "RegexError"]


class RegexError(ReactorError):
    """An expression that is none, or that takes too long."""


class Regex(regexes.Regex):
    """A `bus.regexes.Regex` whose errors are of this package."""

    error = RegexError
