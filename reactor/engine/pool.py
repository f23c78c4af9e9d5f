"""Worker threads for runner and wheel functions, and the way back to the engine's loop."""

from __future__ import annotations

import contextlib
import logging
import queue
import socket
import threading
from collections import deque
from collections.abc import Callable

log = logging.getLogger(__name__)

Job = Callable[[], None]


class Mailbox:
    """Lets other threads run something in the loop's thread; wakes a poll on `fileno`."""

    def __init__(self) -> None:
        self._jobs: deque[Job] = deque()
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._awake = threading.Event()

    def fileno(self) -> int:
        """Return the descriptor that has input when something was put."""
        return self._reader.fileno()

    def put(self, job: Job) -> None:
        """Have ``job`` run by the loop. Safe from any thread."""
        self._jobs.append(job)
        if not self._awake.is_set():
            self._awake.set()
            try:
                self._writer.send(b"\0")
            except OSError:
                log.debug("the engine has ended; what came after is dropped")

    def run(self) -> None:
        """Run what was put so far, in the loop's thread."""
        with contextlib.suppress(BlockingIOError):
            self._reader.recv(64)
        self._awake.clear()
        while self._jobs:
            self._jobs.popleft()()

    def close(self) -> None:
        """Give the descriptors back."""
        self._reader.close()
        self._writer.close()


class WorkerPool:
    """A fixed number of daemon threads over a queue.

    Args:
        threads: how many, option ``reactor_worker_threads``.
        high_water: jobs that may wait before `is_full`, option ``reactor_worker_hwm``.
        may_act: asked before each job; what may not be begun is dropped, for whoever took over.
    """

    def __init__(
        self, threads: int, high_water: int, may_act: Callable[[], bool] = lambda: True
    ) -> None:
        self._may_act = may_act
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._high_water = high_water
        self._threads = [
            threading.Thread(target=self._work, name=f"reaction-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """How many jobs no thread has begun."""
        return self._jobs.qsize()

    @property
    def is_full(self) -> bool:
        """Whether the engine should read no further events for now."""
        return self.waiting >= self._high_water

    def submit(self, job: Job) -> None:
        """Have a thread run ``job``."""
        self._jobs.put(job)

    def close(self, timeout: float) -> None:
        """Let the threads end after their present jobs; wait for each at most ``timeout`` s."""
        while not self._jobs.empty():
            try:
                self._jobs.get_nowait()
            except queue.Empty:
                break
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join(timeout / len(self._threads))

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                if self._may_act():
                    job()
            except Exception:  # the boundary of a worker: one faulty job must not end its thread
                log.exception("a reaction's job failed in an unexpected way")
