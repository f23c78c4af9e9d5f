"""What a user or a token may do: tags by globs, functions on targets, rules. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import Any

from reactor.http.errors import ForbiddenError, HttpError

ANY = "*"


@dataclass(frozen=True, slots=True)
class Permissions:
    """What somebody may do; what is not named may not be done.

    Attributes:
        read: globs of the tags whose events may be read, and what follows from them.
        fire: globs of the tags that may be fired.
        run: ``TARGET:FUNCTION``, two globs: functions that may be run on minions.
        runner: globs of the runner functions that may be run.
        wheel: globs of the wheel functions that may be run; keys are administered by them.
        rules: globs of the rules that may be administered.
    """

    read: tuple[str, ...] = ()
    fire: tuple[str, ...] = ()
    run: tuple[str, ...] = ()
    runner: tuple[str, ...] = ()
    wheel: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for grant in self.run:
            if not all(grant.rpartition(":")[::2]):
                raise HttpError(
                    f"{grant!r} is no permission to run: write TARGET:FUNCTION, such as "
                    "'web*:test.*'"
                )

    def may_read(self, tag: str) -> bool:
        """Say whether events with this tag may be read."""
        return _matches(self.read, tag)

    def may_fire(self, tag: str) -> bool:
        """Say whether events with this tag may be fired."""
        return _matches(self.fire, tag)

    def may_run(self, minion: str, fun: str) -> bool:
        """Say whether a function may be run on a minion."""
        return any(
            fnmatchcase(minion, target) and fnmatchcase(fun, function)
            for target, _, function in (grant.rpartition(":") for grant in self.run)
        )

    def may_run_somewhere(self, fun: str) -> bool:
        """Say whether there can be a minion that a function may be run on."""
        return any(fnmatchcase(fun, grant.rpartition(":")[2]) for grant in self.run)

    def may_call(self, kind: str, fun: str) -> bool:
        """Say whether a ``runner`` or ``wheel`` function may be run."""
        return _matches(self.runner if kind == "runner" else self.wheel, fun)

    def may_administer(self, rule: str) -> bool:
        """Say whether a rule may be administered."""
        return _matches(self.rules, rule)

    def plain(self) -> dict[str, list[str]]:
        """Return them for JSON, those that are not empty."""
        named = {field.name: list(getattr(self, field.name)) for field in fields(self)}
        return {name: globs for name, globs in named.items() if globs}


NONE = Permissions()
EVERYTHING = Permissions(
    **{f.name: (f"{ANY}:{ANY}" if f.name == "run" else ANY,) for f in fields(NONE)}
)
READ_ONLY = Permissions(read=(ANY,))
KINDS = tuple(field.name for field in fields(NONE))
"""The names of the kinds of permission."""


def permissions(granted: Mapping[str, Any]) -> Permissions:
    """Return permissions from names to lists of globs.

    Raises:
        HttpError: a name that is none, or a value that is no list of texts.
    """
    for kind, globs in granted.items():
        if kind not in KINDS:
            raise HttpError(f"unknown permission {kind!r}: use {', '.join(KINDS)}")
        if not isinstance(globs, list | tuple) or not all(isinstance(g, str) for g in globs):
            raise HttpError(f"the permission {kind} is a list of globs")
    return Permissions(**{kind: tuple(globs) for kind, globs in granted.items()})


def need(allowed: bool, what: str) -> None:
    """Refuse what is not allowed.

    Raises:
        ForbiddenError: with ``what`` in its text.
    """
    if not allowed:
        raise ForbiddenError(f"this token may not {what}")


def _matches(globs: Iterable[str], text: str) -> bool:
    return any(glob == ANY or fnmatchcase(text, glob) for glob in globs)
