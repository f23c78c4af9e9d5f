"""What a job runs: one function, or several one after the other. Pure.

Of one, ``fun`` is its name and ``arg`` its arguments in Salt's condensed form (`bus.cliargs`). Of
several, as in Salt, ``fun`` is the list of names and ``arg`` the list of the arguments of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bus import cliargs
from bus.errors import ArgumentsError

Fun = str | Sequence[str]
"""The function of a job, or the names of several."""

MOST = 100
"""How many functions one job may run."""

MAX_NAME = 256
"""Characters of a function's name."""


@dataclass(frozen=True, slots=True)
class Call:
    """One function with its condensed arguments."""

    fun: str
    arg: tuple[Any, ...] = ()


def calls_of(fun: Any, arg: Any) -> tuple[Call, ...]:
    """Return what a job runs, in order.

    Args:
        fun: a name, or a list of names.
        arg: the arguments, or the list of the arguments of each; those that it has no place for
            get none.

    Raises:
        ArgumentsError: no job has these.
    """
    if isinstance(fun, str):
        return (Call(_checked_name(fun), tuple(_checked_list(arg))),)
    if not isinstance(fun, list | tuple):
        raise ArgumentsError(f"{str(fun)[:80]} is no function, nor a list of functions")
    if not 0 < len(fun) <= MOST:
        raise ArgumentsError(f"a job runs 1 to {MOST} functions, not {len(fun)}")
    names = [_checked_name(name) for name in fun]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ArgumentsError(
            f"{twice} is named twice: of what they return one would take the other's place"
        )
    groups = [tuple(_checked_list(group)) for group in _checked_list(arg)]
    if len(groups) > len(names):
        raise ArgumentsError(f"arguments for {len(groups)} functions, and {len(names)} of them")
    groups += [()] * (len(names) - len(groups))
    return tuple(map(Call, names, groups))


def condensed(fun: Fun, arg: Sequence[Any], kwarg: Mapping[str, Any] | None) -> list[Any]:
    """Return ``arg`` as it travels.

    Raises:
        ArgumentsError: keyword arguments beside several functions, or one of a reserved name; or
            a text, which would be taken apart into its characters.
    """
    if isinstance(arg, str | bytes):
        raise ArgumentsError(f"the arguments are a list, not text: give [{arg[:80]!r}]")
    if isinstance(fun, str):
        return cliargs.condense(list(arg), dict(kwarg or {}))
    if kwarg:
        raise ArgumentsError(
            "whose are these keyword arguments? Of several functions each has its own, in a dict "
            f"with {cliargs.KWARG_MARK}: True at the end of its arguments"
        )
    return list(arg)


def spoken(fun: Any) -> str:
    """Return the name of what a job runs, for people.

    >>> spoken(["test.ping", "cmd.run"])
    'test.ping, cmd.run'
    """
    return ", ".join(map(str, fun)) if isinstance(fun, list | tuple) else str(fun)


def names_of(fun: Any) -> list[str]:
    """Return the names of the functions that a job runs."""
    return [str(name) for name in fun] if isinstance(fun, list | tuple) else [str(fun)]


def _checked_name(name: Any) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        raise ArgumentsError(f"{str(name)[:80]!r} names no function")
    return name


def _checked_list(arg: Any) -> Sequence[Any]:
    if not isinstance(arg, list | tuple):
        raise ArgumentsError(f"the arguments {str(arg)[:80]!r} are no list")
    return arg
