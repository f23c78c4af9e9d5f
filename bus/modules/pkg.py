"""Installs and removes packages and says which there are: with apt, or with dnf."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from bus.modules import _apt, _dnf, _packages
from bus.modules._errors import ExecutionError, InvocationError
from bus.modules._packages import Changes, Manager

__context__: dict[str, Any]

_MANAGER = "pkg.manager"
_MANAGERS: tuple[tuple[tuple[str, ...], Callable[[], Manager]], ...] = (
    (_apt.PROGRAMS, _apt.Apt),
    (_dnf.PROGRAMS, _dnf.Dnf),
)
_HELD, _FREE = "hold", "install"  # dpkg's words for it


def __virtual__() -> bool | tuple[bool, str]:  # noqa: N807 - the loader asks for it by this name
    """Say whether this host has a package manager that this module knows."""
    if _find_manager() is None:
        return False, "this host has neither apt-get and dpkg nor dnf and rpm"
    return True


# -- what there is ------------------------------------------------------------------------


def list_pkgs(versions_as_list: bool = False) -> dict[str, Any]:
    """Return the installed packages with their versions.

    CLI example: ``reactor call pkg.list_pkgs``

    Args:
        versions_as_list: each name has a list, for several versions may be installed at once;
            otherwise they stand in one text, with commas.
    """
    found = _manager().installed()
    return found if versions_as_list else _joined(found)


def version(*names: str) -> str | dict[str, str]:
    """Return the installed version of a package, or nothing; of several a dict.

    CLI example: ``reactor call pkg.version bash``
    """
    checked = _checked(names)
    installed = _joined(_manager().installed())
    return _one_or_all({name: installed.get(name, "") for name in checked})


def latest_version(*names: str, refresh: bool = True) -> str | dict[str, str]:
    """Return the version that an installation would bring; nothing if it would change nothing.

    CLI example: ``reactor call pkg.latest_version bash refresh=False``

    Args:
        *names: the packages; of several the answer is a dict.
        refresh: fetch the lists of packages before.
    """
    checked = _checked(names)
    _refresh(refresh)
    found = _manager().candidates(checked)
    return _one_or_all({name: found.get(name, "") for name in checked})


available_version = latest_version


def upgrade_available(name: str, refresh: bool = True) -> bool:
    """Say whether there is a newer version of an installed package.

    CLI example: ``reactor call pkg.upgrade_available bash``
    """
    return bool(version(name)) and bool(latest_version(name, refresh=refresh))


def list_upgrades(refresh: bool = True, dist_upgrade: bool = True) -> dict[str, str]:
    """Return the packages that an upgrade would change, with their new versions.

    CLI example: ``reactor call pkg.list_upgrades``

    Args:
        refresh: fetch the lists of packages before.
        dist_upgrade: also those for which other packages have to be installed or removed.
    """
    _refresh(refresh)
    return _manager().upgrades(whole=dist_upgrade)


def info_installed(*names: str) -> dict[str, dict[str, Any]]:
    """Return what is known of installed packages; without names, of all.

    CLI example: ``reactor call pkg.info_installed bash``
    """
    checked = _checked(names) if names else []
    found = _manager().info(checked)
    for name in checked:
        if name not in found:
            raise ExecutionError(f"the package {name!r} is not installed")
    return found


def file_list(*names: str) -> dict[str, list[str]]:
    """Return the files of installed packages: files, and errors.

    CLI example: ``reactor call pkg.file_list bash``
    """
    files: list[str] = []
    errors: list[str] = []
    for name in _checked(names):
        found = _manager().files(name)
        files += found or []
        errors += [f"the package {name!r} is not installed"] if found is None else []
    return {"errors": errors, "files": sorted(set(files))}


def owner(*paths: str) -> str | dict[str, str]:
    """Return the package that a file is of, or nothing; of several files a dict.

    CLI example: ``reactor call pkg.owner /usr/bin/env``
    """
    if not paths:
        raise InvocationError("no file is named: give its path")
    return _one_or_all({path: _manager().owner(_checked_path(path)) for path in paths})


def list_holds() -> list[str]:
    """Return the packages that are kept as they are.

    CLI example: ``reactor call pkg.list_holds``
    """
    return sorted(_manager().held())


# -- changes ------------------------------------------------------------------------------


def refresh_db() -> dict[str, bool | None]:
    """Fetch the lists of packages anew.

    CLI example: ``reactor call pkg.refresh_db``

    Returns:
        For each source true if it was new, ``None`` if it was not, false if it could not be had.
    """
    return _manager().refresh()


def install(
    name: str | None = None,
    refresh: bool = False,
    pkgs: list[Any] | None = None,
    version: str | None = None,
) -> Changes:
    """Install or upgrade packages, and return what changed; nothing if nothing did.

    CLI example: ``reactor call pkg.install nginx``

    Args:
        name: a package, several with commas, or the absolute path of a ``.deb`` or ``.rpm``.
        refresh: fetch the lists of packages before.
        pkgs: names or paths, or dicts of a name and a version.
        version: this one, also if it is older than what is there.

    Returns:
        Of each package that changed, those that came along included, its old and new version.
    """
    wanted = _packages.targets(name, pkgs, version)
    _refresh(refresh)
    return _difference(lambda: _manager().install(wanted))


def remove(name: str | None = None, pkgs: list[str] | None = None) -> Changes:
    """Remove packages, and return what changed; their configuration stays.

    CLI example: ``reactor call pkg.remove nginx``
    """
    names = _named(name, pkgs)
    installed = _manager().installed()
    present = [each for each in names if each in installed]
    return _difference(lambda: _manager().remove(present, purge=False)) if present else {}


def purge(name: str | None = None, pkgs: list[str] | None = None) -> Changes:
    """Remove packages and their configuration, and return what changed.

    CLI example: ``reactor call pkg.purge nginx``
    """
    names = _named(name, pkgs)
    known = {*_manager().installed(), *_manager().leftovers()}
    present = [each for each in names if each in known]
    if not present:
        return {}
    return _difference(lambda: _manager().remove(present, purge=True), leftovers=True)


def upgrade(refresh: bool = True, dist_upgrade: bool = False) -> Changes:
    """Upgrade all packages, and return what changed.

    CLI example: ``reactor call pkg.upgrade``

    Args:
        refresh: fetch the lists of packages before.
        dist_upgrade: also install and remove others, if that is needed.
    """
    _refresh(refresh)
    return _difference(lambda: _manager().upgrade(whole=dist_upgrade))


def hold(name: str | None = None, pkgs: list[str] | None = None) -> Changes:
    """Keep installed packages as they are, and return which were not kept before.

    CLI example: ``reactor call pkg.hold nginx``
    """
    names = _named(name, pkgs)
    installed = _manager().installed()
    for each in names:
        if each not in installed:
            raise ExecutionError(f"the package {each!r} is not installed: it cannot be held")
    return _set_held(names, held=True)


def unhold(name: str | None = None, pkgs: list[str] | None = None) -> Changes:
    """No longer keep packages as they are, and return which were kept before.

    CLI example: ``reactor call pkg.unhold nginx``
    """
    return _set_held(_named(name, pkgs), held=False)


# -- parts --------------------------------------------------------------------------------


def _manager() -> Manager:
    """Return this host's manager, found once a process."""
    manager: Manager | None = __context__.get(_MANAGER) or _find_manager()
    if manager is None:  # it was there when the module was loaded
        raise ExecutionError("the package manager of this host is gone")
    __context__[_MANAGER] = manager
    return manager


