"""The pool of warm job workers: hands out jobs, takes results, replaces what dies or hangs.

It has no thread and no loop. The minion's loop polls the descriptors that it registers, calls
`Pool.handle` for each that is ready, and `Pool.tick` once a turn.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Protocol

import zmq

from bus import wire
from bus.errors import DataError, WireError
from bus.minion.jobs import Job, Result, describe_exit
from bus.minion.members import LIVE, Limits, Member, OnDone, StartFailures, State, Task
from bus.minion.nursery import EXITED, FAILED, STARTED, Nursery, NurseryError, Report
from bus.minion.stream import Stream
from bus.minion.worker import LAST, PROGRESS, READY

log = logging.getLogger(__name__)

START_SECONDS = 60.0
"""How long a worker may load functions and grains before it is given up."""
LEAVE_SECONDS = 5.0
"""How long a worker that was told or made to end may take."""
LOST_SECONDS = 1.0
"""How long the nursery's report may come after the end-of-file of a worker."""
_LONG = 60.0
_FRAME_ROOM = 1 << 20
"""Bytes of a worker's message besides the return: the host's grains are the longest of it."""

OnReady = Callable[[dict[str, Any]], None]
OnProgress = Callable[[Job, int, Any], None]


class Poller(Protocol):
    """What the pool needs of ``zmq.Poller``."""

    def register(self, socket: int, flags: int = ...) -> None:
        """Poll a descriptor, or poll it for something else."""

    def unregister(self, socket: int) -> None:
        """Poll it no longer."""


def _ignore(*_told: object) -> None:
    """The hook of whoever need not be told."""


