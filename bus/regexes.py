"""Regular expressions that come to an end, over text that anybody may have sent. Pure.

Python's own can take centuries for a text of fifty letters. Here the time is bounded. An
expression has to be one of Python's, and means the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from bus.errors import BusError

if TYPE_CHECKING:
    import regex

LIMIT = 0.2
"""Seconds of processor time that one match may take."""

MAX_PATTERN = 1_000
"""Letters of an expression."""

MAX_REPEATS = 100_000
"""Letters that an expression may have when each ``{n}`` in it is written out."""

_CACHED = 512
_TOKEN = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{(\d*)(?:,\d*)?\}|.", re.DOTALL)

Found = TypeVar("Found")


class RegexError(BusError, ValueError):
    """An expression that is none, or that takes too long."""

    status = 400


class Regex:
    """A compiled expression.

    Args:
        pattern: the expression.
        flags: those of `re`.

    Attributes:
        error: what is raised; another package has errors of its own.

    Raises:
        RegexError: it is none, or too large.
    """

    error: type[Exception] = RegexError

    def __init__(self, pattern: str, flags: int = 0) -> None:
        if len(pattern) > MAX_PATTERN:
            raise self.error(f"a pattern has at most {MAX_PATTERN} letters")
        self._pattern = pattern
        try:
            self._compiled = _compiled(pattern, flags)
        except ValueError as error:
            raise self.error(str(error)) from error

    def match(self, text: str) -> regex.Match[str] | None:
        """Match at the start of a text.

        Raises:
            RegexError: it takes too long.
        """
        return self._timed(lambda: self._compiled.match(text, timeout=LIMIT))

    def search(self, text: str) -> regex.Match[str] | None:
        """Match anywhere in a text; raises as `match` does."""
        return self._timed(lambda: self._compiled.search(text, timeout=LIMIT))

    def replace(self, text: str, new: Callable[[regex.Match[str]], str]) -> str:
        """Return the text with each match replaced by what ``new`` gives; raises as `match`."""
        replaced: str = self._timed(lambda: self._compiled.sub(new, text, timeout=LIMIT))
        return replaced

    def _timed(self, run: Callable[[], Found]) -> Found:
        try:
            return run()
        except TimeoutError as error:
            raise self.error(
                f"the regular expression {self._pattern!r} takes too long for this text: "
                "avoid a repeat within a repeat"
            ) from error


@lru_cache(maxsize=_CACHED)
def _compiled(pattern: str, flags: int) -> regex.Pattern[str]:
    import regex

    try:
        re.compile(pattern, flags)  # what is an expression is what Python's users know as one
        if _written_out(pattern) > MAX_REPEATS:
            raise ValueError(f"{pattern!r} repeats more than {MAX_REPEATS} letters")
        return regex.compile(pattern, flags)
    except (re.error, regex.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from error


def _written_out(pattern: str) -> int:
    """Return about how long an expression is once its repeats are written out, as regex does."""
    sizes, last = [0], 0
    for token in _TOKEN.finditer(pattern):
        text: str | Any = token[0]
        if text == "(":
            sizes.append(0)
            last = 0
        elif text == ")" and len(sizes) > 1:
            last = sizes.pop() or 1
            sizes[-1] += last
        elif token[1] is not None:
            sizes[-1] += last * (max(1, int(token[1] or 1)) - 1)
            last *= max(1, int(token[1] or 1))
        else:
            last = 1
            sizes[-1] += 1
    return sum(sizes)
