"""The reactor role of a master: the engine with its sockets, threads and rules, in one process."""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import zmq

from bus import endpoints, loader, rpc
from bus.complaints import Complaints
from bus.config import private_dir
from bus.errors import BusError
from bus.feed import Feed, JournalFeed
from bus.jid import JidMaker
from bus.journal import JournalReader, journal_path
from bus.listener import open_listener
from bus.publisher import Publisher
from bus.record import Event
from bus.stopping import Stop
from reactor.engine import lease as leases
from reactor.engine.actions import Action, Actions
from reactor.engine.actions.background import Background
from reactor.engine.actions.event import EventAction
from reactor.engine.actions.exec import ExecAction
from reactor.engine.actions.functions import FunctionAction
from reactor.engine.actions.http import HttpAction
from reactor.engine.actions.local import LocalAction
from reactor.engine.actions.logline import LogAction
from reactor.engine.actions.notify import NotifyAction
from reactor.engine.backlog import Backlog
from reactor.engine.deadletters import DeadLetters, dead_path
from reactor.engine.deferred import Deferred
from reactor.engine.engine import Engine
from reactor.engine.fencing import fence
from reactor.engine.jobreturns import JobReturns
from reactor.engine.loops import SelfFeeding
from reactor.engine.outbox import Outbox
from reactor.engine.pool import Mailbox, WorkerPool
from reactor.engine.recalling import Recalling
from reactor.engine.rulesinforce import RulesInForce
from reactor.engine.seat import MAIN, Seat, Term
from reactor.engine.secrets import Secrets
from reactor.engine.service import Keeper, Service
from reactor.engine.sources import ConfiguredRules
from reactor.engine.state import State, prepare, state_path
from reactor.engine.switchboard import Switchboard
from reactor.engine.traces import Traces
from reactor.engine.tracestore import TraceStore, read_traces, trace_path
from reactor.errors import DeposedError
from reactor.rules.model import Functions

log = logging.getLogger(__name__)

_TICK = leases.RENEW_EVERY
"""Seconds between two looks at what has to be sent again, and two signs of life."""

_ANSWER_EVERY = 1.0
"""Seconds between two answers to the supervisor within a turn."""

_TRY_AGAIN = 1.0
"""Seconds before a reactor that could not lead tries again."""

PATIENCE = 10.0
"""Seconds to wait at the start for a bus that is just starting."""

_DRAIN = 0.7
"""Seconds to let reactions end when the process is told to stop; the rest is resumed later."""


COLLECTING = (50_000, 20, 50)
"""Python's collector looks at the young objects after so many, not after 700: what is under way
in a burst would be looked at again and again, for a sixth of all the time."""


def run(opts: Mapping[str, Any], stop: Stop, name: str = MAIN, *, waits: bool = False) -> None:
    """Serve as a reactor of the master until ``stop`` is set: as the active one, or standing by.

    Args:
        opts: the master's options.
        stop: asks for the end.
        name: the reactor's name.
        waits: whether it waits for a bus that is not there.

    Raises:
        NotRunningError: the master's bus is not there.
        BusError: the state or a socket cannot be opened.
    """
    prepare(private_dir(opts["state_dir"]))
    with contextlib.ExitStack() as stack:
        stack.callback(gc.set_threshold, *gc.get_threshold())
        gc.set_threshold(*COLLECTING)
        seat = Seat(opts, name)
        stack.callback(seat.close)
        # Before the lease is taken: who has it should not be busy with anything else.
        rules = ConfiguredRules(opts)
        rules.load()
        while not stop.is_set() and (term := seat.try_lead() or seat.stand_by(stop)):
            try:
                _lead(opts, stop, Leading(seat, term, rules))
            except DeposedError as error:
                log.error("%s", error)  # noqa: TRY400 - no fault, so no trace
            except BusError as error:
                if not waits or stop.is_set():
                    raise
                log.warning("this reactor (%s) cannot lead: %s", name, error)
                pause(stop, _TRY_AGAIN)
            finally:
                seat.leave()


@dataclass(frozen=True, slots=True)
class Leading:
    """What the active one of a master's reactors has.

    Attributes:
        seat: its place among the others.
        term: its time as the active one.
        rules: those of the configuration, read already.
    """

    seat: Seat
    term: Term
    rules: ConfiguredRules


