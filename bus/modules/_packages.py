"""What package managers have in common: who they are to ``pkg``, names, programs, differences."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bus.modules._errors import ExecutionError, InvocationError
from bus.modules._process import Command, Outcome, run

Changes = dict[str, dict[str, str]]

LOCK_SECONDS = 60.0
"""How long to wait for another process that changes packages."""

_LOOK_SECONDS = 0.5
_QUERY_SECONDS = 300.0
_CHANGE_SECONDS = 3600.0  # an upgrade of all packages, over a slow line
_MAX_OUTPUT = 64 * 1024 * 1024  # the list of a host with all packages; it is read, not returned

_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9+._-]*[A-Za-z0-9+._])?(?::[a-z0-9-]*[a-z0-9])?")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.~:^_-]*")


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be installed: a package of this name, in this version, or from this file."""

    name: str = ""
    version: str = ""
    file: str = ""


class Manager(Protocol):
    """How one package manager is spoken to. Names are those that `check_name` let pass."""

    def installed(self) -> dict[str, list[str]]:
        """Return the versions of all packages that are installed."""
        ...

    def known_as(self, name: str) -> str:
        """Return the name that `installed` has for a package, however it was named."""
        ...

    def leftovers(self) -> dict[str, str]:
        """Return the packages of which only configuration is left, with its version."""
        ...

    def candidates(self, names: Sequence[str]) -> dict[str, str]:
        """Return for each known name the version that an installation would bring, if any."""
        ...

    def upgrades(self, *, whole: bool) -> dict[str, str]:
        """Return the new versions that there are; ``whole``: even if others must go for them."""
        ...

    def install(self, targets: Sequence[Target]) -> None:
        """Install or upgrade."""
        ...

    def remove(self, names: Sequence[str], *, purge: bool) -> None:
        """Remove; ``purge``: with the configuration."""
        ...

    def upgrade(self, *, whole: bool) -> None:
        """Upgrade everything."""
        ...

    def refresh(self) -> dict[str, bool | None]:
        """Fetch the lists anew and return for each source: new, unchanged, failed."""
        ...

    def held(self) -> list[str]:
        """Return the packages that are not to be changed."""
        ...

    def hold(self, names: Sequence[str], *, held: bool) -> None:
        """Keep packages as they are, or no longer."""
        ...

    def owner(self, path: str) -> str:
        """Return the package that a file is of, or an empty string."""
        ...

    def files(self, name: str) -> list[str] | None:
        """Return the files of an installed package; ``None`` if it is not installed."""
        ...

    def info(self, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return what is known of installed packages; without names of all."""
        ...


def check_name(name: Any) -> str:
    """Return a package's name.

    Raises:
        InvocationError: it is none, or a program would take it for something else: an option,
            a glob, or (a hyphen at the end) a package to be removed.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvocationError(f"{str(name)[:80]!r} is no name of a package")
    return name


def check_version(version: Any) -> str:
    """Return a version.

    Raises:
        InvocationError: it is none.
    """
    if not _VERSION.fullmatch(str(version)):
        raise InvocationError(f"{str(version)[:80]!r} is no version of a package")
    return str(version)


def targets(
    name: str | None, pkgs: Iterable[Any] | Mapping[str, Any] | None, version: str | None
) -> list[Target]:
    """Return what ``pkg.install`` was asked for.

    Raises:
        InvocationError: nothing, or something that makes no sense.
    """
    if isinstance(pkgs, Mapping):
        pkgs = [{each: pkgs[each]} for each in pkgs]
    wanted = [_target(item) for item in (pkgs if pkgs is not None else _names(name))]
    if not wanted:
        raise InvocationError("nothing to install: give a name, or pkgs=[...]")
    if version is None:
        return wanted
    if len(wanted) != 1 or not wanted[0].name:
        raise InvocationError("version=... is for one package: write pkgs=[{name: version}, ...]")
    return [Target(wanted[0].name, check_version(version))]


def names(name: str | None, pkgs: Iterable[Any] | None) -> list[str]:
    """Return the names that a function was given, in either form.

    Raises:
        InvocationError: there are none, or one of them is no name.
    """
    found = [check_name(each) for each in (pkgs if pkgs is not None else _names(name))]
    if not found:
        raise InvocationError("no package is named: give a name, or pkgs=[...]")
    return found


def _names(name: str | None) -> list[str]:
    """Several may stand in one text, as Salt has it."""
    return [part for part in str(name or "").split(",") if part]


def _target(item: Any) -> Target:
    if isinstance(item, Mapping) and len(item) == 1:
        ((name, version),) = item.items()
        return Target(check_name(name), check_version(version) if version else "")
    if isinstance(item, str) and item.startswith("/"):
        return Target(file=_package_file(item))
    return Target(check_name(item))


def _package_file(path: str) -> str:
    if not path.endswith((".deb", ".rpm")):
        raise InvocationError(
            f"{path!r} is no file of a package: it ends with neither .deb nor .rpm"
        )
    if not Path(path).is_file():
        raise ExecutionError(f"{path}: there is no such file")
    return path


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> Changes:
    """Return what changed, as ``{name: {old, new}}``.

    >>> differences({"a": "1", "b": "1"}, {"b": "2", "c": "1"})
    {'a': {'old': '1', 'new': ''}, 'b': {'old': '1', 'new': '2'}, 'c': {'old': '', 'new': '1'}}
    """
    pairs = {
        name: (before.get(name, ""), after.get(name, "")) for name in sorted({*before, *after})
    }
    return {name: {"old": old, "new": new} for name, (old, new) in pairs.items() if old != new}


def query(*argv: str) -> Outcome:
    """Run a program that only looks."""
    return _program(argv, _QUERY_SECONDS)


def change(*argv: str, reason: Callable[[Outcome], str], is_locked: Callable[[str], bool]) -> str:
    """Run a program that changes packages, once no other does, and return what it wrote.

    Args:
        *argv: the program and its arguments.
        reason: returns the one line that says why it failed.
        is_locked: says whether this line means that another process has the lock.

    Raises:
        ExecutionError: it failed, took too long, or the lock did not become free.
    """
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        outcome = _program(argv, _CHANGE_SECONDS)
        if outcome.returncode == 0:
            return outcome.stdout
        why = reason(outcome)
        if not is_locked(outcome.stderr):
            raise ExecutionError(f"{_called(argv)}: {why}")
        if time.monotonic() > deadline:
            raise ExecutionError(f"{_called(argv)}: gave up after {LOCK_SECONDS:g} s: {why}")
        # A lock of another's tells nobody when it becomes free.
        time.sleep(_LOOK_SECONDS)


def _program(argv: Sequence[str], seconds: float) -> Outcome:
    """Nothing may ask a question, and messages are to be read by this program: in English."""
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    environ |= {"APT_LISTCHANGES_FRONTEND": "none", "LANGUAGE": ""}
    outcome = run(
        Command(argv, timeout=seconds, max_output=_MAX_OUTPUT, options={"env": environ, "cwd": "/"})
    )
    if outcome.timed_out:
        raise ExecutionError(f"{_called(argv)} did not end within {seconds:g} seconds")
    return outcome


def _called(argv: Sequence[str]) -> str:
    """Return program and command, without the options between them."""
    words = [word for word in argv[1:] if re.fullmatch(r"[a-z][a-z-]+", word)]
    return " ".join([Path(argv[0]).name, *words[:1]])


def last_line(text: str) -> str:
    """Return the last line that says something."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
