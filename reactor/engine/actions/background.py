"""What actions have in common that wait for something outside: a thread, and the way back."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

from bus.errors import BusError
from reactor.engine.actions import Done
from reactor.engine.pool import Mailbox, WorkerPool

log = logging.getLogger(__name__)

Work = Callable[[], tuple[Any, str | None]]
"""Does it, and returns the result and the error."""


class Background:
    """Threads for calls that wait; made when the first one is needed.

    Args:
        make_pool: makes the threads.
        mailbox: the way back to the engine's loop.
    """

    def __init__(self, make_pool: Callable[[], WorkerPool], mailbox: Mailbox) -> None:
        self._make_pool = make_pool
        self._mailbox = mailbox
        self._pool: WorkerPool | None = None

    @property
    def waiting(self) -> int:
        """How many calls no thread has begun."""
        return self._pool.waiting if self._pool else 0

    @property
    def is_full(self) -> bool:
        """Whether so many wait that no further event should be read."""
        return self._pool is not None and self._pool.is_full

    def run(self, work: Work, done: Done) -> None:
        """Have a thread do it, and the loop hear of it."""
        if self._pool is None:
            self._pool = self._make_pool()
        self._pool.submit(functools.partial(self._run, work, done))

    def close(self, timeout: float) -> None:
        """Let the threads end."""
        if self._pool is not None:
            self._pool.close(timeout)

    def _run(self, work: Work, done: Done) -> None:
        try:
            result, error = work()
        except BusError as problem:
            result, error = None, str(problem)
        except Exception as problem:  # the boundary of a thread: the reaction has to end
            log.exception("an action ended in an unexpected way")
            result, error = None, f"{type(problem).__name__}: {problem}"
        self._mailbox.put(lambda: done(result, error))