def _lead(opts: Mapping[str, Any], stop: Stop, leading: Leading) -> None:
    leading.term.lease.keep()
    with contextlib.ExitStack() as stack:
        role = ReactorRole(opts, stop, stack, leading)
        role.begin()
        role.serve()


class ReactorRole:
    """The collaborators of the engine, opened in order and closed in reverse.

    What a reactor on a minion has otherwise, `reactor.engine.minion` says; it leads nobody.
    """

    def __init__(
        self,
        opts: Mapping[str, Any],
        stop: Stop,
        stack: contextlib.ExitStack,
        leading: Leading | None = None,
    ) -> None:
        self._opts = opts
        self._stop = stop
        self._leading = leading
        self._ticked_at = self._answered_at = 0.0
        self._mailbox = Mailbox()
        self._returns: JobReturns | None = None
        self._recalling = Recalling(str(opts["state_dir"]))
        stack.callback(self._recalling.close)
        self._backlog = Backlog()
        stack.callback(self._mailbox.close)
        producer = leading.term.producer if leading else None
        self._publisher = Publisher(self._pull_address(), producer=producer)
        stack.callback(self._publisher.close)
        self._link = self._open_link(stack)
        self._pool = self._make_pool()
        stack.callback(self._pool.close, 0.3)
        self._background = Background(self._make_pool, self._mailbox)
        stack.callback(self._background.close, 0.3)
        self._exec = ExecAction(self._background)
        stack.callback(self._exec.close)
        self._outbox = Outbox(self._publisher, int(opts["max_event_size"]))
        state = leading.term.state if leading else State(state_path(opts["state_dir"]))
        self._state = state
        stack.callback(state.close)
        self._feed = self._open_feed(state)
        stack.callback(self._feed.close)
        self._rules = leading.rules if leading else self._configured_rules()
        dead = DeadLetters(dead_path(opts["state_dir"]), int(opts["reactor_dead_keep"]))
        stack.callback(dead.close)
        self._switchboard = Switchboard(state)
        self._engine = self._make_engine(state, dead)
        self._in_force = RulesInForce(self._rules, self._switchboard, self._engine, self._mailbox)
        self._service = Service(self._engine, dead, journal_path(opts["state_dir"]))
        traces = TraceStore(trace_path(opts["state_dir"]))
        stack.callback(traces.close)
        self._keeper = Keeper(self._engine.traces, traces)
        self._complaints = Complaints()
        self._server = rpc.open_server(self._address(), self._methods(), self._complaints)
        stack.callback(self._server.close)
        stack.callback(self._in_force.close)

    def begin(self) -> None:
        """Begin what comes before the loop."""
        self._replace_former()
        self._in_force.begin()
        self._resume()
        if self._leading is not None:
            self._leading.seat.open()
        self._in_force.watch()

    def serve(self) -> None:
        """Run the loop until the end is asked for, then let what is under way end.

        Raises:
            DeposedError: another reactor took over.
        """
        poller, handlers = self._poller()
        while not self._is_ending():
            self._step(poller, handlers)
        if not self._stop.is_set():
            heir = self._leading.seat.heir if self._leading else ""
            self._engine.announce("reactor/leader/left", {**self._who(), "to": heir})
        deadline = time.monotonic() + _DRAIN
        while self._is_busy() and time.monotonic() < deadline:
            self._poll(poller, handlers, 0.02)
            self._outbox.flush()  # the reports of what ends meanwhile
        self._engine.save_cursor()
        self._keeper.close()
        if self._publisher.wait(lambda: not self._publisher.pending, 0.2) and self._leading:
            self._state.forget_producers([self._leading.term.producer])

    # -- one of several -------------------------------------------------------------------

    def _is_ending(self) -> bool:
        return self._stop.is_set() or (self._leading is not None and self._leading.seat.is_leaving)

    def _may_act(self) -> bool:
        return self._leading is None or self._leading.term.lease.holds()

    def _replace_former(self) -> None:
        """Make sure that nothing more comes from who was active before, and say who is now."""
        if self._leading is None:
            return
        term, seat = self._leading.term, self._leading.seat
        log.info("this reactor (%s) is active, term %d", seat.name, term.lease.holder.term)
        former = [name for name in self._state.producers() if name != term.producer]
        data = {**self._who(), "before": leases.describe(term.before) if term.before else {}}
        if former:
            event = self._outbox.pack("reactor/leader/active", data)
            fence(self._publisher, former, event, self._stop.is_set, PATIENCE)
            self._state.forget_producers(former)
        elif term.before and (term.before.name != seat.name or term.before.pid == os.getpid()):
            self._engine.announce("reactor/leader/active", data)

    def _who(self) -> dict[str, Any]:
        return dict(leases.describe(self._leading.term.lease.holder)) if self._leading else {}

    def _make_pool(self) -> WorkerPool:
        threads, most = self._opts["reactor_worker_threads"], self._opts["reactor_worker_hwm"]
        return WorkerPool(int(threads), int(most), self._may_act)

    # -- the loop -------------------------------------------------------------------------

    def _step(self, poller: zmq.Poller, handlers: dict[Any, Callable[[], None]]) -> None:
        wait = 0.0 if self._engine.has_work else self._engine.next_in(_TICK)
        self._poll(poller, handlers, wait)
        if not self._engine.turn():
            pause(self._stop, 0.5)
        self._say_if_behind()
        if wait:
            self._keeper.idle()

    def _say_if_behind(self) -> None:
        unread = self._engine.behind
        changed = self._backlog.changed(unread)
        if changed is not None:
            tag = "reactor/behind" if changed else "reactor/caught-up"
            log.warning("%s: %d events are unread", tag, unread)
            self._engine.announce(tag, {"unread": unread, "seq": self._feed.after})

    def _poll(
        self, poller: zmq.Poller, handlers: dict[Any, Callable[[], None]], wait: float
    ) -> None:
        for ready, _ in poller.poll(math.ceil(wait * 1000)):
            handlers[ready]()
        now = time.monotonic()
        if now - self._ticked_at >= _TICK:
            self._ticked_at = now
            self._publisher.tick()
            if self._leading is not None:
                self._leading.term.lease.touch()
            if self._link is not None:
                self._link.tick()
            if self._returns is not None:
                self._returns.tick()

    def _poller(self) -> tuple[zmq.Poller, dict[Any, Callable[[], None]]]:
        handlers: dict[Any, Callable[[], None]] = {
            self._feed.socket: lambda: None,  # the engine's turn reads it
            self._publisher.socket: self._publisher.handle,
            self._server.socket: self._server.handle,
            self._mailbox.fileno(): self._mailbox.run,
            self._stop.fileno(): self._stop.drain,
        }
        if self._link is not None:
            handlers[self._link.socket] = self._link.handle
        if self._leading is not None and self._leading.seat.socket is not None:
            handlers[self._leading.seat.socket] = self._leading.seat.handle
        poller = zmq.Poller()
        for source in handlers:
            poller.register(source, zmq.POLLIN)
        return poller, handlers

    def _is_busy(self) -> bool:
        return bool(self._engine.under_way or len(self._outbox))

    # -- where it is ----------------------------------------------------------------------

    def _pull_address(self) -> str:
        return endpoints.master_pull(self._opts)

    def _address(self) -> str:
        return endpoints.master_reactor(self._opts)

    def _open_link(self, stack: contextlib.ExitStack) -> rpc.Caller | None:
        link = rpc.open_caller(endpoints.master_link(self._opts))
        stack.callback(link.close)
        self._returns = JobReturns(link, endpoints.master_fires(self._opts), self._mailbox)
        stack.callback(self._returns.close)
        return link

    def _open_feed(self, state: State) -> Feed:
        return _open_feed(self._opts, state, self._stop)

    def _configured_rules(self) -> ConfiguredRules:
        return ConfiguredRules(self._opts)

    def _resume(self) -> None:
        with JournalReader(journal_path(self._opts["state_dir"])) as journal:
            self._engine.resume(journal)

    def _own_actions(self, functions: Callable[..., FunctionAction]) -> dict[str, Action]:
        """Return the kinds of call that belong to a master."""
        assert self._link is not None
        return {
            "local": LocalAction(self._link, self._returns),
            "runner": functions("runner", self._load(loader.runners)),
            "wheel": functions("wheel", self._load(loader.wheels)),
        }

    # -- making ---------------------------------------------------------------------------

    def _make_engine(self, state: State, dead: DeadLetters) -> Engine:
        functions = functools.partial(
            FunctionAction,
            pool=self._pool,
            mailbox=self._mailbox,
            outbox=self._outbox,
            jids=JidMaker(),
        )
        secrets = Secrets(self._opts["reactor_secrets"], str(self._opts["config_dir"]))
        actions = Actions(
            {
                "exec": self._exec,
                "http": HttpAction(self._background, secrets),
                "log": LogAction(),
                "notify": NotifyAction(self._background, self._opts["reactor_notify"], secrets),
                "event": EventAction(self._outbox),
                **self._own_actions(functions),
            },
            self._may_act,
        )
        opts = self._opts
        traces = Traces(int(opts["reactor_trace_keep"]), time.time() - time.monotonic())
        traces.load(read_traces(opts["state_dir"]))
        return Engine(
            traces=traces,
            dead=dead,
            max_chain=int(opts["reactor_max_chain"]),
            self_feeding=SelfFeeding(int(opts["reactor_max_self_fed"])),
            feed=self._feed,
            state=state,
            actions=actions,
            outbox=self._outbox,
            functions=Deferred(self._load_modules),
            snapshot=self._switchboard.use(self._rules.load()),
            is_full=lambda: self._pool.is_full or self._background.is_full,
            recall=self._recall,
            alive=self._answer,
        )

    def _answer(self) -> None:
        """Tell the supervisor that the loop goes on: templates may call what takes its time."""
        now = time.monotonic()
        if now - self._answered_at >= _ANSWER_EVERY:
            self._answered_at = now
            self._stop.drain()

    def _recall(self, seq: int) -> Event | None:
        """Return an event that a rule waited upon, from the journal."""
        return self._recalling.event(seq)

    def _load(self, load: Callable[..., loader.Functions]) -> Callable[[], loader.Functions]:
        return functools.partial(load, self._opts)

    def _load_modules(self) -> Functions:
        """Load execution functions on the master, as ``salt[...]`` in templates."""
        return loader.execution_modules(self._opts, grains=loader.grains(self._opts))

    # -- what can be asked ----------------------------------------------------------------

    def _methods(self) -> dict[str, Callable[[dict[str, Any]], Any]]:
        return {
            "ping": lambda _: True,
            "status": lambda _: self._status(),
            **self._in_force.methods(),
            **self._service.methods(),
        }

    def _status(self) -> dict[str, Any]:
        engine = self._engine
        return {
            **self._in_force.status(),
            "seq": self._feed.after,
            "behind": engine.behind,
            "under_way": engine.under_way,
            "waiting": self._pool.waiting + self._background.waiting,
            "lost": self._feed.lost,
            "dead": len(self._engine.dead) if self._engine.dead is not None else 0,
            "counters": {**engine.statistics.total, **self._complaints.counters},
            **({"leader": self._leading.seat.describe()} if self._leading else {}),
        }


def _open_feed(opts: Mapping[str, Any], state: State, stop: Stop) -> Feed:
    """Open the feed at the state's cursor; a bus that is just starting is waited for."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            journal = JournalReader(journal_path(opts["state_dir"]))
            feed = JournalFeed(open_listener(endpoints.master_fires(opts)), journal)
            break
        except BusError:
            if stop.is_set() or time.monotonic() > deadline:
                raise
            pause(stop, 0.05)
    bus_id, seq = state.cursor() or ("", 0)
    if bus_id not in ("", feed.bus_id):
        log.warning("the journal is another one than before: the reactor begins at its start")
        state.reset(feed.bus_id, 0)
        seq = 0
    feed.start_after(seq)
    return feed


def pause(stop: Stop, seconds: float) -> None:
    """Wait, but no longer than until the end is asked for."""
    poller = zmq.Poller()
    poller.register(stop.fileno(), zmq.POLLIN)
    until = time.monotonic() + seconds
    while not stop.is_set() and (left := until - time.monotonic()) > 0:
        poller.poll(math.ceil(left * 1000))
        stop.drain()
