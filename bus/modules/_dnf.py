"""Speaks to dnf and rpm for the module ``pkg``. Versions are rpm's: ``epoch:version-release``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from bus.modules._errors import ExecutionError
from bus.modules._packages import Target, change, last_line, query
from bus.modules._process import Outcome

PROGRAMS = ("dnf", "rpm")

_EVR = "%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}"
_KEYS = "gpg-pubkey"  # rpm keeps the keys that it trusts among the packages
_INFO = {
    "version": _EVR,
    "arch": "%{ARCH}",
    "source": "%{SOURCERPM}",
    "group": "%{GROUP}",
    "packager": "%{PACKAGER}",
    "url": "%{URL}",
    "license": "%{LICENSE}",
    "size": "%{SIZE}",
    "description": "%{SUMMARY}",
    "install_date_time_t": "%{INSTALLTIME}",
}
_NUMBERS = {"size", "install_date_time_t"}
_NONE = "(none)"
_LOCKED = re.compile(r"already locked by \d+")
_AVAILABLE = r"%{name}\t%{evr}\n"


class Dnf:
    """dnf (4 or 5) and rpm."""

    def __init__(self) -> None:
        self._options: list[str] | None = None

    def installed(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name, version in _rows("rpm", "--query", "--all", "--queryformat", _format(_EVR)):
            if name != _KEYS:
                found.setdefault(name, []).append(version)
        return found

    def known_as(self, name: str) -> str:
        return name

    def leftovers(self) -> dict[str, str]:
        """Nothing: rpm keeps nothing of a package that was removed."""
        return {}

    def candidates(self, names: Sequence[str]) -> dict[str, str]:
        installed = self.installed()
        newer = self.upgrades(whole=True)
        others = [name for name in names if name not in installed]
        found = {name: newer[name] for name in names if name in newer}
        return found | (_available("--latest-limit=1", *others) if others else {})

    def upgrades(self, *, whole: bool) -> dict[str, str]:  # noqa: ARG002 - dnf has one way
        return _available("--upgrades", "--latest-limit=1")

    def install(self, targets: Sequence[Target]) -> None:
        self._change("install", *map(_word, targets))

    def remove(self, names: Sequence[str], *, purge: bool) -> None:  # noqa: ARG002 - the same
        self._change("remove", *names)

    def upgrade(self, *, whole: bool) -> None:  # noqa: ARG002 - dnf has one way
        self._change("upgrade")

    def refresh(self) -> dict[str, bool | None]:
        self._change("--refresh", "makecache")
        listed = _lines(_asked("dnf", "--quiet", "repolist"))
        return {line.split()[0]: True for line in listed[1:]}  # the first line is the heading

    def _change(self, *words: str) -> None:
        if self._options is None:
            self._options = _lock_options()
        argv = ("dnf", "--assumeyes", "--quiet", *self._options, *words)
        change(*argv, reason=_reason, is_locked=_is_locked)

    def held(self) -> list[str]:
        raise ExecutionError(_NO_HOLDS)

    def hold(self, names: Sequence[str], *, held: bool) -> None:  # noqa: ARG002 - see below
        raise ExecutionError(_NO_HOLDS)

    def owner(self, path: str) -> str:
        asked = query("rpm", "--query", "--file", "--queryformat", r"%{NAME}\n", "--", path)
        return ", ".join(dict.fromkeys(_lines(asked.stdout))) if asked.returncode == 0 else ""

    def files(self, name: str) -> list[str] | None:
        asked = query("rpm", "--query", "--list", "--", name)
        if asked.returncode != 0:
            return None
        return [line for line in _lines(asked.stdout) if line.startswith("/")]

    def info(self, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        which = ["--", *names] if names else ["--all"]
        rows = _rows("rpm", "--query", "--queryformat", _format(*_INFO.values()), *which)
        return {name: _described(values) for name, *values in rows if name != _KEYS}


_NO_HOLDS = "pkg holds nothing with dnf: use its plugin, 'dnf versionlock'"


def _format(*fields: str) -> str:
    return r"\t".join(("%{NAME}", *fields)) + r"\n"


def _rows(*argv: str) -> Iterator[list[str]]:
    """Yield what is between tabs; a line without any says that a package is not installed."""
    for line in _lines(query(*argv).stdout):
        if "\t" in line:
            yield line.split("\t")


def _available(*words: str) -> dict[str, str]:
    text = _asked("dnf", "--quiet", "repoquery", "--queryformat", _AVAILABLE, *words)
    rows = (line.split("\t") for line in _lines(text) if "\t" in line)
    return {name: version.removeprefix("0:") for name, version in rows}


def _described(values: Sequence[str]) -> dict[str, Any]:
    pairs = zip(_INFO, values, strict=False)
    return {
        name: int(value) if name in _NUMBERS and value.isdigit() else value
        for name, value in pairs
        if value != _NONE
    }


def _word(target: Target) -> str:
    if target.file:
        return target.file
    return f"{target.name}-{target.version}" if target.version else target.name


def _asked(*argv: str) -> str:
    outcome = query(*argv)
    if outcome.returncode != 0:
        raise ExecutionError(f"dnf: {_reason(outcome)}")
    return outcome.stdout


def _lock_options() -> list[str]:
    """Return what keeps dnf 4 from waiting for a lock for ever; dnf 5 does not know it."""
    return ["--setopt=exit_on_lock=1"] if _asked("dnf", "--version").startswith("4.") else []


def _is_locked(text: str) -> bool:
    return _LOCKED.search(text) is not None


def _reason(outcome: Outcome) -> str:
    locked = next(filter(_is_locked, outcome.stderr.splitlines()), "")
    if locked:
        return locked
    said = last_line(outcome.stderr) or last_line(outcome.stdout)
    return said.removeprefix("Error: ") or f"status {outcome.returncode}"


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]
