"""What the pool keeps of itself: its limits, a job handed in, a worker process."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from bus import wire
from bus.errors import ConfigError
from bus.minion.jobs import Job, Result
from bus.minion.stream import Stream

IDLE_SECONDS = 30.0
"""How long a worker beyond the warm ones stays without a job."""
MAX_BACKOFF = 30.0
"""Seconds between attempts when workers cannot start."""

OnDone = Callable[[Result], None]


@dataclass(frozen=True, slots=True)
class Limits:
    """How large the pool may become.

    Attributes:
        warm: workers that always wait for jobs (``job_workers``).
        most: workers when many jobs run at once (``job_workers_max``).
        queue: jobs that may wait when all of them are busy.
        job_timeout: seconds that a job without a timeout of its own may run; 0: as long as it
            takes.
        max_event_size: the largest return in bytes.
        idle_seconds: how long a worker beyond ``warm`` stays without a job.
    """

    warm: int = 2
    most: int = 8
    queue: int = 10_000
    job_timeout: float = 0.0
    max_event_size: int = wire.DEFAULT_MAX_EVENT_SIZE
    idle_seconds: float = IDLE_SECONDS

    def __post_init__(self) -> None:
        if self.warm < 1:
            raise ConfigError(f"the option job_workers is {self.warm}: at least 1 is needed")
        if self.most < self.warm:
            object.__setattr__(self, "most", self.warm)


@dataclass(slots=True)
class Task:
    """A job that was handed in."""

    job: Job
    on_done: OnDone
    started: str = ""
    started_at: float = 0.0


class State(enum.Enum):
    """What a worker is at."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    LEAVING = "leaving"  # its socket is closed, so it ends by itself
    KILLED = "killed"
    LOST = "lost"  # its socket read end-of-file; how it ended comes from the nursery


LIVE = (State.STARTING, State.IDLE, State.BUSY)
"""The states of a worker that does or will take jobs."""


@dataclass(slots=True, eq=False)
class Member:
    """A worker process as the pool sees it.

    Attributes:
        generation: how many reloads there had been when it was started.
        deadline: when something has to be done about it, in seconds of the pool's clock.
        reason: why it was killed.
    """

    token: int
    stream: Stream
    fd: int
    generation: int
    deadline: float
    state: State = State.STARTING
    pid: int = 0
    task: Task | None = None
    reason: str = ""
    was_ready: bool = False


@dataclass(slots=True)
class StartFailures:
    """Workers that died before they were ready, in a row."""

    count: int = 0
    retry_at: float = 0.0

    def note(self, now: float) -> None:
        """One more: the next attempt is made later."""
        self.count += 1
        self.retry_at = now + min(MAX_BACKOFF, 0.25 * 2 ** min(self.count, 10))

    def clear(self) -> None:
        """Workers can start again."""
        self.count = 0
        self.retry_at = 0.0
