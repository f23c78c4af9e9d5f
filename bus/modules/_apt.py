"""Speaks to apt and dpkg for the module ``pkg``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bus.modules._errors import ExecutionError
from bus.modules._packages import Target, change, last_line, query
from bus.modules._process import Outcome

PROGRAMS = ("apt-get", "apt-cache", "apt-mark", "dpkg", "dpkg-query")

_INSTALLED = {"installed", "triggers-awaited", "triggers-pending"}
_LEFT = "config-files"
_APT_GET = (
    "apt-get", "--quiet", "--assume-yes",
    # A changed configuration file stays as it is; a new default is for those who kept the old one.
    "-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold",
    # With a terminal of its own, dpkg's errors come on the standard output.
    "-o", "Dpkg::Use-Pty=0",
)  # fmt: skip
_UPGRADE = re.compile(r"^Inst (\S+) \[[^\]]*\] \((\S+)", re.MULTILINE)
_SOURCE = re.compile(r"^(Get|Hit|Ign|Err):\d+ (.*?)(?: \[[^\]]*\])?$")
_FETCHED: dict[str, bool | None] = {"Get": True, "Hit": None, "Ign": False, "Err": False}
_LOCKED = re.compile(r"Could not get lock|was locked by another process")
_GLOB = re.compile(r"([*?\[\\])")
_INFO = {
    "version": "Version",
    "arch": "Architecture",
    "source": "source:Package",
    "group": "Section",
    "packager": "Maintainer",
    "url": "Homepage",
    "size": "Installed-Size",
    "description": "binary:Summary",
    "install_date_time_t": "db-fsys:Last-Modified",
}
_NUMBERS = {"size": 1024, "install_date_time_t": 1}  # dpkg counts sizes in KiB


class Apt:
    """apt-get, apt-cache, apt-mark and dpkg-query."""

    def __init__(self) -> None:
        self._native = ""

    def installed(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for state, name, version in self._known():
            if state in _INSTALLED:
                found.setdefault(name, []).append(version)
        return found

    def leftovers(self) -> dict[str, str]:
        return {name: version for state, name, version in self._known() if state == _LEFT}

    def _known(self) -> Iterator[tuple[str, str, str]]:
        for state, name, arch, version in _show(
            "db:Status-Status", "Package", "Architecture", "Version"
        ):
            yield state, self._name(name, arch), version

    def known_as(self, name: str) -> str:
        bare, _, arch = name.partition(":")
        return self._name(bare, arch)

    def _name(self, name: str, arch: str) -> str:
        """Only packages for another kind of processor have it in their name."""
        if not self._native:
            self._native = query("dpkg", "--print-architecture").stdout.strip()
        return name if arch in {self._native, "all", ""} else f"{name}:{arch}"

    def candidates(self, names: Sequence[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        name = ""
        for line in _asked("apt-cache", "policy", "--", *names).splitlines():
            if not line.startswith(" "):
                name = line.rstrip(":")
            label, _, value = line.strip().partition(": ")
            if label == "Candidate" and value != "(none)":
                found[name] = value
        installed = self.installed()
        return {
            name: version
            for name, version in found.items()
            if _is_newer(version, installed.get(name, []))
        }

    def upgrades(self, *, whole: bool) -> dict[str, str]:
        command = "dist-upgrade" if whole else "upgrade"
        return dict(_UPGRADE.findall(_asked(*_APT_GET, "--simulate", command)))

    def install(self, targets: Sequence[Target]) -> None:
        # Who names a version wants that one, also if it is older.
        exact = ["--allow-downgrades"] if any(target.version for target in targets) else []
        _changed(*_APT_GET, *exact, "install", "--", *map(_word, targets))

    def remove(self, names: Sequence[str], *, purge: bool) -> None:
        _changed(*_APT_GET, "purge" if purge else "remove", "--", *names)

    def upgrade(self, *, whole: bool) -> None:
        _changed(*_APT_GET, "dist-upgrade" if whole else "upgrade")

    def refresh(self) -> dict[str, bool | None]:
        lines = _changed(*_APT_GET, "update").splitlines()
        found = (match for line in lines if (match := _SOURCE.match(line)))
        sources: dict[str, bool | None] = {}
        for match in found:
            outcome = _FETCHED[match[1]]
            # One source is several files: it is new if one of them is.
            sources[match[2]] = sources.get(match[2]) or outcome
        return sources

    def held(self) -> list[str]:
        return _asked("apt-mark", "showhold").split()

    def hold(self, names: Sequence[str], *, held: bool) -> None:
        _changed("apt-mark", "hold" if held else "unhold", "--", *names)

    def owner(self, path: str) -> str:
        for place in _places(path):
            # dpkg-query takes globs; here a star is only a star.
            outcome = query("dpkg-query", "--search", "--", _GLOB.sub(r"\\\1", place))
            for line in outcome.stdout.splitlines():
                names, _, found = line.rpartition(": ")
                if found == place and not names.startswith("diversion by "):
                    return ", ".join(map(self.known_as, names.split(", ")))
        return ""

    def files(self, name: str) -> list[str] | None:
        outcome = query("dpkg-query", "--listfiles", "--", name)
        if outcome.returncode != 0:
            return None
        return [
            line for line in outcome.stdout.splitlines() if line.startswith("/") and line != "/."
        ]

    def info(self, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        fields = ("db:Status-Status", "Package", "Architecture", *_INFO.values())
        return {
            self._name(name, arch): _described(values)
            for state, name, arch, *values in _show(*fields, names=names)
            if state in _INSTALLED
        }


def _show(*fields: str, names: Sequence[str] = ()) -> Iterator[list[str]]:
    """Yield fields of the packages that dpkg knows; names that it does not know are left out."""
    line = "\t".join(f"${{{field}}}" for field in fields)
    outcome = query("dpkg-query", "--show", f"--showformat={line}\n", "--", *names)
    if outcome.returncode != 0 and not names:
        raise ExecutionError(f"dpkg-query: {last_line(outcome.stderr)}")
    for shown in outcome.stdout.splitlines():
        values = shown.split("\t")
        if len(values) == len(fields):
            yield values


def _described(values: Sequence[str]) -> dict[str, Any]:
    pairs = {name: value for name, value in zip(_INFO, values, strict=True) if value}
    return {
        name: int(value) * _NUMBERS[name] if name in _NUMBERS and value.isdigit() else value
        for name, value in pairs.items()
    }


def _is_newer(version: str, installed: Sequence[str]) -> bool:
    """A candidate may be older than what is there, or the same."""
    return version not in installed and not any(
        query("dpkg", "--compare-versions", version, "lt", old).returncode == 0 for old in installed
    )


def _word(target: Target) -> str:
    if target.file:
        return target.file
    return f"{target.name}={target.version}" if target.version else target.name


def _places(path: str) -> list[str]:
    """Return the names that dpkg may know a file by: ``/bin`` is ``/usr/bin`` today."""
    found = [path, path.removeprefix("/usr") if path.startswith("/usr/") else f"/usr{path}"]
    return [place for place in found if place == path or _is_same(place, path)]


def _is_same(one: str, other: str) -> bool:
    try:
        return Path(one).parent.samefile(Path(other).parent)
    except OSError:
        return False


def _asked(*argv: str) -> str:
    outcome = query(*argv)
    if outcome.returncode != 0:
        raise ExecutionError(f"{argv[0]}: {_reason(outcome)}")
    return outcome.stdout


def _changed(*argv: str) -> str:
    return change(*argv, reason=_reason, is_locked=_is_locked)


def _is_locked(text: str) -> bool:
    return _LOCKED.search(text) is not None


def _reason(outcome: Outcome) -> str:
    """Return the line that tells most: who has the lock, what dpkg could not do, apt's error."""
    lines = [line.strip() for line in outcome.stderr.splitlines() if line.strip()]
    for number, line in enumerate(lines):
        if _is_locked(line):
            return line.removeprefix("E: ")
        if line.startswith("dpkg: error processing"):
            return " ".join(lines[number : number + 2])
    return _last(lines, _is_error) or _last(lines, bool) or f"status {outcome.returncode}"


def _is_error(line: str) -> bool:
    """That a part of apt failed is not why it failed."""
    return line.startswith("E: ") and not line.startswith("E: Sub-process")


def _last(lines: Sequence[str], wanted: Callable[[str], bool]) -> str:
    return next((line.removeprefix("E: ") for line in reversed(lines) if wanted(line)), "")
