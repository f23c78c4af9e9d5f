"""The master's end of the link: opens its sockets and files, joins the parts, and runs the loop.

One loop in one thread owns every socket and file here.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import zmq

from bus import endpoints, wire
from bus.complaints import Complaints
from bus.errors import BusError
from bus.jid import JidMaker
from bus.keys import KeyStore
from bus.keys.master import MasterKeys as KeyFiles
from bus.link import handover, protocol
from bus.link.attendance import Attendance
from bus.link.autosignfiles import Policy
from bus.link.budget import Budget
from bus.link.delivery import Delivery
from bus.link.departures import Departures
from bus.link.dues import Dues
from bus.link.filerequests import Files
from bus.link.filesync import FileTree
from bus.link.greeting import Greeter
from bus.link.intake import Intake
from bus.link.jobs import JobStore
from bus.link.mayfire import EVERYTHING, MayFire
from bus.link.ownkey import DEFAULT_GRACE, OwnKey
from bus.link.peers import Peer, Peers
from bus.link.port import Port
from bus.link.presence import Presence
from bus.link.protocol import (
    Ack,
    Changed,
    Refused,
    Welcome,
)
from bus.link.publishing import Publishing
from bus.link.reception import Reception
from bus.link.roster import Roster
from bus.link.sending import Sender
from bus.link.streams import FullPublisher, OnDone, Streams
from bus.link.syncing import Syncer
from bus.link.zap import ZapHandler
from bus.publisher import Publisher
from bus.rpc import Methods, Server, open_server
from bus.sockets import Socket
from bus.sockets import context as default_context
from bus.targets import Grains

log = logging.getLogger(__name__)

KEYS_SECONDS = 0.1
SLOWLY_SECONDS = 0.02
FILES_SECONDS = 1.0
PRUNE_SECONDS = 60.0
PRUNE_AGAIN_SECONDS = 0.5
OWING_SECONDS = 1.0
SILENCE_CHECK_SECONDS = 1.0
DRAIN_SECONDS = 2.0

MAX_PER_TURN = 256
MAX_ON_THE_WAY = 96
"""Fires without an answer of the bus; then minions wait, and what they hold stays with them."""


class Stop(Protocol):
    """Something like `threading.Event` or `bus.stopping.Stop`."""

    def is_set(self) -> bool:
        """Say whether the end was asked for."""
        ...


class LinkServer:
    """The link server of one master.

    Args:
        opts: ``interface``, ``ret_port``, ``pki_dir``, ``state_dir``, ``sock_dir``,
            ``file_roots``, ``nodegroups``, ``auto_accept``, ``max_event_size``,
            ``keep_jobs_seconds``; ``autosign_file``, ``autoreject_file``, if there are any.
        context: for all sockets; it can have no other link server.
        publisher: to the master's bus; by default one to where ``opts`` say it is.
        serve: makes the server that answers clients' questions from its methods.
        clock: seconds, monotonic.

    Attributes:
        port: where it listens.

    Raises:
        AlreadyRunningError: the port is taken.
        ConfigError: the master's key cannot be read or made.
        BusError: a socket or a file cannot be opened.
    """

    def __init__(
        self,
        opts: Mapping[str, Any],
        *,
        context: zmq.Context[Socket] | None = None,
        publisher: FullPublisher | None = None,
        serve: Callable[[Methods], Server] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._opts = opts
        self._clock = clock
        self._context = context or default_context()
        self._max_event_size = int(opts["max_event_size"])
        self._packer = wire.EventPacker(time.time_ns, self._max_event_size)
        self._max_message = protocol.max_message(self._max_event_size)
        self._complaints = Complaints(clock)
        self._dues = Dues(clock)
        self._peers = Peers()
        self._keys = KeyStore(opts["pki_dir"])
        self._keys.refresh()
        self._roster = Roster(self._keys)
        roots = opts.get("file_roots") or {}
        tree = FileTree([str(root) for root in roots.get("base", ())])
        self._files = Files(tree, self._complaints, clock)
        with contextlib.ExitStack() as stack:
            self._open(stack, publisher)
            self._connect_parts()
            methods = self._methods()
            self._rpc: Server = serve(methods) if serve else self._serve(methods)
            stack.callback(self._rpc.close)
            self._delivery.recall()
            self._closing = stack.pop_all()

    # -- opening and closing --------------------------------------------------------------

    def _open(self, stack: contextlib.ExitStack, publisher: FullPublisher | None) -> None:
        """Open everything; what is open is closed again if something later fails."""
        store = Path(self._opts["state_dir"]) / "jobs.db"
        self._jobs = JobStore(store, float(self._opts["keep_jobs_seconds"]))
        stack.callback(self._jobs.close)
        self._zap = ZapHandler(self._context)
        stack.callback(self._zap.close)
        grace = float(self._opts.get("master_key_grace_seconds", DEFAULT_GRACE))
        keys = KeyFiles(self._opts["pki_dir"], grace)
        port = Port(self._opts, self._context, keys.current, self._max_message)
        self.port = port.number
        self._router = port.router
        stack.callback(self._router.close, linger=200)
        self._sender = Sender(self._router, self._peers, self._roster, self._complaints)
        self._departures = Departures(self._router, self._clock)
        stack.callback(self._departures.close)
        self._syncer = Syncer()
        stack.callback(self._syncer.close)
        self._own_key = self._make_own_key(keys, port)
        stack.callback(self._own_key.responder.close)
        self._publisher = publisher or Publisher(
            endpoints.master_pull(self._opts),
            line=endpoints.master_direct(self._opts) if endpoints.direct_line_works() else None,
        )
        stack.callback(self._publisher.close)

    def _connect_parts(self) -> None:
        """Make what works on the open sockets and files, each with what it needs of the others."""
        self._delivery = Delivery(
            self._jobs,
            self._peers,
            send=self._sender.to_minion,
            fire=self._fire,
            complaints=self._complaints,
            clock=self._clock,
        )
        self._attendance = Attendance(
            self._peers,
            self._departures,
            send_frame=self._sender.send_frame,
            presence=Presence() if self._opts.get("presence_events") else None,
            fire=self._fire,
            clock=self._clock,
        )
        self._greeter = self._make_greeter()
        self._streams = Streams(self._publisher, self._answer_batch)
        intake = Intake(
            self._streams,
            self._jobs,
            self._delivery,
            MayFire(self._opts.get("minion_may_fire", EVERYTHING)),
            pack=self._packer.pack,
            complaints=self._complaints,
        )
        self._reception = Reception(
            self._peers,
            self._roster,
            self._greeter,
            intake,
            self._files,
            send=self._sender.send,
            complaints=self._complaints,
            clock=self._clock,
        )
        self._publishing = self._make_publishing()

    def _make_greeter(self) -> Greeter:
        return Greeter(
            self._keys,
            Policy(self._opts),
            self._peers,
            send=self._sender.send,
            fire=self._fire,
            welcome=self._welcome,
            changed=self._roster.changed,
            complaints=self._complaints,
            clock=self._clock,
        )

    def _make_own_key(self, keys: KeyFiles, port: Port) -> OwnKey:
        return OwnKey(
            keys,
            port,
            self._peers,
            minions=self._accepted_minions,
            tell_all=self._sender.to_all,
            fire=self._fire,
            complaints=self._complaints,
            budget=Budget(handover.ANSWERS_PER_SECOND, self._clock),
        )

    def _make_publishing(self) -> Publishing:
        return Publishing(
            store=self._jobs,
            jids=JidMaker(after=self._jobs.newest()),
            minions=self._accepted_minions,
            nodegroups=self._opts.get("nodegroups") or {},
            send=self._sender.to_minion,
            hold=self._delivery.hold,
            note=self._delivery.sent,
            run=self._delivery.run_of,
            fire=self._fire,
            max_size=self._max_message - protocol.OVERHEAD,
        )

    def _serve(self, methods: Methods) -> Server:
        address = endpoints.master_link(self._opts)
        return open_server(address, methods, self._complaints)

    def _methods(self) -> dict[str, Callable[[dict[str, Any]], Any]]:
        return {
            "ping": lambda _: True,
            "status": lambda _: self.status(),
            "minions.connected": lambda _: self._connected(),
            "minions.grains": lambda _: self._known_grains(),
            "minions.forget_grains": lambda params: self._roster.forget(params["ids"]),
            **self._own_key.methods,
            **self._publishing.methods,
        }

    def close(self) -> None:
        """Close every socket and file."""
        self._closing.close()

    # -- the loop -------------------------------------------------------------------------

    def run(self, stop: Stop) -> None:
        """Serve until ``stop`` is set, then close."""
        poller = zmq.Poller()
        handlers = self._register(poller, stop)
        paused = False
        try:
            while not stop.is_set():
                if self._is_full() != paused:
                    paused = not paused
                    poller.register(self._router, 0 if paused else zmq.POLLIN)
                for socket, _ in poller.poll(int(KEYS_SECONDS * 1000)):
                    handlers[socket]()
                self.tick()
            self._drain()
        finally:
            self.close()

    def _register(self, poller: zmq.Poller, stop: Stop) -> dict[Any, Callable[[], None]]:
        handlers: dict[Any, Callable[[], None]] = {
            self._zap.socket: self._zap.handle,
            self._router: self._take_messages,
            self._departures.socket: self._departures.handle,
            self._own_key.responder.socket.fileno(): self._own_key.responder.handle,
            **dict.fromkeys(self._publisher.inputs, self._publisher.handle),
            self._rpc.socket: self._rpc.handle,
        }
        if hasattr(stop, "fileno") and hasattr(stop, "drain"):
            handlers[stop.fileno()] = stop.drain
        for socket in handlers:
            poller.register(socket, zmq.POLLIN)
        return handlers

    def tick(self) -> None:
        """Do what time brings."""
        self._flush_jobs()
        self._follow_keys()
        self._attendance.tell()
        if self._dues.take("slowly", SLOWLY_SECONDS):
            self._tick_slowly()

    def _tick_slowly(self) -> None:
        """Do what need not be looked at in every turn, of which there are thousands a second."""
        self._syncer.sync(self._keys.take_unsynced())
        if self._dues.take("publisher", KEYS_SECONDS):
            self._publisher.tick()
        if self._dues.take("files", FILES_SECONDS) or self._own_key.wants_look:
            if self._files.have_changed():
                self._sender.to_all(Changed())
            self._own_key.look()
        if self._dues.take("prune", PRUNE_SECONDS):
            self._prune()
        if self._dues.take("silence", SILENCE_CHECK_SECONDS):
            self._attendance.forget_silent()
        if self._dues.take("owing", OWING_SECONDS) and len(self._delivery):
            self._attendance.look_for(self._delivery.debtors)
            self._delivery.look()
        self._delivery.expire()

    def _is_full(self) -> bool:
        return self._publisher.pending + self._streams.held >= MAX_ON_THE_WAY

    def _drain(self) -> None:
        """Let the bus answer what it was given; minions send again what they hear nothing of."""
        deadline = time.monotonic() + DRAIN_SECONDS
        while self._publisher.pending and time.monotonic() < deadline:
            zmq.select(list(self._publisher.inputs), [], [], timeout=0.1)
            self._publisher.handle()
            self._publisher.tick()
        if self._publisher.pending:
            log.warning("%d fires had no answer from the bus", self._publisher.pending)

    def _flush_jobs(self) -> None:
        try:
            self._jobs.flush()
        except BusError as error:
            self._complaints.add("returns_not_kept", str(error))

    def _prune(self) -> None:
        try:
            # Of one that is still owed the return would be refused.
            if self._jobs.prune(time.time(), self._delivery.owed):
                self._dues.put_off("prune", PRUNE_AGAIN_SECONDS)
        except BusError as error:
            self._complaints.add("jobs_not_pruned", str(error))

    # -- messages -------------------------------------------------------------------------

    def _take_messages(self) -> None:
        for _ in range(MAX_PER_TURN):
            if self._is_full():
                return
            try:
                frames = self._router.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            # After it was received, so that on however busy a host nothing is taken from one
            # whose key had been revoked for more than a moment when it was sent.
            self._follow_keys()
            self._reception.take(frames)

    def _answer_batch(self, routing: bytes, answer: Ack | Refused) -> None:
        peer = self._peers.get(routing)
        if peer is not None and self._roster.is_accepted(peer):
            self._sender.send(routing, answer)

    # -- who is there ---------------------------------------------------------------------

    def _welcome(self, peer: Peer) -> None:
        self._roster.note(peer.id, peer.grains)
        self._delivery.greeted(peer)
        self._sender.send(peer.routing, Welcome(protocol.VERSION, self._max_event_size))
        if self._own_key.next_is_known:
            self._sender.send(peer.routing, self._own_key.known_by())
        self._delivery.send_held(peer.id)

    def _follow_keys(self) -> None:
        """See who is accepted now, if that was not looked at a moment ago."""
        if self._dues.take("keys", KEYS_SECONDS) and self._greeter.look():
            self._delivery.keep_only(self._keys.accepted())

    def _accepted_minions(self) -> Mapping[str, Grains]:
        self._follow_keys()
        return self._roster.all()

    def _connected(self) -> list[str]:
        self._follow_keys()
        self._attendance.look_for_all()
        return self._peers.connected()

    def _known_grains(self) -> dict[str, Any]:
        return {ident: dict(grains) for ident, grains in self._accepted_minions().items() if grains}

    # -- what the server itself fires -----------------------------------------------------

    def _fire(self, tag: str, data: dict[str, Any]) -> None:
        try:
            event = self._packer.pack(tag, data)
        except BusError as error:
            self._complaints.add("own_events_lost", f"the event {tag} was not fired: {error}")
            return
        self._publisher.send([event], on_done=self._own_done(tag))

    def _own_done(self, tag: str) -> OnDone:
        def done(_seq: int | None, error: BusError | None) -> None:
            if error is not None:
                self._complaints.add("own_events_lost", f"the event {tag} was not kept: {error}")

        return done

    def status(self) -> dict[str, Any]:
        """Return who is there and the counters."""
        self._attendance.look_for_all()
        return {
            "port": self.port,
            "connected": len(self._peers),
            "keys": self._keys.counts(),
            "unanswered": self._publisher.pending,
            "held": self._streams.held,
            "owing": len(self._delivery),
            "counters": dict(self._complaints.counters),
        }