class Pool:
    """The job workers of a minion.

    Args:
        nursery: where workers are forked.
        poller: the loop's poller, in which the pool registers its descriptors.
        limits: sizes and times.
        on_ready: told of a fresh worker, with the host's grains as it loaded them.
        on_progress: told of each step of a function that is a generator.
        clock: seconds that never run backwards.
    """

    def __init__(
        self,
        nursery: Nursery,
        poller: Poller,
        limits: Limits,
        *,
        on_ready: OnReady = _ignore,
        on_progress: OnProgress = _ignore,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._nursery = nursery
        self._poller = poller
        self._limits = limits
        self._clock = clock
        self._on_ready = on_ready
        self._on_progress = on_progress
        self._workers: dict[int, Member] = {}
        self._by_fd: dict[int, Member] = {}
        self._idle: list[Member] = []
        self._queue: deque[Task] = deque()
        self._failures = StartFailures()
        self._last_token = 0
        self._generation = 0
        self._closed = False
        self._ended = False
        poller.register(nursery.fileno(), zmq.POLLIN)

    # -- what the minion asks for ---------------------------------------------------------

    def start(self) -> None:
        """Start the warm workers."""
        self._fill()

    def submit(self, job: Job, on_done: OnDone) -> None:
        """Run a job as soon as a worker is free.

        Args:
            job: the job.
            on_done: told of the result, once, perhaps before this returns.
        """
        if self._closed:
            on_done(Result.failed("the minion is being stopped: the job did not run"))
            return
        if len(self._queue) >= self._limits.queue:
            self.counters["refused"] += 1
            log.error("refused the job %s (%s): the job queue is full", job.jid, job.name)
            on_done(
                Result.failed(
                    f"{self._limits.queue} jobs wait already: the job did not run; "
                    "send fewer at once, or raise the option job_workers_max"
                )
            )
            return
        self._queue.append(Task(job, on_done))
        self._dispatch()

    def running(self) -> list[dict[str, Any]]:
        """Return the jobs that run now: jid, fun, pid, user, started (ISO 8601), seconds."""
        now = self._clock()
        return [
            {
                "jid": worker.task.job.jid,
                "fun": worker.task.job.fun,
                "user": worker.task.job.user,
                "pid": worker.pid,
                "started": worker.task.started,
                "seconds": round(now - worker.task.started_at, 3),
            }
            for worker in self._workers.values()
            if worker.task
        ]

    def find(self, jid: str) -> dict[str, Any]:
        """Return a job that runs, or that waits for a worker; empty if there is none."""
        for job in self.running():
            if job["jid"] == jid:
                return job
        waiting = (task.job for task in self._queue if task.job.jid == jid)
        return next(({"jid": jid, "fun": one.fun, "user": one.user} for one in waiting), {})

    def status(self) -> dict[str, Any]:
        """Return how many workers and jobs there are, and the counters."""
        states = Counter(worker.state.value for worker in self._workers.values())
        return {
            "workers": dict(states),
            "queued": len(self._queue),
            "counters": dict(self.counters),
        }

    @property
    def busy(self) -> bool:
        """Whether a job runs or waits."""
        return bool(self._queue) or any(worker.task for worker in self._workers.values())

    def kill(self, jid: str) -> bool:
        """End a job that runs or waits; False if there is none with this id."""
        for worker in self._workers.values():
            if worker.task and worker.task.job.jid == jid:
                self._kill(worker, "was killed on request")
                return True
        for task in self._queue:
            if task.job.jid == jid:
                self._queue.remove(task)
                self._finish(task, Result.failed(f"{task.job.name} was killed before it ran"))
                return True
        return False

    def kill_all(self) -> list[str]:
        """End all jobs, those that wait too; return their ids."""
        waiting = [task.job.jid for task in self._queue]
        running = [worker.task.job.jid for worker in self._workers.values() if worker.task]
        # Those that wait first: one that runs would make room for them.
        return sorted(jid for jid in [*waiting, *running] if self.kill(jid))

    def signal(self, jid: str, number: int) -> bool:
        """Send a signal to a running job and the processes that it started.

        Args:
            jid: the job's id.
            number: of the signal.

        Returns:
            Whether it runs here; one that waits for a worker does not.
        """
        for worker in self._workers.values():
            if worker.task and worker.task.job.jid == jid and worker.pid:
                with contextlib.suppress(ProcessLookupError):  # it ended a moment ago
                    os.killpg(worker.pid, number)
                return True
        return False

    def reload(self) -> None:
        """Replace every worker by a fresh one, the busy ones when they are done.

        A job that is handed in from now on runs in a fresh worker.
        """
        self._generation += 1
        for worker in list(self._workers.values()):
            if worker.state in (State.STARTING, State.IDLE):
                self._dismiss(worker)
        self._failures.clear()
        self._dispatch()

    def close(self, deadline: float = 0.0) -> None:
        """End all workers, and the nursery.

        Args:
            deadline: until when, in seconds of the clock, running jobs may end by themselves.
        """
        if self._ended:
            return
        self._closed = self._ended = True
        while (task := self._next_task()) is not None:
            self._finish(task, Result.failed("the minion was stopped: the job did not run"))
        with contextlib.suppress(NurseryError):  # then all jobs were failed already
            self._wait(deadline)
        for worker in self._workers.values():
            self._dismiss(worker)
        self._workers.clear()
        self._idle.clear()
        self._poller.unregister(self._nursery.fileno())
        self._nursery.close()

    # -- the loop's calls -----------------------------------------------------------------

    def handle(self, fd: int) -> None:
        """Read and write what one of the pool's descriptors is ready for.

        Raises:
            NurseryError: the nursery is gone, so no worker can be started; all jobs were failed.
        """
        if fd == self._nursery.fileno():
            self._handle_reports()
        elif fd in self._by_fd:
            self._handle_worker(self._by_fd[fd])

    def owns(self, fd: object) -> bool:
        """Say whether `handle` is to be called for this descriptor."""
        return fd in self._by_fd or fd == self._nursery.fileno()

    def tick(self, now: float) -> float:
        """Do what is due, and return the seconds until something else is."""
        for worker in list(self._workers.values()):
            if worker.deadline <= now:
                self._expire(worker, now)
        self._dispatch()
        due = [worker.deadline for worker in self._workers.values()]
        if self._failures.retry_at > now:
            due.append(self._failures.retry_at)
        return min(max(min(due, default=now + _LONG) - now, 0.0), _LONG)

    # -- jobs -----------------------------------------------------------------------------

    def _dispatch(self) -> None:
        while self._queue and self._idle:
            worker = self._idle.pop()
            task = self._queue.popleft()
            self._give(worker, task)
        self._fill()

    def _give(self, worker: Member, task: Task) -> None:
        seconds = task.job.timeout or self._limits.job_timeout
        now = self._clock()
        task.started, task.started_at = wire.stamp(), now
        worker.task = task
        self._turn(worker, State.BUSY, now + seconds if seconds else float("inf"))
        worker.reason = f"timed out after {seconds:g} s"
        try:
            worker.stream.send(task.job.as_message())
        except DataError as error:
            worker.task = None
            self._free(worker)
            self._finish(task, Result.failed(f"ERROR: {error}"))
            return
        self._watch(worker)

    def _finish(self, task: Task, result: Result) -> None:
        self.counters["done" if result.success else "failed"] += 1
        task.on_done(result)

    def _next_task(self) -> Task | None:
        return self._queue.popleft() if self._queue else None

    # -- workers --------------------------------------------------------------------------

    def _fill(self) -> None:
        """Start the workers that are missing."""
        while not self._closed and self._is_short():
            try:
                self._spawn()
            except OSError as error:
                self._note_start_failure(f"could not be started: {error.strerror}")

    def _is_short(self) -> bool:
        if self._failures.count and self._clock() < self._failures.retry_at:
            return False
        live = [worker for worker in self._workers.values() if worker.state in LIVE]
        if len(live) >= self._limits.most:
            return False
        fresh = sum(worker.generation == self._generation for worker in live)
        free = sum(worker.state is not State.BUSY for worker in live)
        return fresh < self._limits.warm or free < len(self._queue)

    def _spawn(self) -> None:
        self._last_token += 1
        sock = self._nursery.spawn(self._last_token)
        now = self._clock()
        worker = Member(
            token=self._last_token,
            stream=Stream(sock, self._limits.max_event_size + _FRAME_ROOM),
            fd=sock.fileno(),
            generation=self._generation,
            deadline=now + START_SECONDS,
        )
        self._workers[worker.token] = worker
        self._by_fd[worker.fd] = worker
        self._poller.register(worker.fd, zmq.POLLIN)
        self.counters["workers_started"] += 1

    def _turn(self, worker: Member, state: State, deadline: float) -> None:
        if worker in self._idle:
            self._idle.remove(worker)
        worker.state = state
        worker.deadline = deadline

    def _free(self, worker: Member) -> None:
        """Let a worker have the next job, or end it if it knows only old functions."""
        if worker.generation != self._generation or self._closed:
            self._dismiss(worker)
            return
        self._turn(worker, State.IDLE, self._clock() + self._limits.idle_seconds)
        self._idle.append(worker)

    def _dismiss(self, worker: Member) -> None:
        self._shut(worker)
        if worker.state is State.STARTING:  # it may be long until it reads its socket
            self._nursery.kill(worker.token)
        self._turn(worker, State.LEAVING, self._clock() + LEAVE_SECONDS)

    def _kill(self, worker: Member, reason: str) -> None:
        self._turn(worker, State.KILLED, self._clock() + LEAVE_SECONDS)
        worker.reason = reason
        self._nursery.kill(worker.token)

    def _shut(self, worker: Member) -> None:
        """Close a worker's socket."""
        if self._is_open(worker):
            del self._by_fd[worker.fd]
            self._poller.unregister(worker.fd)
        worker.stream.close()

    def _is_open(self, worker: Member) -> bool:
        """Whether the socket is still polled; its number may be another worker's by now."""
        return self._by_fd.get(worker.fd) is worker

    def _watch(self, worker: Member) -> None:
        flags = zmq.POLLIN | (zmq.POLLOUT if worker.stream.wants_write else 0)
        if self._is_open(worker):
            self._poller.register(worker.fd, flags)

    def _expire(self, worker: Member, now: float) -> None:
        """Do what a worker's deadline calls for."""
        if worker.state is State.IDLE:
            self._expire_idle(worker, now)
        elif worker.state is State.STARTING:
            log.error("a job worker was not ready after %g s: killed", START_SECONDS)
            self._kill(worker, "did not start in time")
        elif worker.state is State.BUSY:
            self._kill(worker, worker.reason)
        elif worker.state is State.LEAVING:
            self._kill(worker, "did not end by itself")
        else:
            self._bury(worker, None)

    def _expire_idle(self, worker: Member, now: float) -> None:
        live = sum(one.state in LIVE for one in self._workers.values())
        if live > self._limits.warm:
            self._dismiss(worker)
        else:
            worker.deadline = now + self._limits.idle_seconds

    # -- what comes back ------------------------------------------------------------------

    def _handle_worker(self, worker: Member) -> None:
        worker.stream.flush()
        self._read(worker)
        if worker.stream.ended and self._is_open(worker):
            self._lose(worker)
        else:
            self._watch(worker)
        self._dispatch()

    def _read(self, worker: Member) -> None:
        try:
            for message in worker.stream.receive():
                self._take(worker, message)
        except WireError as error:
            # Without its trace: that is the minion's, and the fault is the worker's.
            log.error("a job worker (pid %d) sent nonsense: %s", worker.pid, error)  # noqa: TRY400 - see above
            worker.stream.ended = True

    def _lose(self, worker: Member) -> None:
        """A worker's end of the socket is closed: see to it that the worker is gone too."""
        self._shut(worker)
        if worker.state in LIVE:
            self._turn(worker, State.LOST, self._clock() + LOST_SECONDS)
            worker.reason = ""
            self._nursery.kill(worker.token)

    def _take(self, worker: Member, message: Any) -> None:
        if not isinstance(message, dict):
            raise WireError("a message that is no dict")
        if message.get("kind") == READY:
            self._take_ready(worker, message)
        elif worker.task is None or message.get("jid") != worker.task.job.jid:
            raise WireError("a message about a job that it does not run")
        elif message.get("kind") == PROGRESS:
            number = message.get("number")
            self._on_progress(
                worker.task.job, number if isinstance(number, int) else 0, message.get("data")
            )
        else:
            last = bool(message.get(LAST))
            self._take_result(worker, worker.task, Result.from_message(message), last=last)

    def _take_ready(self, worker: Member, message: dict[str, Any]) -> None:
        if worker.state is not State.STARTING:
            return
        worker.was_ready = True
        self._failures.clear()
        grains = message.get("grains")
        self._free(worker)
        self._on_ready(grains if isinstance(grains, dict) else {})

    def _take_result(self, worker: Member, task: Task, result: Result, *, last: bool) -> None:
        worker.task = None
        if worker.state is State.BUSY:
            self._dismiss(worker) if last else self._free(worker)
        self._finish(task, result)

    def _handle_reports(self) -> None:
        try:
            for report in self._nursery.reports():
                self._take_report(report)
        except NurseryError:
            self._fail_all()
            raise
        self._dispatch()

    def _take_report(self, report: Report) -> None:
        worker = self._workers.get(report.token)
        if worker is None:
            return
        if report.kind == STARTED:
            worker.pid = report.value
        elif report.kind == EXITED:
            self._bury(worker, report.value)
        elif report.kind == FAILED:
            worker.reason = f"could not be started: {os.strerror(report.value)}"
            worker.state = State.LOST
            self._bury(worker, None)

    def _bury(self, worker: Member, code: int | None) -> None:
        """A worker is gone: take its last words, and fail the job that it leaves behind."""
        if not worker.stream.ended:
            self._read(worker)
        self._shut(worker)
        killed = worker.state in (State.KILLED, State.LOST) and worker.reason
        text = worker.reason if killed else describe_exit(code)
        asked_to_leave = worker.state is State.LEAVING
        self._turn(worker, State.LOST, float("inf"))
        del self._workers[worker.token]
        if worker.task:
            self._fail_lost(worker, worker.task, text)
        elif not worker.was_ready and not asked_to_leave:
            self._note_start_failure(text)

    def _fail_lost(self, worker: Member, task: Task, text: str) -> None:
        self.counters["workers_lost"] += 1
        fun = task.job.name
        log.error("the job %s (%s, pid %d) %s", task.job.jid, fun, worker.pid, text)
        subject = fun if worker.reason == text else f"the worker process of {fun}"
        self._finish(task, Result.failed(f"{subject} {text}"))

    def _note_start_failure(self, text: str) -> None:
        self.counters["start_failures"] += 1
        self._failures.note(self._clock())
        log.error("a job worker %s before it was ready: see above", text)
        if any(worker.was_ready for worker in self._workers.values()):
            return
        while (task := self._next_task()) is not None:
            self._finish(
                task, Result.failed(f"no job worker can start: it {text}; see the minion's log")
            )

    def _fail_all(self) -> None:
        self._closed = True
        while (task := self._next_task()) is not None:
            self._finish(task, Result.failed("the minion lost its job workers"))
        for worker in list(self._workers.values()):
            self._bury(worker, None)

    def _wait(self, deadline: float) -> None:
        """Let running jobs end until the deadline, then kill them and take note of their end."""
        while any(worker.task for worker in self._workers.values()):
            now = self._clock()
            if now >= deadline:
                self._kill_busy()
            self._turn_once(min(max(deadline - now, 0.01), 0.1))
            self.tick(self._clock())

    def _turn_once(self, seconds: float) -> None:
        poller = zmq.Poller()
        for fd in (self._nursery.fileno(), *self._by_fd):
            poller.register(fd, zmq.POLLIN)
        for fd, _flags in poller.poll(int(seconds * 1000)):
            self.handle(int(fd))

    def _kill_busy(self) -> None:
        for worker in self._workers.values():
            if worker.state is State.BUSY:
                self._kill(worker, "was killed: the minion was stopped")
