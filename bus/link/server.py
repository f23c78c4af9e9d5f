"""The master's end of the link: who may speak, what is sent to whom, what comes onto the bus.

One loop in one thread owns every socket and file here.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import zmq

from bus import endpoints, wire
from bus.complaints import Complaints
from bus.errors import AlreadyRunningError, BusError, DataError, KeyStateError, WireError
from bus.jid import JidMaker
from bus.keys import (
    ACCEPTED,
    DENIED,
    PENDING,
    REJECTED,
    UNKNOWN,
    KeyStore,
    check_public,
    fingerprint,
)
from bus.link import admission, autosign, handover, protocol
from bus.link.autosignfiles import Policy
from bus.link.budget import Budget
from bus.link.departures import Departures, Silence
from bus.link.filesync import FileTree
from bus.link.firstcontact import Responder
from bus.link.held import Held
from bus.link.jobs import JobStore, runs_of
from bus.link.mayfire import EVERYTHING, MayFire
from bus.link.owing import Lost, Owing
from bus.link.peers import Peer, Peers, is_routing_id
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
    MasterKeys,
    Ping,
    Pong,
    Refused,
    Reply,
    Request,
    State,
    Welcome,
)
from bus.link.publishing import Publishing
from bus.link.streams import OnDone, PublisherLike, Streams
from bus.link.syncing import Syncer
from bus.link.zap import DOMAIN, ZapHandler
from bus.masterkeys import MasterKeys as KeyFiles
from bus.publisher import Publisher
from bus.rpc import Methods, open_server
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

SEND_QUEUE = 2_000
RECEIVE_QUEUE = 100
"""Messages of one connection that wait in memory, each perhaps as large as the largest: some more
than a minion has batches on its way. What comes after waits with its sender."""
HANDSHAKE_MS = 20_000
"""A stranger who connects and says nothing is not kept; a busy minion host may be that slow."""
KEEPALIVE_SECONDS = 15
REBIND_SECONDS = 5.0
DEFAULT_GRACE = 2_592_000.0
BACKLOG = 4_096
"""Connections that the system keeps until they are taken; it caps this at net.core.somaxconn.

