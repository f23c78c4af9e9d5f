"""Runs roles as a service: under the supervisor, and telling systemd of it."""

from __future__ import annotations

from collections.abc import Sequence

from reactor import systemd
from reactor.supervisor import Role, Supervisor


def run(roles: Sequence[Role]) -> int:
    """Run ``roles`` until SIGTERM or SIGINT; return the exit status."""
    return Supervisor(roles, on_ready=_tell_ready).run()


def _tell_ready() -> None:
    systemd.notify(systemd.READY)
