"""Which tags minions may fire, by the option ``minion_may_fire``. Pure."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

from bus.errors import TagError

EVERYTHING = ("*",)
OWN_ID = "{id}"
_MAX_KNOWN = 20_000


class MayFire:
    """The globs of the option, for each minion with its own id.

    Args:
        globs: `fnmatch` patterns, whose ``*`` crosses slashes; ``{id}`` is the minion's id.
    """

    def __init__(self, globs: Sequence[str] = EVERYTHING) -> None:
        self._globs = tuple(globs)
        self._everything = "*" in self._globs
        self._known: dict[str, re.Pattern[str]] = {}

    def check(self, tag: str, ident: str) -> None:
        """Let a tag pass that the minion ``ident`` may fire.

        Raises:
            TagError: none of the globs matches it.
        """
        if not self._everything and self._pattern(ident).match(tag) is None:
            raise TagError(
                f"the tag {tag[:200]!r} is none that the master's option minion_may_fire lets "
                f"{ident!r} fire"
            )

    def _pattern(self, ident: str) -> re.Pattern[str]:
        found = self._known.get(ident)
        if found is None:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            # No id holds a character that means something in a glob: bus.keys.check_minion_id.
            globs = [glob.replace(OWN_ID, ident) for glob in self._globs]
            found = re.compile("|".join(map(fnmatch.translate, globs)) or r"(?!)")
            self._known[ident] = found
        return found