With ZeroMQ's 100, most of ten thousand minions that come back at once find the queue full, and
TCP tries again only after one second, then three, then seven.
"""
MAX_PER_TURN = 256
MAX_RECALLED = 2_000
"""Of so many jobs a new server finds out whose returns are owed."""
MAX_AGAIN = 500
"""Jobs that a minion is sent again at once: its queue here has to have room for them."""
MAX_ON_THE_WAY = 96
"""Fires without an answer of the bus; then minions wait, and what they hold stays with them."""

AUTH_EVENTS_PER_SECOND = 50
"""Anybody who reaches the port can make us fire ``salt/auth``, and the journal is on a disk."""

FILE_BYTES_AT_ONCE = 64 << 20
FILE_BYTES_PER_SECOND = 8 << 20
"""What one minion is sent of files: one that asks and does not read makes them pile up here."""

_MAX_TOLD = 20_000

_ACTS = {ACCEPTED: "accept", PENDING: "pend", REJECTED: "reject", DENIED: "denied"}


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


class RpcLike(Protocol):
    """What the server needs of `bus.rpc.Server`."""

    @property
    def socket(self) -> Socket | int:
        """What to poll."""
        ...

    def handle(self) -> None:
        """Answer what waits."""
        ...

    def close(self) -> None:
        """Close the socket."""
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
        serve: Callable[[Methods], RpcLike] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._opts = opts
        self._clock = clock
        self._context = context or default_context()
        self._max_event_size = int(opts["max_event_size"])
        self._packer = wire.EventPacker(time.time_ns, self._max_event_size)
        self._max_message = protocol.max_message(self._max_event_size)
        self._complaints = Complaints(clock)
        self._auth_budget = Budget(AUTH_EVENTS_PER_SECOND, clock)
        self._handover_budget = Budget(handover.ANSWERS_PER_SECOND, clock)
        self._peers = Peers()
        self._told: OrderedDict[tuple[str, bytes], str] = OrderedDict()
        self._rotated: dict[str, bytes] = {}
        self._file_budgets: dict[str, Budget] = {}
        self._minions: dict[str, Grains] | None = None
        self._grains: dict[str, Grains] = {}
        self._dues: dict[str, float] = {}
        self._presence = Presence() if opts.get("presence_events") else None
        self._presence_version = -1
        self._held = Held(clock())
        self._owing = Owing()
        self._may_fire = MayFire(opts.get("minion_may_fire", EVERYTHING))
        self._silence = Silence(clock())
        self._policy = Policy(opts)
        self._keys = KeyStore(opts["pki_dir"])
        self._keys.refresh()
        self._keys_version = self._keys.version
        grace = float(opts.get("master_key_grace_seconds", DEFAULT_GRACE))
        self._master_keys = KeyFiles(opts["pki_dir"], grace)
        self._keypair = self._master_keys.current
        roots = opts.get("file_roots") or {}
        self._files = FileTree([str(root) for root in roots.get("base", ())])
        with contextlib.ExitStack() as stack:
            self._open(stack, publisher, serve)
            self._recall_owing()
            self._closing = stack.pop_all()

    # -- opening and closing --------------------------------------------------------------

    def _open(
        self,
        stack: contextlib.ExitStack,
        publisher: FullPublisher | None,
        serve: Callable[[Methods], RpcLike] | None,
    ) -> None:
        """Open everything; what is open is closed again if something later fails."""
        store = Path(self._opts["state_dir"]) / "jobs.db"
        self._jobs = JobStore(store, float(self._opts["keep_jobs_seconds"]))
        stack.callback(self._jobs.close)
        self._zap = ZapHandler(self._context)
        stack.callback(self._zap.close)
        self._router = self._make_router()
        stack.callback(self._router.close, linger=200)
        self._departures = Departures(self._router, self._clock)
        stack.callback(self._departures.close)
        self._syncer = Syncer()
        stack.callback(self._syncer.close)
        self.port = self._bind()
        self._responder = self._make_responder()
        stack.callback(self._responder.close)
        self._publisher = publisher or Publisher(
            endpoints.master_pull(self._opts),
            line=endpoints.master_direct(self._opts) if endpoints.direct_line_works() else None,
        )
        stack.callback(self._publisher.close)
        self._streams = Streams(self._publisher, self._answer_batch)
        self._publishing = self._make_publishing()
        methods = self._methods()
        self._rpc: RpcLike = serve(methods) if serve else self._serve(methods)
        stack.callback(self._rpc.close)

    def _make_router(self) -> Socket:
        router: Socket = self._context.socket(zmq.ROUTER)
        options: dict[int, int | bytes] = {
            zmq.LINGER: 0,
            zmq.CURVE_SERVER: 1,
            zmq.CURVE_SECRETKEY: self._keypair.secret,
            zmq.ZAP_DOMAIN: DOMAIN,
            zmq.ROUTER_MANDATORY: 1,
            zmq.ROUTER_HANDOVER: 1,
            zmq.SNDHWM: SEND_QUEUE,
            zmq.RCVHWM: RECEIVE_QUEUE,
            zmq.BACKLOG: BACKLOG,
            zmq.MAXMSGSIZE: self._max_message,
            zmq.HANDSHAKE_IVL: HANDSHAKE_MS,
            # Not ZeroMQ's heartbeats: to end one of its timers, libzmq looks through those of all
            # connections, and with ten thousand that took most of a processor. The kernel finds
            # the hosts that are gone, `Silence` the processes that do nothing any more.
            zmq.TCP_KEEPALIVE: 1,
            zmq.TCP_KEEPALIVE_IDLE: KEEPALIVE_SECONDS,
            zmq.TCP_KEEPALIVE_INTVL: KEEPALIVE_SECONDS // 3,
            zmq.TCP_KEEPALIVE_CNT: 3,
            zmq.TCP_MAXRT: 2_000 * KEEPALIVE_SECONDS,
            zmq.IPV6: int(":" in self._opts["interface"]),
        }
        for option, value in options.items():
            router.set(option, value)
        return router

    def _bind(self) -> int:
        host, port = str(self._opts["interface"]), int(self._opts["ret_port"])
        shown = f"[{host.strip('[]')}]" if ":" in host else host
        try:
            self._router.bind(f"tcp://{shown}:{port or '*'}")
        except zmq.ZMQError as error:
            raise AlreadyRunningError(
                f"cannot listen on {host} port {port} (options interface, ret_port): {error}"
            ) from error
        endpoint = self._router.get(zmq.LAST_ENDPOINT)
        assert isinstance(endpoint, bytes)
        return int(endpoint.rstrip(b"\0").rsplit(b":", 1)[1])

    def _make_responder(self) -> Responder:
        host = str(self._opts["interface"])
        try:
            return Responder(host, self.port, self._keypair.public, self._hand_over)
        except OSError as error:
            raise AlreadyRunningError(
                f"cannot listen on {host} port {self.port} in UDP: {error.strerror}"
            ) from error

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

    def _serve(self, methods: Methods) -> RpcLike:
        address = endpoints.master_link(self._opts)
        return open_server(address, methods, self._complaints)

    def _methods(self) -> dict[str, Callable[[dict[str, Any]], Any]]:
        return {
            "ping": lambda _: True,
            "status": lambda _: self.status(),
            "minions.connected": lambda _: self._connected(),
            "minions.grains": lambda _: self._known_grains(),
            "minions.forget_grains": self._forget_grains,
            "keys.master": lambda _: self._rotation_status(),
            "keys.master_prepare": lambda _: self._prepare_rotation(),
            "keys.master_switch": lambda _: self._switch_key(),
            "keys.master_cancel": lambda _: self._cancel_rotation(),
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
            self._responder.socket.fileno(): self._responder.handle,
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
        if self._due("files", FILES_SECONDS):
            if self._files.has_changed():
                self._tell_all(Changed())
            self._look_at_master_keys()
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
        if peer is not None and self._is_accepted(peer):
            peer.heard = self._clock()
            self._take_accepted(peer, protocol.decode_up(raw))
        else:
            self._take_stranger(routing, key, raw, peer)

    def _is_accepted(self, peer: Peer) -> bool:
        return peer.state == ACCEPTED and self._keys.accepted().get(peer.id) == peer.key

    def _take_stranger(self, routing: bytes, key: bytes, raw: bytes, peer: Peer | None) -> None:
        """A peer that is not accepted can say hello; to all else it hears its state only."""
        if len(raw) > protocol.MAX_HELLO_BYTES:
            raise WireError("a first message that is too large")
        message = protocol.decode_up(raw)
        if isinstance(message, Hello):
            self._take_hello(routing, key, message)
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
                self._take_hello(peer.routing, peer.key, message)
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
            peer is not None and self._is_accepted(peer) and self._send_frame(peer.routing, frame)
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

    def _take_hello(self, routing: bytes, key: bytes, hello: Hello) -> None:
        if self._is_replaced(hello.id, key):
            # A minion that did not hear the answer: it has the new key too, and tries it next.
            self._send(routing, State(DENIED))
            return
        try:
            state = self._submit(hello.id, key)
        except BusError as error:
            self._complaints.add("keys_not_kept", str(error))
            return
        peer = Peer(routing, hello.id, key, state, hello.grains, self._clock(), hello.run)
        older = self._peers.get(routing)
        if older is not None:
            self._peers.forget(older)
        self._peers.put(peer)
        self._tell_state(peer)
        self._announce(peer)

    def _is_replaced(self, ident: str, key: bytes) -> bool:
        """Say whether this minion has put another key, which holds, in the place of this one."""
        return self._rotated.get(ident) == key and self._keys.accepted().get(ident) not in (
            None,
            key,
        )

    def _submit(self, ident: str, key: bytes) -> str:
        before = self._keys.state(ident, key)
        # What somebody has decided holds, whatever the lists say.
        verdict = self._policy.decide(ident, key) if before in (UNKNOWN, PENDING) else autosign.ASK
        accepts, rejects = verdict == autosign.ACCEPT, verdict == autosign.REJECT
        state = self._keys.submit(ident, key, accepts, rejects)
        if state != before:
            self._minions = None
            if (state == ACCEPTED and accepts) or (state == REJECTED and rejects):
                self._fire("salt/key", {"id": ident, "act": verdict, "result": True})
        if state == UNKNOWN:
            text = f"too many keys are {'rejected' if rejects else 'pending'}: none is added"
            self._complaints.add("too_many_pending", text)
            return PENDING
        return state

    def _tell_state(self, peer: Peer) -> None:
        if peer.state == ACCEPTED:
            self._grains[peer.id] = peer.grains
            self._minions = None
            self._tell_gone(self._owing.greeted(peer.id, peer.run))
            self._send(peer.routing, Welcome(protocol.VERSION, self._max_event_size))
            if self._master_keys.next is not None:
                self._send(peer.routing, self._known_by())
            self._send_held(peer.id)
        else:
            self._send(peer.routing, State(peer.state))

    def _announce(self, peer: Peer) -> None:
        """Fire ``salt/auth`` if the state of this id and key is another than at the last time."""
        name = (peer.id, peer.key)
        if self._told.get(name) == peer.state:
            return
        self._told[name] = peer.state
        if len(self._told) > _MAX_TOLD:
            self._told.popitem(last=False)
        if peer.state != ACCEPTED and not self._auth_budget.take():
            self._complaints.add("auth_events_left_out", "too many salt/auth events: left out")
            return
        good = peer.state in (ACCEPTED, PENDING)
        data = {"id": peer.id, "act": _ACTS[peer.state], "pub": peer.key.decode(), "result": good}
        self._fire("salt/auth", data)

    def _look_at_keys_if_due(self) -> None:
        if self._due("keys", KEYS_SECONDS):
            self._look_at_keys()

    def _look_at_keys(self) -> None:
        try:
            self._keys.refresh()
        except BusError as error:
            self._complaints.add("keys_not_read", str(error))
            return
        if self._keys.version != self._keys_version:
            self._keys_version = self._keys.version
            self._minions = None
            for peer in self._peers:
                self._look_at(peer)
            for ident, count in self._held.keep_only(self._keys.accepted()).items():
                log.warning("%d jobs for %s are given up: its key was revoked", count, ident)

    def _look_at(self, peer: Peer) -> None:
        """Tell a peer whose key has another state now."""
        state = self._keys.state(peer.id, peer.key)
        if state == peer.state:
            return
        self._peers.forget(peer)
        if state == UNKNOWN:  # deleted: a minion that is still there says hello, and is pending
            self._told.pop((peer.id, peer.key), None)
            if peer.state == ACCEPTED:
                self._send(peer.routing, State(protocol.DELETED))
            return
        peer.state = state
        self._peers.put(peer)
        self._tell_state(peer)
        self._announce(peer)

    def _accepted_minions(self) -> dict[str, Grains]:
        """Return all accepted ids, sorted, with their grains as far as they are known."""
        self._look_at_keys_if_due()
        if self._minions is None:
            accepted = self._keys.accepted()
            known = {ident: grains for ident, grains in self._grains.items() if ident in accepted}
            self._grains = known
            self._minions = {ident: known.get(ident, {}) for ident in sorted(accepted)}
        return self._minions

    def _connected(self) -> list[str]:
        self._look_at_keys_if_due()
        self._probe_all()
        return self._peers.connected()

    def _known_grains(self) -> dict[str, Any]:
        return {ident: dict(grains) for ident, grains in self._accepted_minions().items() if grains}

    def _forget_grains(self, params: dict[str, Any]) -> list[str]:
        known = [ident for ident in params["ids"] if self._grains.pop(ident, None)]
        self._minions = None
        return known

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

    # -- the master's own key -----------------------------------------------------------------

    def _known_by(self) -> MasterKeys:
        pairs = (self._master_keys.current, self._master_keys.next)
        return MasterKeys([pair.public for pair in pairs if pair is not None])

    def _hand_over(self, datagram: bytes) -> bytes | None:
        """Answer one who asks for the successor of a key that was ours."""
        if not self._handover_budget.take():
            return None
        files = self._master_keys
        return handover.answer(datagram, files.current.public, [*files.past, files.current])

    def _rotation_status(self) -> dict[str, Any]:
        """Return the keys, and which minions do not know of the next one."""
        following = self._master_keys.next
        public = following.public if following else b""
        peers = {ident: self._peers.minion(ident) for ident in self._accepted_minions()}
        return {
            "finger": fingerprint(self._keypair.public),
            "next": fingerprint(public) if public else "",
            "waiting": [
                i for i, peer in peers.items() if peer is not None and peer.knows != public
            ],
            "away": [ident for ident, peer in peers.items() if peer is None],
            "grace": float(self._opts.get("master_key_grace_seconds", DEFAULT_GRACE)),
        }

    def _prepare_rotation(self) -> dict[str, Any]:
        self._master_keys.prepare()
        self._tell_all(self._known_by())
        return self._rotation_status()

    def _cancel_rotation(self) -> bool:
        return self._master_keys.cancel()

    def _switch_key(self) -> dict[str, Any]:
        """Take the next key; the loop opens the port with it, and ends the process if it cannot."""
        self._master_keys.switch()
        self._dues.pop("files", None)
        now = fingerprint(self._master_keys.current.public)
        return {"before": fingerprint(self._keypair.public), "finger": now}

    def _look_at_master_keys(self) -> None:
        """Follow the files, which another process may have changed.

        Raises:
            AlreadyRunningError: the port cannot be opened again.
        """
        try:
            changed = self._master_keys.refresh()
        except (BusError, OSError) as error:
            self._complaints.add("master_key_not_read", str(error))
            return
        if self._master_keys.current != self._keypair:
            self._use_master_key()
        elif changed and self._master_keys.next is not None:
            self._tell_all(self._known_by())

    def _use_master_key(self) -> None:
        """Open the port anew, since a listening socket keeps the key that it was opened with."""
        self._tell_all(self._known_by())
        self._keypair = self._master_keys.current
        endpoint = self._router.get(zmq.LAST_ENDPOINT)
        assert isinstance(endpoint, bytes)
        address = endpoint.rstrip(b"\0").decode()
        self._router.unbind(address)
        self._router.set(zmq.CURVE_SECRETKEY, self._keypair.secret)
        self._responder.public = self._keypair.public
        self._bind_again(address)
        now = fingerprint(self._keypair.public)
        log.info("the key of this master is %s now", now)
        self._fire("salt/key", {"id": "", "act": "rotate_master", "finger": now, "result": True})

    def _bind_again(self, address: str) -> None:
        """Bind where it was bound; ZeroMQ's own thread takes a moment to let go of it."""
        deadline = time.monotonic() + REBIND_SECONDS
        while not self._binds(address, last_try=time.monotonic() > deadline):
            time.sleep(0.005)

    def _binds(self, address: str, *, last_try: bool) -> bool:
        try:
            self._router.bind(address)
        except zmq.ZMQError as error:
            if last_try:
                raise AlreadyRunningError(f"cannot listen on {address}: {error}") from error
            return False
        return True

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
        if peer is not None and self._is_accepted(peer):
            self._send(routing, answer)

    def _take_request(self, peer: Peer, request: Request) -> None:
        if "knows" in request.params:
            self._note_known_key(peer, request.number, request.params["knows"])
        elif "rotate" in request.params:
            self._rotate(peer, request.number, request.params["rotate"])
        else:
            self._send(peer.routing, self._reply(peer.id, request))

    def _note_known_key(self, peer: Peer, number: int, public: Any) -> None:
        """A minion says which key of the master's it keeps for when it is the one in use."""
        try:
            # Never bytes(...) of what came: of a number that is as many bytes.
            peer.knows = check_public(public if isinstance(public, bytes) else b"")
        except BusError as error:
            self._send(peer.routing, Reply(number, None, str(error)[: admission.MAX_ERROR]))
            return
        self._send(peer.routing, Reply(number, True, ""))

    def _rotate(self, peer: Peer, number: int, new: Any) -> None:
        """Take another key for a minion, at the word of the one that proved the accepted key."""
        try:
            self._check_next_key(peer.id, new)
            if new != peer.key:
                self._keys.replace(peer.id, peer.key, new)
        except BusError as error:
            log.warning("the key of %s was not replaced: %s", peer.id, error)
            self._send(peer.routing, Reply(number, None, str(error)[: admission.MAX_ERROR]))
            return
        self._send(peer.routing, Reply(number, True, ""))
        if new == peer.key:
            return
        # The connection ends with the key that it was made with.
        self._peers.forget(peer)
        self._rotated[peer.id] = peer.key
        log.info("the key of %s was replaced by %s", peer.id, fingerprint(new))
        self._fire("salt/key", {"id": peer.id, "act": "rotate", "result": True})

    def _check_next_key(self, ident: str, new: Any) -> None:
        if not isinstance(new, bytes):
            raise DataError("a public key is bytes")
        if self._policy.decide(ident, check_public(new)) == autosign.REJECT:
            raise KeyStateError("the new key is one that the autoreject_file rejects")

    def _reply(self, ident: str, request: Request) -> Reply:
        params = request.params
        try:
            if "files" in params:
                return Reply(request.number, self._files.hashes(params["files"]), "")
            if "file" in params:
                return Reply(request.number, self._file(ident, params["file"]), "")
        except BusError as error:
            return Reply(request.number, None, str(error))
        except OSError as error:
            return Reply(request.number, None, f"the file cannot be read: {error.strerror}")
        return Reply(request.number, None, "an unknown request: ask for 'files' or 'file'")

    def _file(self, ident: str, name: Any) -> bytes:
        content = self._files.read(name)
        budget = self._file_budgets.get(ident) or Budget(
            FILE_BYTES_PER_SECOND, self._clock, FILE_BYTES_AT_ONCE
        )
        self._file_budgets[ident] = budget
        if not budget.take(len(content)):
            self._complaints.add("files_not_sent", f"{ident} asks for too many files at once")
            raise DataError("too many files at once: ask again in a while")
        return content

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