def _find_manager() -> Manager | None:
    for programs, manager in _MANAGERS:
        if all(map(shutil.which, programs)):
            return manager()
    return None


def _checked(names: Iterable[str]) -> list[str]:
    return _named(None, names)


def _named(name: str | None, pkgs: Iterable[str] | None) -> list[str]:
    return [_manager().known_as(each) for each in _packages.names(name, pkgs)]


def _checked_path(path: str) -> str:
    if not isinstance(path, str) or not path.startswith("/") or "\0" in path or "\n" in path:
        raise InvocationError(f"the path {str(path)[:80]!r} is not absolute: begin it with /")
    return path


def _joined(packages: Mapping[str, Iterable[str]]) -> dict[str, str]:
    return {name: ",".join(versions) for name, versions in packages.items()}


def _one_or_all(found: dict[str, str]) -> str | dict[str, str]:
    return next(iter(found.values())) if len(found) == 1 else found


def _refresh(wanted: bool) -> None:
    if wanted:
        _manager().refresh()


def _difference(act: Callable[[], None], *, leftovers: bool = False) -> Changes:
    before = _present(leftovers)
    act()
    return _packages.differences(before, _present(leftovers))


def _present(leftovers: bool) -> dict[str, str]:
    found = _joined(_manager().installed())
    return {**_manager().leftovers(), **found} if leftovers else found


def _set_held(names: list[str], *, held: bool) -> Changes:
    already = set(_manager().held())
    changed = [name for name in names if (name in already) != held]
    if changed:
        _manager().hold(changed, held=held)
    old, new = (_FREE, _HELD) if held else (_HELD, _FREE)
    return {name: {"old": old, "new": new} for name in changed}
