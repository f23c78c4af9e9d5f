"""Starts, stops and asks about services: with systemd, else with the scripts of SysV init."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from bus.modules._errors import ExecutionError, InvocationError
from bus.modules._process import Command, Outcome, run

__opts__: Mapping[str, Any]
__context__: dict[str, Any]

_SYSTEMD_RUNS = Path("/run/systemd/system")  # sd_booted(3)
_NAME = re.compile(r"[A-Za-z0-9@_.:\\][A-Za-z0-9@_.:\\-]*")
_SECONDS = 300.0
"""A service that does not start within this (systemd gives up after 90) hangs."""

_PROVIDER = "service.provider"


class _Provider(Protocol):
    """How one kind of service manager is spoken to."""

    def act(self, action: str, name: str) -> Outcome: ...
    def is_running(self, name: str) -> bool: ...
    def is_enabled(self, name: str) -> bool: ...
    def names(self) -> list[str]: ...
    def knows(self, name: str) -> bool: ...


class _Systemd:
    """The program ``systemctl``."""

    def act(self, action: str, name: str) -> Outcome:
        return _program("systemctl", action, _unit(name))

    def is_running(self, name: str) -> bool:
        return _program("systemctl", "is-active", "--quiet", _unit(name)).returncode == 0

    def is_enabled(self, name: str) -> bool:
        return _program("systemctl", "is-enabled", "--quiet", _unit(name)).returncode == 0

    def names(self) -> list[str]:
        listed = _program(
            "systemctl", "list-unit-files", "--type=service", "--no-legend", "--no-pager", "--full"
        )
        return [line.split()[0].removesuffix(".service") for line in _lines(listed.stdout)]

    def knows(self, name: str) -> bool:
        shown = _program("systemctl", "show", "--property=LoadState", "--value", _unit(name))
        return shown.stdout.strip() not in {"", "not-found"}


class _SysV:
    """The program ``service`` and the links below ``/etc/rc?.d``."""

    def act(self, action: str, name: str) -> Outcome:
        if action in {"enable", "disable"}:
            return _program("update-rc.d", name, action)
        return _program("service", name, action)

    def is_running(self, name: str) -> bool:
        return self.act("status", name).returncode == 0

    def is_enabled(self, name: str) -> bool:
        return any(
            re.fullmatch(rf"S\d+{re.escape(name)}", link.name)
            for link in Path("/etc").glob("rc[2345S].d/S*")
        )

    def names(self) -> list[str]:
        return [script.name for script in Path("/etc/init.d").glob("*") if script.is_file()]

    def knows(self, name: str) -> bool:
        return name in self.names()


def start(name: str) -> bool:
    """Start a service; true once the manager says that it did.

    CLI example: ``reactor cmd web1 service.start nginx``
    """
    return _act("start", name)


def stop(name: str) -> bool:
    """Stop a service.

    CLI example: ``reactor cmd web1 service.stop nginx``
    """
    return _act("stop", name)


def restart(name: str) -> bool:
    """Stop and start a service.

    CLI example: ``reactor cmd web1 service.restart nginx``
    """
    return _act("restart", name)


def reload(name: str) -> bool:
    """Let a service read its configuration again.

    CLI example: ``reactor cmd web1 service.reload nginx``
    """
    return _act("reload", name)


def enable(name: str) -> bool:
    """Start a service at each boot.

    CLI example: ``reactor cmd web1 service.enable nginx``
    """
    return _act("enable", name)


def disable(name: str) -> bool:
    """Do not start a service at boot.

    CLI example: ``reactor cmd web1 service.disable nginx``
    """
    return _act("disable", name)


def status(name: str) -> bool:
    """Say whether a service runs.

    CLI example: ``reactor cmd web1 service.status nginx``
    """
    return _provider().is_running(_checked(name))


def enabled(name: str) -> bool:
    """Say whether a service is started at boot.

    CLI example: ``reactor cmd web1 service.enabled nginx``
    """
    return _provider().is_enabled(_checked(name))


def disabled(name: str) -> bool:
    """Say whether a service is not started at boot.

    CLI example: ``reactor cmd web1 service.disabled nginx``
    """
    return not enabled(name)


def available(name: str) -> bool:
    """Say whether there is such a service.

    CLI example: ``reactor cmd web1 service.available nginx``
    """
    return _provider().knows(_checked(name))


def missing(name: str) -> bool:
    """Say whether there is no such service.

    CLI example: ``reactor cmd web1 service.missing nginx``
    """
    return not available(name)


def get_all() -> list[str]:
    """Return the names of all services.

    CLI example: ``reactor cmd web1 service.get_all``
    """
    return sorted(set(_provider().names()))


def _act(action: str, name: str) -> bool:
    """Do it; what went wrong is in the error, for a bare ``false`` helps nobody."""
    outcome = _provider().act(action, _checked(name))
    if outcome.timed_out:
        raise ExecutionError(f"service {name}: {action} did not end within {_SECONDS:g} seconds")
    if outcome.returncode != 0:
        said = " ".join((outcome.stderr or outcome.stdout).split()) or "it says nothing"
        raise ExecutionError(
            f"service {name}: {action} failed with status {outcome.returncode}: {said}"
        )
    return True


def _checked(name: str) -> str:
    if not _NAME.fullmatch(str(name)):
        raise InvocationError(f"{str(name)[:80]!r} is no name of a service")
    return str(name)


def _unit(name: str) -> str:
    """A name without a known ending is a service; ``systemctl`` would guess the same."""
    return name if "." in name else f"{name}.service"


def _provider() -> _Provider:
    """Return the manager of this host, found once a process."""
    provider: _Provider = __context__.get(_PROVIDER) or _find_provider()
    __context__[_PROVIDER] = provider
    return provider


def _find_provider() -> _Provider:
    if shutil.which("systemctl") and (_SYSTEMD_RUNS.is_dir() or _systemd_answers()):
        return _Systemd()
    if shutil.which("service"):
        return _SysV()
    raise ExecutionError("no service manager on this host: neither systemctl nor service works")


def _systemd_answers() -> bool:
    """In a container the program may be there without what it speaks to."""
    asked = _program("systemctl", "is-system-running")
    return asked.returncode == 0 or asked.stdout.strip() not in {"", "offline", "unknown"}


def _program(*argv: str) -> Outcome:
    return run(Command(argv, timeout=_SECONDS))


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]
