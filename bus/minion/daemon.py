"""The minion daemon: one thread that polls the minion's bus, its link and its workers.

Functions run in worker processes only: nothing of the user's own runs here.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import zmq

import bus
from bus import wire
from bus.complaints import Complaints
from bus.errors import BusError, NotRunningError, RemoteError, WireError
from bus.loader.custom import synced_dir
from bus.minion import forward
from bus.minion.accepted import AcceptedJobs
from bus.minion.jobs import Job, Result, SeenJobs, job_return, signal_number, unfinished_return
from bus.minion.members import Limits
from bus.minion.nursery import Nursery
from bus.minion.parts import Link, LinkHooks, Parts, RealParts, Sockets
from bus.minion.pool import Pool
from bus.minion.sync import Sync, SyncResult
from bus.stopping import Stop
from bus.tags import tagify

log = logging.getLogger(__name__)

CONNECTED = "connected"
DRAIN_SECONDS = 0.7
"""How long running jobs may go on when the minion is to end. Its supervisor kills it half a
second later, before which it has to note what it failed."""
GRAINS_SECONDS = 10.0
"""How long the link waits for a worker to load the grains that the minion is introduced with."""
MAX_HELD = 10_000
"""Events that wait for the link to be opened, which takes as long as loading the grains."""
_LONGEST_TURN = 60.0

Done = Callable[[BusError | None], None]


def main(opts: Mapping[str, Any]) -> None:
    """Run a minion until SIGTERM or SIGINT.

    Args:
        opts: the minion's options, as `bus.config.minion_config` returns them.

    Raises:
        BusError: it cannot start, or lost what it cannot work without.
    """
    minion = Minion(opts)
    stop = Stop().install()
    try:
        minion.run(stop)
    finally:
        stop.close()


class Minion:
    """A minion. To be made before the process has a thread or a ZeroMQ context.

    Args:
        opts: the minion's options.
        parts: makes what it is put together from.
        clock: seconds that never run backwards.
    """

    def __init__(
        self,
        opts: Mapping[str, Any],
        parts: Parts | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._opts = opts
        self._parts: Parts = parts or RealParts()
        self._clock = clock
        self._nursery = Nursery.start(self._parts.entry(opts))
        self._poller = zmq.Poller()
        self._handlers: dict[Any, Callable[[], None]] = {}
        self._pool = Pool(
            self._nursery,
            self._poller,
            _limits(opts),
            on_ready=self._on_worker_ready,
            on_progress=self._on_progress,
            clock=clock,
        )
        self._link: Link | None = None
        self._sockets: Sockets | None = None
        self._held: list[tuple[str, dict[str, Any], Done]] = []
        self._grains: dict[str, Any] | None = None
        self._seen = SeenJobs()
        self._accepted: AcceptedJobs | None = None
        self._complaints = Complaints(clock)
        self._sync = Sync(self._request, _synced_dirs(opts), self._on_synced)
        self._start_fired = False
        self._has_master = opts.get("master_type") != "disable"
        self._direct: dict[tuple[str, int], Callable[..., Any]] = {
            ("saltutil.running", 0): self._pool.running,
            ("saltutil.find_job", 1): self._pool.find,
            ("saltutil.kill_job", 1): self._pool.kill,
            ("saltutil.term_job", 1): partial(self._signal, number="SIGTERM"),
            ("saltutil.signal_job", 2): self._signal,
            ("saltutil.kill_all_jobs", 0): self._pool.kill_all,
        }

    def run(self, stop: Stop) -> None:
        """Serve until ``stop`` is set, then let running jobs end, for `DRAIN_SECONDS`.

        Raises:
            AlreadyRunningError: another minion of this name runs here.
            NurseryError: no worker can be started any more.
            BusError: a socket or the key cannot be had.
        """
        with ExitStack() as stack:
            stack.callback(self._close_pool)
            self._open_bus(stack)
            self._watch(stop.fileno(), stop.drain)
            self._pool.start()
            link_due = self._clock() + GRAINS_SECONDS
            while not stop.is_set():
                if self._has_master and self._link is None:
                    self._open_link(stack, link_due)
                self._turn(_LONGEST_TURN if self._link or not self._has_master else 1.0)
            self._drain()

    # -- opening and closing --------------------------------------------------------------

    def _open_bus(self, stack: ExitStack) -> None:
        methods = {
            "status": lambda _params: self.status(),
            "jobs.running": lambda _params: self._pool.running(),
            "jobs.find": lambda params: self._pool.find(str(params.get("jid", ""))),
            "jobs.kill": lambda params: self._pool.kill(str(params.get("jid", ""))),
            "jobs.kill_all": lambda _params: self._pool.kill_all(),
            "jobs.signal": lambda params: self._signal(
                str(params.get("jid", "")), str(params.get("signal", ""))
            ),
            "modules.sync": lambda _params: self._sync_now(),
            "grains.refresh": lambda _params: self._pool.reload(),
            "keys.rotate": lambda _params: self._needed_link().rotate(),
            "keys.rotation": lambda _params: dict(self._needed_link().rotation),
        }
        sockets = self._parts.sockets(self._opts, methods, self._on_event)
        self._sockets = sockets
        stack.callback(sockets.close)
        for socket in sockets.sockets:
            self._watch(socket, partial(sockets.handle, socket))

    def _open_link(self, stack: ExitStack, due: float) -> None:
        """Open the link once the grains are known, or have kept it waiting for too long."""
        if self._grains is None and self._clock() < due:
            return
        self._accepted = self._parts.accepted(self._opts)
        stack.callback(self._accepted.close)
        hooks = LinkHooks(self._on_job, self._on_link_state, self._on_files_changed)
        self._link = self._parts.link(self._opts, hooks, lambda: self._grains or {})
        stack.callback(self._link.close)
        for socket, handler in self._link.sockets:
            self._watch(socket, handler)
        # The pool ends before the link, so that what it fails is still spooled.
        stack.callback(self._close_pool)
        held, self._held = self._held, []
        for tag, data, on_done in held:
            self._send(tag, data, on_done)
        self._fail_unfinished(self._accepted)

    def _fail_unfinished(self, accepted: AcceptedJobs) -> None:
        """Return as failed what an earlier process was killed over."""
        for job in accepted.unfinished:
            log.warning("job %s (%s) was not finished: the minion was killed", job.jid, job.name)
            self._seen.add(job.jid)
            self._send_return(unfinished_return(job))

    def _drain(self) -> None:
        deadline = self._clock() + DRAIN_SECONDS
        while self._pool.busy and self._clock() < deadline:
            self._turn(max(deadline - self._clock(), 0.0))
        self._close_pool()
        self._turn(0.0)

    def _close_pool(self) -> None:
        self._pool.close(self._clock())

    # -- the loop -------------------------------------------------------------------------

    def _watch(self, socket: Any, handler: Callable[[], None]) -> None:
        self._handlers[socket] = handler
        self._poller.register(socket, zmq.POLLIN)

    def _turn(self, longest: float) -> None:
        """Do what is due, wait for something to happen, and see to it."""
        waits = [longest, self._pool.tick(self._clock())]
        if self._link:
            waits.append(self._link.tick())
        milliseconds = math.ceil(max(min(waits), 0.0) * 1000)
        for ready, _flags in self._poller.poll(milliseconds):
            if self._pool.owns(ready):
                self._pool.handle(int(ready))
            elif ready in self._handlers:
                self._handlers[ready]()

    # -- jobs -----------------------------------------------------------------------------

    def _on_job(self, message: dict[str, Any]) -> None:
        try:
            job = Job.from_message(message)
        except WireError as error:
            log.warning("refused a job: %s", error)
            return
        if not self._seen.add(job.jid):
            log.info("the job %s came again: it runs once", job.jid)
            return
        log.info("job %s: %s for %s", job.jid, job.name, job.user or "nobody named")
        if not self._answer_itself(job):
            self._accept(job)
            self._pool.submit(job, partial(self._on_job_done, job))

    def _accept(self, job: Job) -> None:
        """Note a job before it runs, so that a process after this one knows of it."""
        if self._accepted:
            try:
                self._accepted.add(job)
            except BusError as error:
                # The job itself can be done, and its return is worth more than the note.
                self._complaints.add("jobs_not_noted", str(error))

    def _answer_itself(self, job: Job) -> bool:
        """Answer what is asked of jobs: it must not wait until one of them leaves a worker."""
        name = job.fun if isinstance(job.fun, str) else ""
        method = self._direct.get((name, len(job.arg)))
        if method is None or not all(isinstance(arg, str | int) for arg in job.arg):
            return False
        try:
            result = Result(method(*map(str, job.arg)))
        except BusError as error:
            result = Result.failed(f"ERROR: {error}")
        self._on_job_done(job, result)
        return True

    def _signal(self, jid: str, number: str) -> bool:
        return self._pool.signal(jid, signal_number(number))

    def _on_job_done(self, job: Job, result: Result) -> None:
        self._send_return(job_return(job, result))

    def _send_return(self, ret: dict[str, Any]) -> None:
        if self._link:
            self._link.send_return(ret, partial(self._on_return_sent, str(ret["jid"])))

    def _on_return_sent(self, jid: str, _ok: bool, _text: str) -> None:
        """Forget a job once its return is safe; or lost, since it would be lost again."""
        self._seen.settle(jid)
        if self._accepted:
            try:
                self._accepted.remove(jid)
            except BusError as error:
                self._complaints.add("jobs_not_noted", str(error))

    def _on_progress(self, job: Job, number: int, step: Any) -> None:
        minion_id = str(self._opts["id"])
        tag = tagify([job.jid, "prog", minion_id, number], "job")
        self._send(tag, {"data": step, "id": minion_id, "jid": job.jid}, _log_unsent(tag))

    def _on_worker_ready(self, grains: dict[str, Any]) -> None:
        changed = grains != self._grains
        self._grains = grains
        if changed and self._link:
            self._link.say_hello()

    # -- events up ------------------------------------------------------------------------

    def _on_event(self, tag: str, raw: bytes, done: Done) -> bool:
        """Take an event of the minion's bus; True if ``done`` will be called for it."""
        if tag != forward.TAG:
            return False
        try:
            events = forward.outgoing(raw)
        except BusError as error:
            done(error)
            return True
        if not self._has_master:
            self._publish(events)
            return False
        countdown = _Countdown(len(events), done)
        for inner_tag, data in events:
            self._send(inner_tag, data, countdown)
        return True

    def _publish(self, events: Iterable[tuple[str, dict[str, Any]]]) -> None:
        """Without a master, what would go up is an event of the minion's own bus."""
        assert self._sockets is not None
        for tag, data in events:
            self._sockets.publish(tag, data)

    def _send(self, tag: str, data: dict[str, Any], on_done: Done) -> None:
        if self._link:
            _send_event(self._link, tag, data, on_done)
        elif not self._has_master:
            self._publish([(tag, data)])
            on_done(None)
        elif len(self._held) < MAX_HELD:
            self._held.append((tag, data, on_done))
        else:
            on_done(BusError("the minion is still starting, and too many events wait already"))

    # -- the master's files ---------------------------------------------------------------

    def _on_link_state(self, state: str) -> None:
        log.info("the link to the master is %s", state)
        if state == CONNECTED:
            self._sync.restart()

    def _on_files_changed(self) -> None:
        if self._link and self._link.state == CONNECTED:
            self._sync.start()

    def _request(self, params: dict[str, Any], on_reply: Callable[[Any, str], None]) -> None:
        if self._link:
            self._link.request(params, on_reply)
        else:
            on_reply(None, "the link to the master is not open")

    def _on_synced(self, result: SyncResult) -> None:
        if result.changed:
            log.info("synced from the master: %s", ", ".join(result.changed))
            self._pool.reload()
        if not self._start_fired:
            self._start_fired = True
            self._fire_start()

    def _sync_now(self) -> int:
        """Load all functions anew and begin a sync, which loads them again if it changes some.

        Returns:
            How many syncs have finished, as ``status`` shows it, once this one has.

        Raises:
            NotRunningError: there is no connection to the master.
        """
        self._pool.reload()
        if not self._has_master:
            return self._sync.finished
        if self._link is None or self._link.state != CONNECTED:
            raise NotRunningError(
                "there is no connection to the master: the functions were loaded anew, and "
                "files are synced when there is one again"
            )
        return self._sync.start()

    def _needed_link(self) -> Link:
        """Return the link.

        Raises:
            NotRunningError: there is none, or not yet.
        """
        if self._link is None:
            raise NotRunningError("this minion has no link to a master, or is still starting")
        return self._link

    def _fire_start(self) -> None:
        tag = tagify([self._opts["id"], "start"], "minion")
        data = {"started": wire.stamp(), "version": bus.__version__, "pid": os.getpid()}
        self._send(tag, data, _log_unsent(tag))

    # -- status ---------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Return how the minion does: its link, its workers, its bus, its last sync."""
        return {
            "role": "minion",
            "id": self._opts["id"],
            "pid": os.getpid(),
            "link": self._link_state(),
            "lost": self._link.lost if self._link else 0,
            "spool": dict(self._link.spool) if self._link else {},
            **self._pool.status(),
            "bus": self._sockets.status() if self._sockets else {},
            "sync": self._sync.status(),
            "complaints": dict(self._complaints.counters),
        }

    def _link_state(self) -> str:
        if not self._has_master:
            return "disabled"
        return self._link.state if self._link else "starting"


