"""What a job may take of the host's memory, and who goes first when there is none left."""

from __future__ import annotations

import contextlib
import logging
import resource
from pathlib import Path

log = logging.getLogger(__name__)

_OOM_SCORE = Path("/proc/self/oom_score_adj")
GOES_FIRST = 500
"""Of 1,000: a worker that eats all memory is ended before the minion, and before the services of
the host; what jobs start inherits it."""


def bound(most: int) -> None:
    """Bound the memory of this process and of what it starts, each for itself.

    A function that wants more gets a `MemoryError`.

    Args:
        most: bytes of its own; 0 for as many as there are.
    """
    with contextlib.suppress(OSError):  # not on every system, and then it is as it was
        _OOM_SCORE.write_text(f"{GOES_FIRST}\n")
    if not most:
        return
    try:
        # Not the address space: programs reserve far more of that than they use.
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    except (OSError, ValueError) as error:
        log.warning("job_memory_max has no effect: %s", error)
