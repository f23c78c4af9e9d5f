"""The event sockets: a ROUTER that takes events and calls, an XPUB, and the direct line.

The XPUB publishes each event by itself, as Salt does. The direct line takes single fires, and
publishes all that came in one turn together, to this library's listeners. Where there is none,
such as on loopback ports, a second XPUB does that.

An object without a loop of its own: the master's bus process and the minion's daemon poll its
sockets among theirs.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import zmq

from bus import endpoints, frames, wire
from bus.broker.audience import Audience
from bus.broker.limits import Limits, Listeners, Rates
from bus.broker.outlet import GroupOutlet, Outlet, SingleOutlet
from bus.complaints import Complaints
from bus.direct import framing
from bus.direct.serving import Client, DirectSocket
from bus.errors import BusError, DataError, JournalError, TooLargeError, WireError
from bus.frames import Call, Fire
from bus.lock import DirectoryLock
from bus.rpc import Methods, answer
from bus.sockets import bind, close_bound, has_input, send_parts
from bus.store import Kept, Store

MAX_MESSAGES_PER_TURN = 1000
MAX_BYTES_PER_TURN = 256 << 10
"""One turn is one transaction: large enough to share its cost, small enough that who fires and
who listens have something to do while the next one is written."""

MAX_FIRE_BYTES = 4 << 20
"""The largest message that is taken, unless ``max_event_size`` is larger."""

_QUEUE_OF_FIRES = 2
"""The largest fires that a listener's queue must hold, or it would never get one whole: ZeroMQ
learns only after half a queue that there is room again."""

MAX_FAILED = 1000
"""Held fires that failed and are remembered, should their producer ask again."""

COUNTERS = (
    "fired",
    "published",
    "repeated",
    "out_of_order",
    "refused",
    "too_large",
    "malformed",
    "held_back",
    "too_fast",
    "dropped",
    "refused_listeners",
    "refused_clients",
    "failed_calls",
)
"""What the status always has, at least as zero."""

Done = Callable[[BusError | None], None]
EventHook = Callable[[str, bytes, Done], bool]
"""Told of each event; when it returns True, the acknowledgement waits until it calls ``done``."""


Sender = bytes | Client
"""Who is answered: a routing id of the ROUTER, or a client of the direct line."""


class _Waiting(NamedTuple):
    """A fire of this turn and the client to answer."""

    client: Sender
    fire: Fire


class EventSockets:
    """The event sockets of one bus.

    Args:
        pull: the address of the ROUTER.
        pub: the address of the XPUB of single events.
        fires: the address of the direct line, or of an XPUB of events in groups.
        store: numbers the events and keeps them.
        methods: what clients may call, by name, besides ``ping`` and ``status``.
        on_event: told of each event before it is acknowledged.
        limits: what a sender and a listener may cost.

    Raises:
        AlreadyRunningError: another server has these sockets.
        BusError: an address cannot be bound.
    """

    def __init__(
        self,
        *,
        pull: str,
        pub: str,
        fires: str,
        store: Store,
        methods: Methods | None = None,
        on_event: EventHook | None = None,
        limits: Limits | None = None,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
    ) -> None:
        context = context or zmq.Context.instance()
        self._complaints = Complaints()
        self.counters: Counter[str] = self._complaints.counters
        self._store = store
        self._on_event = on_event
        self._held: dict[tuple[bytes, int], _Countdown] = {}
        self._failed: OrderedDict[tuple[bytes, int], BusError] = OrderedDict()
        limits = limits or Limits()
        self._max_event_size = limits.max_event_size
        self._rates = Rates(limits.fire_rate, time.monotonic) if limits.fire_rate else None
        self._listeners = Listeners(limits.max_listeners)
        self._methods: dict[str, Callable[[dict[str, Any]], Any]] = {
            "ping": lambda _: True,
            "status": lambda _: self.status(),
            **(methods or {}),
        }
        self._lock = DirectoryLock.for_address(pull)
        self._direct: DirectSocket | None = None
        self._bound: dict[zmq.Socket[bytes], str] = {}
        self._pull = context.socket(zmq.ROUTER)
        self._pull.set(zmq.MAXMSGSIZE, _room_for_fires(limits.max_event_size))
        self._pull.set(zmq.RCVHWM, MAX_MESSAGES_PER_TURN * 2)
        shared = (self._listeners, self._store, self._complaints)
        self._audience = Audience(self._listeners, self._store, self.counters)
        self._outlets: tuple[Outlet, ...] = (
            SingleOutlet(context.socket(zmq.XPUB), limits.listener_queue, *shared),
        )
        line = endpoints.line_path(fires)
        addresses = [pull, pub]
        if line is None:
            pieces = _pieces_to_hold(limits)
            self._outlets += (GroupOutlet(context.socket(zmq.XPUB), pieces, *shared),)
            addresses.append(fires)
        try:
            for socket, address in zip(self._zmq_sockets, addresses, strict=True):
                bind(socket, address)
                self._bound[socket] = address
            if line:
                self._direct = DirectSocket(
                    line,
                    _room_for_fires(limits.max_event_size),
                    limits.listener_queue_size,
                    self._complaints,
                    self._audience,
                )
        except BusError:
            self.close()
            raise

    @property
    def sockets(self) -> Sequence[zmq.Socket[bytes] | int]:
        """The sockets to poll for input, and the descriptor of the direct line."""
        return (*self._zmq_sockets, self._direct.fileno()) if self._direct else self._zmq_sockets

    @property
    def _zmq_sockets(self) -> Sequence[zmq.Socket[bytes]]:
        return (self._pull, *(outlet.socket for outlet in self._outlets))

    def handle(self, socket: zmq.Socket[bytes] | int) -> None:
        """Take what waits on one of the sockets or descriptors."""
        if self._direct and socket == self._direct.fileno():
            self._take_direct(self._direct)
        elif socket is self._pull:
            self._take_requests()
        else:
            for outlet in self._outlets:
                if socket is outlet.socket:
                    outlet.take_subscriptions()

    def publish(self, tag: str, data: Mapping[str, Any]) -> int:
        """Put an event of the server's own onto the bus and return its number.

        Raises:
            BusError: the event cannot go onto a bus, or the store did not take it.
        """
        event = wire.pack_event(tag, data, self._max_event_size)
        fire = Fire(b"", 0, 0, [event])
        (kept,) = self._store.append([fire])
        self._publish([fire])
        return kept.first_seq

    def status(self) -> dict[str, Any]:
        """Return the counters and where the numbering stands, see docs/reference/status.md."""
        return {
            "bus_id": self._store.bus_id,
            "last_seq": self._store.last_seq,
            "listeners": len(self._listeners),
            "slow_listeners": self._audience.status(),
            "held": len(self._held),
            "journal": self._store.status(),
            "counters": {**dict.fromkeys(COUNTERS, 0), **self.counters},
        }

    def close(self) -> None:
        """Close the sockets and let another server have them."""
        if self._direct:
            self._direct.close()
        for socket, address in self._bound.items():
            close_bound(socket, address)
        self._bound.clear()
        for socket in self._zmq_sockets:
            socket.close(linger=0)
        self._lock.release()

    # -- requests -------------------------------------------------------------------------

    def _take_requests(self) -> None:
        waiting: list[_Waiting] = []
        size = 0
        for _ in range(MAX_MESSAGES_PER_TURN):
            if size > MAX_BYTES_PER_TURN or not has_input(self._pull):
                break
            client, *rest = self._pull.recv_multipart(zmq.NOBLOCK)
            self._take_request(client, rest, waiting)
            size += sum(map(len, rest))
        if waiting:
            self._keep_counted(waiting)

    def _keep_counted(self, waiting: list[_Waiting]) -> None:
        self.counters["fired"] += sum([len(item.fire.events) for item in waiting])
        self._keep(waiting)

    def _take_direct(self, direct: DirectSocket) -> None:
        waiting: list[_Waiting] = []
        size = 0
        for client, messages in direct.receive():
            for head, body in messages:
                if head[:1] == framing.LISTEN:
                    self._take_listener(client, head, body)
                    continue
                self._take_request(client, [head, body], waiting)
                size += len(body)
            if size > MAX_BYTES_PER_TURN:
                break
        if waiting:
            self._keep_counted(waiting)

    def _take_listener(self, client: Client, head: bytes, body: bytes) -> None:
        try:
            refusal = self._audience.ask(client, framing.read_listen(head, body))
        except WireError as error:
            self._complaints.add("malformed", f"refused a listener: {error}")
            return
        if refusal:
            self._complaints.add("refused_listeners", f"refused a listener: {refusal}")

    def _take_request(self, client: Sender, rest: list[bytes], waiting: list[_Waiting]) -> None:
        if self._rates and self._is_too_fast(self._rates, client, rest):
            return
        try:
            request = frames.parse_request(rest)
        except WireError as error:
            self._complaints.add("malformed", f"refused a malformed request: {error}")
            self._refuse_malformed(client, rest, error)
            return
        if isinstance(request, Call):
            self._send(client, answer(self._methods, request, self._complaints))
        elif self._fits(client, request):
            if self._rates:
                self._rates.charge(frames.sender(_name(client), rest), len(request.events))
            waiting.append(_Waiting(client, request))

    def _refuse_malformed(self, client: Sender, rest: list[bytes], error: WireError) -> None:
        """Tell a client of ours that its fire was no good; anybody else gets no answer."""
        parts = frames.refused_unread(rest, DataError(str(error)))
        if parts:
            self._send(client, parts)

    def _is_too_fast(self, rates: Rates, client: Sender, rest: list[bytes]) -> bool:
        """Turn a fire away unread if its sender has to wait; a call is never one."""
        if len(rest) > 2 or not (error := rates.refusal(frames.sender(_name(client), rest))):
            return False
        parts = frames.slower_unread(rest, error)
        if parts:
            self.counters["held_back"] += 1
            self._send(client, parts)
        else:
            self._complaints.add("too_fast", f"an event that asks for no answer is lost: {error}")
        return True

    def _fits(self, client: Sender, fire: Fire) -> bool:
        longest = max(map(len, fire.events))
        if longest <= self._max_event_size:
            return True
        self.counters["too_large"] += 1
        error = TooLargeError(
            f"an event of {longest} bytes; the option max_event_size allows {self._max_event_size}"
        )
        self._answer_fire(client, fire, error)
        return False

    def _keep(self, waiting: list[_Waiting]) -> None:
        try:
            kept = self._store.append([item.fire for item in waiting])
        except JournalError as error:
            self._refuse_all(waiting, error)
            return
        # All are published before any hook runs: what a hook publishes has a higher number.
        # And before any is acknowledged: who fires and then listens does not hear his own event.
        self._publish([item.fire for item, one in zip(waiting, kept, strict=True) if one.fresh])
        for item, result in zip(waiting, kept, strict=True):
            self._finish(item, result)

    def _refuse_all(self, waiting: list[_Waiting], error: JournalError) -> None:
        self._complaints.add("refused", str(error), len(waiting), level=logging.ERROR)
        for item in waiting:
            self._answer_fire(item.client, item.fire, error)

    def _finish(self, item: _Waiting, kept: Kept) -> None:
        if kept.missing is not None:
            self.counters["out_of_order"] += 1
            self._send(item.client, frames.again(item.fire.producer, kept.missing))
            return
        if not kept.fresh:
            self._repeat(item, kept)
        elif not self._deferred(item, kept):
            self._acknowledge(item.client, item.fire, kept.first_seq)

    def _repeat(self, item: _Waiting, kept: Kept) -> None:
        """Answer a fire that came before as it was answered then, or will be."""
        self.counters["repeated"] += 1
        key = (item.fire.producer, item.fire.number)
        if key in self._held:
            self._held[key].client = item.client
        elif key in self._failed:
            self._answer_fire(item.client, item.fire, self._failed[key])
        else:
            self._acknowledge(item.client, item.fire, kept.first_seq)

    def _publish(self, fires: Sequence[Fire]) -> None:
        """Publish what the store has kept last: the numbers of these events follow each other."""
        if not fires:
            return
        events = fires[0].events if len(fires) == 1 else [e for fire in fires for e in fire.events]
        body = fires[0].body if len(fires) == 1 else b""
        self._audience.publish(events, body)
        for outlet in self._outlets:
            outlet.publish(events, body)
        self.counters["published"] += len(events)

    def _deferred(self, item: _Waiting, kept: Kept) -> bool:
        """Tell the hook; return whether the acknowledgement waits for it."""
        hook = self._on_event
        if hook is None:
            return False
        countdown = _Countdown(self, item, kept)
        for event in item.fire.events:
            tag, _ = wire.split_event(event)
            if hook(tag, event, countdown.done):
                countdown.awaited += 1
        if countdown.awaited and item.fire.producer:
            self._held[item.fire.producer, item.fire.number] = countdown
        return countdown.started()

    def answer_later(self, client: Sender, fire: Fire, seq: int, error: BusError | None) -> None:
        """Answer a fire whose acknowledgement had to wait."""
        key = (fire.producer, fire.number)
        self._held.pop(key, None)
        if error:
            self._remember_failed(key, error)
            self._answer_fire(client, fire, error)
        else:
            self._acknowledge(client, fire, seq)

    def _remember_failed(self, key: tuple[bytes, int], error: BusError) -> None:
        self._failed[key] = error
        if len(self._failed) > MAX_FAILED:
            self._failed.popitem(last=False)

    def _acknowledge(self, client: Sender, fire: Fire, first_seq: int) -> None:
        if fire.producer:
            count = len(fire.events)
            self._send(client, frames.acknowledged(fire.producer, fire.number, first_seq, count))

    def _answer_fire(self, client: Sender, fire: Fire, error: BusError) -> None:
        if fire.producer:
            self._send(client, frames.refused(fire.producer, fire.number, error))

    def _send(self, client: Sender, parts: list[bytes]) -> None:
        """Send an answer; a client that does not read its answers loses them, and asks again."""
        if isinstance(client, Client):
            client.answer(parts)
            return
        try:  # noqa: SIM105 - on the way of each acknowledgement, and twice as fast
            send_parts(self._pull, (client, *parts))
        except zmq.ZMQError:
            pass


class _Countdown:
    """Acknowledges a fire once the hook has said ``done`` for each event that it holds back."""

    def __init__(self, sockets: EventSockets, item: _Waiting, kept: Kept) -> None:
        self._sockets = sockets
        self.client = item.client
        self._fire = item.fire
        self._seq = kept.first_seq
        self._error: BusError | None = None
        self._told = 0
        self._deferring = False
        self.awaited = 0

    def done(self, error: BusError | None) -> None:
        self._told += 1
        self._error = self._error or error
        if self._deferring and self._told == self.awaited:
            self._sockets.answer_later(self.client, self._fire, self._seq, self._error)

    def started(self) -> bool:
        """Return True if an answer will be sent by `done`, now or later."""
        if not self.awaited:
            return False
        self._deferring = True
        if self._told == self.awaited:
            self._told -= 1
            self.done(None)
        return True


def _name(client: Sender) -> bytes:
    """Return the name of who names no producer, as each client of the direct line does."""
    return client if isinstance(client, bytes) else b""


def _pieces_to_hold(limits: Limits) -> int:
    """Return how many messages of a group a listener's queue holds, in ZeroMQ's way to count."""
    least = _QUEUE_OF_FIRES * -(-_room_for_fires(limits.max_event_size) // frames.PIECE_BYTES)
    return max(least, limits.listener_queue_size // frames.PIECE_BYTES)


def _room_for_fires(max_event_size: int) -> int:
    """Return the limit of a message: the publisher's largest batch, or one largest event."""
    return max(max_event_size, MAX_FIRE_BYTES) + 65_536