class _Countdown:
    """Calls ``done`` once when each of several events is with the master, or failed."""

    def __init__(self, count: int, done: Done) -> None:
        self._left = count
        self._done = done
        self._error: BusError | None = None
        if not count:
            done(None)

    def __call__(self, error: BusError | None) -> None:
        self._error = self._error or error
        self._left -= 1
        if not self._left:
            self._done(self._error)


def _send_event(link: Link, tag: str, data: dict[str, Any], on_done: Done) -> None:
    """Hand an event to the link; what it refuses at once, as too large, keeps its kind of error."""

    def on_sent(ok: bool, text: str) -> None:
        on_done(None if ok else RemoteError(text or "the master refused the event"))

    try:
        link.send_event(tag, data, on_sent)
    except BusError as error:
        on_done(error)


def _log_unsent(tag: str) -> Done:
    def on_done(error: BusError | None) -> None:
        if error:
            log.warning("the master did not take the event %s: %s", tag, error)

    return on_done


def _limits(opts: Mapping[str, Any]) -> Limits:
    return Limits(
        warm=int(opts.get("job_workers", 2)),
        most=int(opts.get("job_workers_max", 8)),
        job_timeout=float(opts.get("job_timeout", 0)),
        max_event_size=int(opts.get("max_event_size", wire.DEFAULT_MAX_EVENT_SIZE)),
    )


def _synced_dirs(opts: Mapping[str, Any]) -> dict[str, Any]:
    return {f"_{kind}": synced_dir(opts, kind) for kind in ("modules", "grains")}
