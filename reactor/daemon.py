"""Runs roles as a service: under the supervisor, and telling systemd of it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence

from reactor import systemd
from reactor.supervisor import Role, Supervisor

log = logging.getLogger(__name__)


def run(roles: Sequence[Role]) -> int:
    """Run ``roles`` until SIGTERM or SIGINT; return the exit status."""
    return Supervisor(
        roles,
        on_ready=lambda: _tell(systemd.READY),
        on_stop=lambda: _tell(systemd.STOPPING),
        on_turn=systemd.Watchdog(os.environ, os.getpid(), time.monotonic),
    ).run()


def say_defaults(role: str, directory: object, meaning: str) -> None:
    """Say that nothing is configured: what starts then may not be what somebody meant.

    Args:
        role: ``master`` or ``minion``, as the file is called.
        directory: where the file was looked for.
        meaning: what the defaults mean most of all.
    """
    log.warning(
        "there is no file %s/%s, so all options have their defaults: %s; make the file, "
        "even an empty one, or name another directory with --config",
        directory,
        role,
        meaning,
    )


def _tell(state: str) -> None:
    systemd.notify(state)
