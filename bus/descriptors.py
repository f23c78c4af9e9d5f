"""How many files a process may have open: a master needs one for each of its minions."""

from __future__ import annotations

import logging
import resource

log = logging.getLogger(__name__)

_OWN = 200
"""Sockets, databases and logs of a role, generously."""


def raise_limit() -> int:
    """Let this process have as many files as the system grants it, and return how many.

    The limit in force is often 1,024 where the system would grant half a million: programs that
    use ``select`` stand no more, and ours do not use it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError) as error:
            log.debug("the limit of open files stays %d: %s", soft, error)
            return soft
    return hard


def warn_if_few(limit: int, connections: int, what: str) -> None:
    """Say so if there may be more connections than files.

    Args:
        limit: how many files this process may have; -1 for any number.
        connections: how many there may be.
        what: who connects.
    """
    if limit != resource.RLIM_INFINITY and connections + _OWN > limit:
        log.warning(
            "this process may have %d files open, and %d %s may connect: raise the limit "
            "(LimitNOFILE= of the service, or 'ulimit -n')",
            limit,
            connections,
            what,
        )
