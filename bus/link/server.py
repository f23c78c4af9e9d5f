"""The master's end of the link: who may speak, what is sent to whom, what comes onto the bus.

One loop in one thread owns every socket and file here.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import zmq

from bus import endpoints, wire
from bus.complaints import Complaints
from bus.errors import BusError, DataError, WireError
from bus.jid import JidMaker
from bus.keys import ACCEPTED, UNKNOWN, KeyStore
from bus.keys.master import MasterKeys as KeyFiles
from bus.link import admission, handover, protocol
from bus.link.autosignfiles import Policy
from bus.link.budget import Budget
from bus.link.departures import Departures, Silence
from bus.link.filerequests import Files
from bus.link.filesync import FileTree
from bus.link.greeting import Greeter
from bus.link.held import Held
from bus.link.jobs import JobStore, runs_of
from bus.link.mayfire import EVERYTHING, MayFire
from bus.link.owing import Lost, Owing
from bus.link.ownkey import DEFAULT_GRACE, OwnKey
from bus.link.peers import Peer, Peers, is_routing_id
from bus.link.port import Port
from bus.link.presence import Presence
from bus.link.protocol import (
    RETURN,
    Ack,
    Batch,
    Bye,
    Changed,
    Hello,
    Item,
    Job,
    Ping,
    Pong,
    Refused,
    Request,
    State,
    Welcome,
)
from bus.link.publishing import Publishing
from bus.link.roster import Roster
from bus.link.streams import OnDone, PublisherLike, Streams
from bus.link.syncing import Syncer
from bus.link.zap import ZapHandler
from bus.publisher import Publisher
from bus.rpc import Methods, Server, open_server
from bus.sockets import Socket, send_pair
from bus.sockets import context as default_context
from bus.tags import tagify
from bus.targets import Grains

log = logging.getLogger(__name__)

KEYS_SECONDS = 0.1
SLOWLY_SECONDS = 0.02
FILES_SECONDS = 1.0
PRUNE_SECONDS = 60.0
PRUNE_AGAIN_SECONDS = 0.5
PROBE_SECONDS = 1.0
OWING_SECONDS = 1.0
SILENCE_CHECK_SECONDS = 1.0
DRAIN_SECONDS = 2.0

MAX_PER_TURN = 256
MAX_RECALLED = 2_000
"""Of so many jobs a new server finds out whose returns are owed."""
MAX_AGAIN = 500
"""Jobs that a minion is sent again at once: its queue here has to have room for them."""
MAX_ON_THE_WAY = 96
"""Fires without an answer of the bus; then minions wait, and what they hold stays with them."""


class FullPublisher(PublisherLike, Protocol):
    """What the server needs of `bus.publisher.Publisher`."""

    @property
    def inputs(self) -> Sequence[Socket | int]:
        """What to poll."""
        ...

    @property
    def pending(self) -> int:
        """How many fires have no answer yet."""
        ...

    def handle(self) -> None:
        """Read the answers that wait."""
        ...

    def tick(self) -> None:
        """Send again what has waited too long."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


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
        self._peers = Peers()
        self._dues: dict[str, float] = {}
        self._presence = Presence() if opts.get("presence_events") else None
        self._presence_version = -1
        self._held = Held(clock())
        self._owing = Owing()
        self._may_fire = MayFire(opts.get("minion_may_fire", EVERYTHING))
        self._silence = Silence(clock())
        self._keys = KeyStore(opts["pki_dir"])
        self._keys.refresh()
        self._roster = Roster(self._keys)
        self._greeter = self._make_greeter()
        roots = opts.get("file_roots") or {}
        tree = FileTree([str(root) for root in roots.get("base", ())])
        self._files = Files(tree, self._complaints, clock)
        with contextlib.ExitStack() as stack:
            self._open(stack, publisher, serve)
            self._recall_owing()
            self._closing = stack.pop_all()

    # -- opening and closing --------------------------------------------------------------

    def _open(
        self,
        stack: contextlib.ExitStack,
        publisher: FullPublisher | None,
        serve: Callable[[Methods], Server] | None,
    ) -> None:
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
        self._streams = Streams(self._publisher, self._answer_batch)
        self._publishing = self._make_publishing()
        methods = self._methods()
        self._rpc: Server = serve(methods) if serve else self._serve(methods)
        stack.callback(self._rpc.close)

    def _make_greeter(self) -> Greeter:
        return Greeter(
            self._keys,
            Policy(self._opts),
            self._peers,
            send=self._send,
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
            tell_all=self._tell_all,
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
            send=self._send_to_minion,
            hold=self._hold,
            note=self._note_sent,
            run=self._run_of,
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
        self._look_at_keys_if_due()
        self._tell_presence()
        if self._due("slowly", SLOWLY_SECONDS):
            self._tick_slowly()

    def _tick_slowly(self) -> None:
        """Do what need not be looked at in every turn, of which there are thousands a second."""
        self._syncer.sync(self._keys.take_unsynced())
        if self._due("publisher", KEYS_SECONDS):
            self._publisher.tick()
        if self._due("files", FILES_SECONDS) or self._own_key.wants_look:
            if self._files.have_changed():
                self._tell_all(Changed())
            self._own_key.look()
        if self._due("prune", PRUNE_SECONDS):
            self._prune()
        if self._due("silence", SILENCE_CHECK_SECONDS):
            self._forget_silent()
        if self._due("owing", OWING_SECONDS):
            self._look_at_owing()
        for ident, count in self._held.expire(self._clock()).items():
            log.warning("%d jobs did not reach %s, which did not come back", count, ident)

    def _tell_presence(self) -> None:
        if self._presence is None:
            return
        now = self._clock()
        if self._presence.is_due(now) or self._peers.version != self._presence_version:
            self._presence_version = self._peers.version
            for tag, data in self._presence.events(self._peers.ids, now):
                self._fire(tag, data)

    def _due(self, name: str, seconds: float) -> bool:
        now = self._clock()
        if now < self._dues.get(name, 0.0):
            return False
        self._dues[name] = now + seconds
        return True

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
            if self._jobs.prune(time.time(), self._owing.jobs):
                self._dues["prune"] = self._clock() + PRUNE_AGAIN_SECONDS
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
            self._look_at_keys_if_due()
            self._take_frames(frames)

    def _take_frames(self, frames: list[zmq.Frame]) -> None:
        routing, key = frames[0].bytes, _proven_key(frames[-1])
        if len(frames) != 2 or not is_routing_id(routing) or key is None:
            self._complaints.add("malformed", "dropped a message that no minion of ours sends")
            return
        try:
            self._take_message(routing, key, frames[1].bytes)
        except WireError as error:
            self._complaints.add("malformed", f"dropped a malformed message: {error}")
        except Exception as error:  # the boundary of a message: none may end the server
            log.debug("a message could not be handled", exc_info=True)
            self._complaints.add("failed", f"a message could not be handled: {error!r}")

    def _take_message(self, routing: bytes, key: bytes, raw: bytes) -> None:
        peer = self._peers.get(routing)
        if peer is not None and peer.key != key:
            self._complaints.add("wrong_key", "dropped a message under another's routing id")
            return
        if peer is not None and self._greeter.is_accepted(peer):
            peer.heard = self._clock()
            self._take_accepted(peer, protocol.decode_up(raw))
        else:
            self._take_stranger(routing, key, raw, peer)

    def _take_stranger(self, routing: bytes, key: bytes, raw: bytes, peer: Peer | None) -> None:
        """A peer that is not accepted can say hello; to all else it hears its state only."""
        if len(raw) > protocol.MAX_HELLO_BYTES:
            raise WireError("a first message that is too large")
        message = protocol.decode_up(raw)
        if isinstance(message, Hello):
            self._greeter.take_hello(routing, key, message)
        elif not isinstance(message, Bye):
            state = peer.state if peer and peer.state != ACCEPTED else UNKNOWN
            self._send(routing, State(state))

    def _take_accepted(self, peer: Peer, message: protocol.Up) -> None:
        match message:
            case Batch():
                self._take_batch(peer, message)
            case Ping():
                self._send(peer.routing, Pong())
            case Request():
                self._take_request(peer, message)
            case Hello():
                self._greeter.take_hello(peer.routing, peer.key, message)
            case Bye():
                self._peers.forget(peer)

    def _send(self, routing: bytes, message: protocol.Down) -> bool:
        return self._send_frame(routing, protocol.encode(message))

    def _send_frame(self, routing: bytes, frame: bytes) -> bool:
        """Send; a peer that is gone or reads nothing is forgotten, and says hello again."""
        try:
            send_pair(self._router, routing, frame)
        except zmq.ZMQError as error:
            peer = self._peers.get(routing)
            if peer is not None:
                self._peers.forget(peer)
            if error.errno != zmq.EHOSTUNREACH:
                self._complaints.add("slow_peers", f"gave up a minion that reads nothing: {error}")
            return False
        return True

    def _hold(self, ident: str, frame: bytes) -> bool:
        return self._held.hold(ident, frame, self._clock())

    def _send_held(self, ident: str) -> None:
        for frame in self._held.take(ident):
            job = protocol.decode_down(frame)
            if self._send_to_minion(ident, frame) and isinstance(job, Job):
                self._note_sent(job.job["jid"], job.job["fun"], ident)

    def _send_to_minion(self, ident: str, frame: bytes) -> bool:
        peer = self._peers.minion(ident)
        return (
            peer is not None
            and self._greeter.is_accepted(peer)
            and self._send_frame(peer.routing, frame)
        )

    def _run_of(self, ident: str) -> bytes:
        peer = self._peers.minion(ident)
        return peer.run if peer else b""

    def _note_sent(self, jid: str, fun: str, ident: str) -> None:
        self._owing.sent(jid, fun, ident, self._run_of(ident))

    def _recall_owing(self) -> None:
        """Take up what minions owed when this server's predecessor ended."""
        for job, idents in self._jobs.unreturned(MAX_RECALLED):
            runs = runs_of(job)
            for ident in sorted(idents):
                self._owing.sent(job["jid"], job["fun"], ident, runs[ident])

    def _forget_silent(self) -> None:
        """Forget minions that have not even pinged; one that speaks again is asked who it is."""
        limit = self._silence.limit(self._clock())
        for peer in self._peers.silent_since(limit):
            log.info("minion %s has fallen silent", peer.id)
            self._peers.forget(peer)

    def _look_at_owing(self) -> None:
        """Find out who is gone of those that owe a return, and say whose will not come."""
        if not len(self._owing):
            return
        if self._departures.suspected():
            self._probe(self._owing.minions)
        self._send_again()
        self._tell_gone(self._owing.look(self._peers.ids, self._clock()))

    def _send_again(self) -> None:
        """Send minions whose connection failed what they owe; they know which of it they have."""
        for ident, jids in self._owing.unsure(MAX_AGAIN).items():
            try:
                frames = [self._publishing.frame(jid) for jid in jids]
            except BusError as error:
                self._complaints.add("jobs_not_sent_again", str(error))
                continue
            log.info("%d jobs are sent to %s again, which was away", len(frames), ident)
            for frame in frames:
                if frame is not None and not self._send_to_minion(ident, frame):
                    break

    def _tell_gone(self, lost: list[Lost]) -> None:
        for one in lost:
            log.warning("job %s (%s) on %s: %s", one.jid, one.fun, one.id, one.reason)
            try:
                self._jobs.give_up(one.jid, one.id)
            except BusError as error:
                self._complaints.add("jobs_not_given_up", str(error))
            self._fire(tagify([one.jid, "gone", one.id], "job"), one._asdict())

    def _tell_all(self, message: protocol.Down) -> None:
        frame = protocol.encode(message)
        for ident in self._peers.connected():
            self._send_to_minion(ident, frame)

    # -- who is there ---------------------------------------------------------------------

    def _welcome(self, peer: Peer) -> None:
        self._roster.note(peer.id, peer.grains)
        self._tell_gone(self._owing.greeted(peer.id, peer.run))
        self._send(peer.routing, Welcome(protocol.VERSION, self._max_event_size))
        if self._own_key.next_is_known:
            self._send(peer.routing, self._own_key.known_by())
        self._send_held(peer.id)

    def _look_at_keys_if_due(self) -> None:
        if self._due("keys", KEYS_SECONDS) and self._greeter.look():
            for ident, count in self._held.keep_only(self._keys.accepted()).items():
                log.warning("%d jobs for %s are given up: its key was revoked", count, ident)

    def _accepted_minions(self) -> Mapping[str, Grains]:
        self._look_at_keys_if_due()
        return self._roster.all()

    def _connected(self) -> list[str]:
        self._look_at_keys_if_due()
        self._probe_all()
        return self._peers.connected()

    def _known_grains(self) -> dict[str, Any]:
        return {ident: dict(grains) for ident, grains in self._accepted_minions().items() if grains}

    def _probe_all(self) -> None:
        if self._due("probe", PROBE_SECONDS) and self._departures.suspected():
            self._probe(self._peers.connected())

    def _probe(self, idents: list[str]) -> None:
        """Find out which connections are gone: ZeroMQ says so when something is sent."""
        frame = protocol.encode(Pong())
        limit = self._clock() - PROBE_SECONDS
        for ident in idents:
            peer = self._peers.minion(ident)
            if peer is not None and peer.heard < limit:
                self._send_frame(peer.routing, frame)

    # -- what minions bring ---------------------------------------------------------------

    def _take_batch(self, peer: Peer, batch: Batch) -> None:
        producer = admission.producer(peer.id, batch.lineage)
        if self._streams.is_repeat(producer, batch, peer.routing):
            return
        wires: list[bytes] = []
        refused: dict[int, str] = {}
        for index, item in enumerate(batch.items):
            try:
                wires.append(self._admit(peer.id, item))
            except BusError as error:
                refused[index] = str(error)[: admission.MAX_ERROR]
        if refused:
            why = f"refused from minion {peer.id}: {next(iter(refused.values()))}"
            self._complaints.add("refused", why, len(refused))
        self._streams.forward(producer, batch, peer.routing, wires, refused)

    def _admit(self, ident: str, item: Item) -> bytes:
        if item.kind != RETURN:
            self._may_fire.check(item.name, ident)
            return admission.event_wire(ident, item.name, item.data, self._packer.pack)
        job = self._jobs.sent_to(item.name, ident)
        if job is None:
            raise DataError(f"a return for job {item.name[:40]!r}, which was not sent to {ident!r}")
        self._owing.returned(item.name, ident)
        data = admission.shape_return(ident, job, item.data)
        if data.get(admission.UNFINISHED) and self._jobs.has_returned(item.name, ident):
            raise DataError(f"job {item.name} has a return of {ident!r} already")
        self._jobs.returned(data)
        return admission.return_wire(data, self._packer.pack)

    def _answer_batch(self, routing: bytes, answer: Ack | Refused) -> None:
        peer = self._peers.get(routing)
        if peer is not None and self._greeter.is_accepted(peer):
            self._send(routing, answer)

    def _take_request(self, peer: Peer, request: Request) -> None:
        if "knows" in request.params:
            self._greeter.note_known_key(peer, request.number, request.params["knows"])
        elif "rotate" in request.params:
            self._greeter.rotate(peer, request.number, request.params["rotate"])
        else:
            self._send(peer.routing, self._files.answer(peer.id, request))

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
        self._probe_all()
        return {
            "port": self.port,
            "connected": len(self._peers),
            "keys": self._keys.counts(),
            "unanswered": self._publisher.pending,
            "held": self._streams.held,
            "owing": len(self._owing),
            "counters": dict(self._complaints.counters),
        }


def _proven_key(frame: zmq.Frame) -> bytes | None:
    """Return the key that the sender of this frame has proved, as the ZAP handler named it."""
    try:
        user = frame.get("User-Id")
    except zmq.ZMQError:
        return None
    return str(user).encode() or None
