"""Which events a stream gets: globs that were asked for, and globs that may be read. Pure."""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Callable
from dataclasses import dataclass

from reactor.http.errors import HttpError

MOST_GLOBS = 100
_LONGEST_GLOB = 1_000


@dataclass(frozen=True, slots=True)
class Filter:
    """Lets tags pass that match one of ``wanted``, or all without any, and one of ``allowed``."""

    wanted: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ("*",)

    def __post_init__(self) -> None:
        if len(self.wanted) > MOST_GLOBS:
            raise HttpError(f"more than {MOST_GLOBS} globs in one filter")
        if any(len(glob) > _LONGEST_GLOB for glob in self.wanted):
            raise HttpError(f"a glob of more than {_LONGEST_GLOB} characters")

    @property
    def is_all(self) -> bool:
        """Whether every tag passes."""
        return (not self.wanted or "*" in self.wanted) and "*" in self.allowed

    def __call__(self, tag: str) -> bool:
        """Say whether a tag passes."""
        asked_for = not self.wanted or _matcher(self.wanted)(tag) is not None
        return asked_for and _matcher(self.allowed)(tag) is not None


@functools.lru_cache(maxsize=256)
def _matcher(globs: tuple[str, ...]) -> Callable[[str], re.Match[str] | None]:
    # A pattern of nothing matches no tag: who may read nothing gets nothing.
    return re.compile("|".join(map(fnmatch.translate, globs)) or r"(?!)").match
