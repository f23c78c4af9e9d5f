"""The options by which `reactor token` and `reactor user` say what is allowed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reactor.http.access import Access
    from reactor.http.permissions import Permissions

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = {
    "read": ("GLOB", "Tags whose events may be read."),
    "fire": ("GLOB", "Tags that may be fired."),
    "run": ("TARGET:FUNCTION", "Functions on minions, such as 'web*:test.*'."),
    "runner": ("GLOB", "Runner functions."),
    "wheel": ("GLOB", "Wheel functions, such as 'key.*'."),
    "rules": ("GLOB", "Rules that may be administered."),
}


def with_grants(function: F) -> F:
    """Give a command the options that allow something."""
    decorated = click.option("--all", "everything", is_flag=True, help="Everything.")(function)
    for name, (metavar, text) in reversed(_OPTIONS.items()):
        decorated = click.option(f"--{name}", multiple=True, metavar=metavar, help=text)(decorated)
    return decorated


def granted(everything: bool, **globs: tuple[str, ...]) -> Permissions:
    """Return what the options allow: without any, all may be read and nothing done.

    Raises:
        click.UsageError: ``--all`` beside others.
    """
    from reactor.http.permissions import EVERYTHING, READ_ONLY, permissions

    named = {name: values for name, values in globs.items() if values}
    if everything and named:
        raise click.UsageError("--all allows everything: leave the others out")
    if everything:
        return EVERYTHING
    return permissions(named) if named else READ_ONLY


def spoken(allowed: Permissions) -> str:
    """Return permissions on one line."""
    return "; ".join(f"{name} {' '.join(globs)}" for name, globs in allowed.plain().items())


def open_access(opts: Mapping[str, Any]) -> Access:
    """Return the tokens and users of the master on this host."""
    import time
    from pathlib import Path

    from bus.config import private_dir
    from reactor.http.access import Access, access_dir

    private_dir(Path(str(opts["state_dir"])))
    return Access(access_dir(opts), time.time)
