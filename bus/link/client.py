"""The minion's end of the link: finds its master, says hello, and brings up what is fired.

An object without a loop of its own: the minion polls its sockets and calls `tick`.
"""

from __future__ import annotations

import logging
import random
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import zmq

from bus import wire
from bus.errors import BusError, NotRunningError, TooLargeError, WireError
from bus.keys import (
    ACCEPTED,
    DENIED,
    PENDING,
    REJECTED,
    UNKNOWN,
    Keypair,
    MinionKeys,
    fingerprint,
)
from bus.link import backoff, protocol
from bus.link.absence import Absence
from bus.link.connection import DOWN, FAILED, UP, Connection
from bus.link.failback import Failback
from bus.link.firstcontact import Question
from bus.link.handover import HandoverQuestion
from bus.link.outbox import Done, Outbox
from bus.link.protocol import (
    EVENT,
    LINEAGE_BYTES,
    RETURN,
    Ack,
    Bye,
    Changed,
    Down,
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
from bus.link.rotation import Rotation
from bus.link.spool import DROP_OLDEST, REFUSE, DiskSpool
from bus.link.trust import Address, Trust, parse_masters
from bus.sockets import Socket
from bus.tags import check_tag, tagify

log = logging.getLogger(__name__)

OnReply = Callable[[Any, str], None]
"""Told the value and an empty text, or None and what went wrong."""

Grains = Mapping[str, Any] | Callable[[], Mapping[str, Any]]

NOT_CONNECTED = "the master is not connected"
WENT_DOWN = "the link to the master went down"

CONNECTING = "connecting"
CONNECTED = "connected"
ERROR = "error"

PING_SECONDS = 10.0
SILENCE_SECONDS = 35.0
"""Three pings without an answer, and a little."""

FAILOVER_SECONDS = 5.0
"""How long to try one of several masters that does not answer."""

FIRST_DELAY = 0.1
ABSENT_DELAY = 0.5
"""Between tries that stay on this host, since nobody is connected."""
REPEAT_DELAY = 1.0
"""Before a hello that was sent is sent again: it does not get lost, but a busy master is late."""
LAST_DELAY = 20.0
ERROR_DELAY = 30.0
HANDOVER_SECONDS = 2.0
"""How long to ask a master that proves none of the keys that we know for the one after them."""
HANDOVER_DELAY = 30.0
FIRST_QUESTION_DELAY = 0.3
LAST_QUESTION_DELAY = 5.0

_PIPELINE = 2
_FILL = 128
_ITEM_ROOM = 4096
"""Bytes that the master adds to an event: the sender, the tag, the stamp."""


class LinkClient:
    """The link of one minion. For one thread.

    Args:
        opts: ``id``, ``master``, ``master_port``, ``master_finger``, ``pki_dir``,
            ``state_dir``, ``spool_max_size``, ``spool_policy``, ``max_event_size``,
            ``acceptance_wait_time``, ``master_failback``, ``master_failback_interval``.
        context: the process's ZeroMQ context.
        keypair: the minion's own.
        on_job: told of each job for this minion: ``jid``, ``fun``, ``arg`` and more.
        on_state: told each new `state`.
        on_changed: told when the files that minions take from the master have changed.
        grains: what to tell the master of this minion; a function is asked at each hello.
        clock: seconds, monotonic.
        jitter: from 0 to 1, so that a thousand minions do not come all at once.

    Attributes:
        state: ``connecting``, ``pending``, ``rejected``, ``denied``, ``connected`` or
            ``error`` (the master's key is not the one that was to be expected).

    Raises:
        ConfigError: the option ``master`` names no address.
        KeyStateError: the option ``master_finger`` is no fingerprint.
        ConfigError: a next key is there, and cannot be read.
        JournalError: the spool cannot be opened.
    """

    def __init__(
        self,
        opts: Mapping[str, Any],
        *,
        context: zmq.Context[Socket],
        keypair: Keypair,
        on_job: Callable[[dict[str, Any]], None],
        on_state: Callable[[str], None],
        on_changed: Callable[[], None],
        grains: Grains,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.state = CONNECTING
        self._id = str(opts["id"])
        self._on_job = on_job
        self._on_state = on_state
        self._on_changed = on_changed
        self._grains = grains
        self._clock = clock
        self._jitter = jitter
        self._max_event_size = int(opts["max_event_size"])
        self._acceptance_wait = float(opts.get("acceptance_wait_time", 10.0))
        self._masters = parse_masters(opts["master"], int(opts["master_port"]))
        self._turn = 0
        self._failback = Failback(self._masters[0], _failback_seconds(opts))
        self._trust = Trust(opts["pki_dir"], opts.get("master_finger") or "")
        self._rotation = Rotation(MinionKeys(opts["pki_dir"], keypair), self._use)
        spool = DiskSpool(
            Path(opts["state_dir"]) / "spool.db",
            int(opts["spool_max_size"]),
            str(opts.get("spool_policy", REFUSE)),
        )
        self._run = secrets.token_bytes(LINEAGE_BYTES)
        self._outbox = Outbox(self._run, spool, self._max_event_size)
        limit = protocol.max_message(self._max_event_size)
        self._connection = Connection(context, keypair, limit, backoff.reconnect(jitter))
        self._question: Question | None = None
        self._unproven: bytes | None = None
        self._server_key = b""
        self._key_turn = 0
        self._next_handover = clock()
        self._requests: dict[int, OnReply] = {}
        self._request_number = 0
        now = clock()
        self._outbox.link_down(now)
        self._began = self._heard = now
        self._next_try = now
        self._delay = FIRST_DELAY
        self._next_ping = now
        self._reporting = False
        self._warned = ""
        self._absence = Absence(now)
        self._obstacle = (self.master.name, "no connection")

    # -- what the minion calls ------------------------------------------------------------

    @property
    def sockets(self) -> list[tuple[Socket, Callable[[], None]]]:
        """The sockets to poll for input, and what to call; they stay the same."""
        return [
            (self._connection.socket, self._take_messages),
            (self._connection.monitor, self._take_changes),
        ]

    @property
    def master(self) -> Address:
        """The master that is tried or connected now."""
        return self._masters[self._turn % len(self._masters)]

    @property
    def lost(self) -> int:
        """How many events could neither be delivered nor kept."""
        return self._outbox.lost

    @property
    def rotation(self) -> dict[str, Any]:
        """How far the exchange of the key is, as `bus.link.rotation.Rotation.status` has it."""
        return self._rotation.status()

    @property
    def spool(self) -> dict[str, int]:
        """What waits for the master, on disk and in memory, and what was dropped or lost."""
        return self._outbox.status()

    def handle(self) -> None:
        """Read what waits on the sockets."""
        self._take_changes()
        self._take_messages()

    def tick(self) -> float:
        """Do what time brings, and return the seconds after which to call again at the latest."""
        now = self._clock()
        if self._question is not None:
            self._ask_on(now)
        elif not self._connection.is_open:
            self._begin(now)
        elif self.state == CONNECTED:
            self._keep_alive(now)
        else:
            self._try_hello(now)
        if self.state != ERROR and self._absence.is_due(now):
            log.warning("cannot reach the master at %s (%s), trying again", *self._whereabouts())
        self._outbox.tick(now)
        self._pump()
        return self._wait(self._clock())

    def send_event(self, tag: str, data: dict[str, Any], on_done: Done | None = None) -> None:
        """Send an event to the master's bus.

        Args:
            tag: the event's tag.
            data: the user's data.
            on_done: told True once the master has it in its journal, or with the text
                ``spooled`` once it is on this host's disk; False and why if it is lost.

        Raises:
            TagError: the tag cannot go onto a bus.
            DataError: msgpack cannot carry the data.
            TooLargeError: the event is larger than the master allows.
        """
        packed = wire.pack(data)
        limit = self._outbox.max_event_size
        if len(packed) > limit:
            raise TooLargeError(
                f"the event {tag!r} has {len(packed)} bytes of data; "
                f"the option max_event_size allows {limit}"
            )
        self._send(Item(EVENT, check_tag(tag), packed), on_done)

    def send_return(self, ret: Mapping[str, Any], on_done: Done | None = None) -> None:
        """Send what a job returned; a value that cannot be sent is replaced by words that say so.

        Args:
            ret: ``jid``, ``return``, ``retcode``, ``success``, ...
            on_done: as for `send_event`.
        """
        try:
            packed = wire.pack(dict(ret))
            limit = self._outbox.max_event_size - _ITEM_ROOM
            if len(packed) > limit:
                raise TooLargeError(
                    f"{len(packed)} bytes; the option max_event_size allows {limit}"
                )
        except BusError as error:
            log.warning("the return of job %s cannot be sent: %s", ret.get("jid"), error)
            packed = wire.pack(_unsendable(ret, error))
        self._send(Item(RETURN, str(ret.get("jid", "")), packed), on_done)

    def request(self, params: Mapping[str, Any], on_reply: OnReply) -> None:
        """Ask the master, such as for a file.

        Args:
            params: the question, such as ``{"file": "_modules/x.py"}``.
            on_reply: told the answer; an error if the link is or goes down.
        """
        self._request_number += 1
        number = self._request_number
        frame = protocol.encode(Request(number, dict(params)))
        if self.state != CONNECTED or not self._connection.send(frame):
            on_reply(None, NOT_CONNECTED)
            return
        self._requests[number] = on_reply

    def rotate(self) -> int:
        """Make a new key pair and give it to the master in the place of the one in use.

        Returns:
            What ``finished`` of `rotation` will be when that is over.

        Raises:
            NotRunningError: the master is not connected.
            ConfigError: the key pair cannot be made.
        """
        if self.state != CONNECTED:
            raise NotRunningError(
                "there is no connection to the master, which has to be told the new key: "
                "try again when there is one"
            )
        number = self._rotation.finished + 1
        if not self._rotation.running:
            self._propose_key()
        return number

    def say_hello(self) -> None:
        """Tell the master the grains of now."""
        if self.state == CONNECTED:
            # Nothing goes up between a hello and its answer, so that what the master did not
            # take before the hello cannot be overtaken by what it takes after.
            self._outbox.link_down(self._clock())
            self._enter(CONNECTING)
            self._delay = FIRST_DELAY
            self._next_try = self._clock()
        if self._connection.is_open:
            self._try_hello(self._clock())

    def close(self) -> None:
        """End the link; what the master does not have yet is written to the spool."""
        if self.state == CONNECTED:
            self._connection.send(protocol.encode(Bye()))
        self._stop_asking()
        self._failback.end()
        self._fail_requests()
        self._outbox.close()
        self._connection.close()

    # -- finding the master ---------------------------------------------------------------

    def _begin(self, now: float) -> None:
        """Connect to the master whose turn it is, or ask for its key first."""
        if now < self._next_try:
            return
        self._began = self._heard = now
        self._obstacle = (self.master.name, "no connection")
        try:
            keys = self._trust.keys()
            if keys:
                self._connect(keys[self._key_turn % len(keys)], now)
            else:
                self._start_asking(now, Question(self.master.host, self.master.port))
        except (BusError, zmq.ZMQError) as error:
            self._stay_away(error, now)

    def _stay_away(self, error: Exception, now: float) -> None:
        """Nothing is sent to a master that is not the right one, or that cannot be found."""
        if isinstance(error, NotRunningError | zmq.ZMQError):
            self._obstacle = (self.master.name, str(error))
            self._turn += 1
            self._next_try = now + self._spread(FAILOVER_SECONDS)
            return
        self._warn_once(str(error))
        self._enter(ERROR)
        self._next_try = now + ERROR_DELAY

    def _connect(self, key: bytes, now: float) -> None:
        self._server_key = key
        self._connection.open(self.master, key)
        self._enter(CONNECTING)
        self._delay = FIRST_DELAY
        self._next_try = now

    def _start_asking(self, now: float, question: Question) -> None:
        self._question, self._began = question, now
        self._delay = FIRST_QUESTION_DELAY
        self._next_try = now

    def _ask_on(self, now: float) -> None:
        assert self._question is not None
        key = self._question.poll()
        if isinstance(self._question, HandoverQuestion):
            self._ask_for_next(self._question, key, now)
        elif key is not None:
            self._stop_asking()
            self._unproven = key
            self._connect(key, now)
        elif len(self._masters) > 1 and now - self._began > FAILOVER_SECONDS:
            self._stop_asking()
            self._turn += 1
            self._next_try = now
        else:
            self._ask_again(now)

    def _ask_again(self, now: float) -> None:
        if self._question is not None and now >= self._next_try:
            self._question.send()
            self._next_try = now + self._spread(self._delay)
            self._delay = min(self._delay * 2, LAST_QUESTION_DELAY)

    def _refused_key(self, now: float) -> None:
        """The master does not prove the key that we know it by: try others, then ask for one."""
        known = self._trust.keys()
        self._key_turn += 1
        if self._key_turn % max(len(known), 1):
            self._connection.shut()
            self._next_try = now + self._spread(FIRST_DELAY)
        elif known and now >= self._next_handover:
            self._connection.shut()
            self._next_handover = now + self._spread(HANDOVER_DELAY)
            pair = self._rotation.keypair
            self._start_asking(
                now, HandoverQuestion(self.master.host, self.master.port, pair, known)
            )
        else:
            self._refused_by_all(now)

    def _refused_by_all(self, now: float) -> None:
        self._warn_once(
            f"the master {self.master.host} port {self.master.port} does not prove the "
            f"key that is expected: {self._trust.advice}"
        )
        if len(self._masters) > 1 or self._key_turn > 1:
            self._connection.shut()
            self._turn += 1
            self._next_try = now + self._spread(
                min(ABSENT_DELAY * self._key_turn, LAST_QUESTION_DELAY)
            )

    def _ask_for_next(self, question: HandoverQuestion, key: bytes | None, now: float) -> None:
        if key is not None:
            self._stop_asking()
            log.info("the master's key %s is followed by another", fingerprint(question.answered))
            self._trust.hand_over(question.answered, [key])
            self._key_turn = 0
            self._connect(key, now)
        elif now - self._began > HANDOVER_SECONDS:
            self._stop_asking()
            self._refused_by_all(now)
        else:
            self._ask_again(now)

    def _whereabouts(self) -> tuple[str, str]:
        """Return where the master should be, and what is known of why it is not."""
        if self._question is not None:
            return self.master.name, "no answer to the question for its key, by UDP on that port"
        if self._connection.is_open:
            return self.master.name, self._connection.lacks
        return self._obstacle

    def _stop_asking(self) -> None:
        if self._question is not None:
            self._question.close()
            self._question = None

    def _try_hello(self, now: float) -> None:
        """Say hello until there is an answer, then now and then until the key is accepted."""
        if now - max(self._began, self._heard) > self._patience():
            self._reconnect(now)
        elif now >= self._next_try:
            sent = self._send_hello()
            self._delay = max(self._delay, REPEAT_DELAY if sent else FIRST_DELAY)
            self._next_try = now + self._spread(self._delay)
            self._delay = min(self._delay * 2, LAST_DELAY if sent else ABSENT_DELAY)

    def _patience(self) -> float:
        """Return the seconds after which a silent master is given up."""
        never_heard = self._heard <= self._began
        if never_heard and (len(self._masters) > 1 or self._unproven):
            return FAILOVER_SECONDS
        return SILENCE_SECONDS + self._acceptance_wait

    def _reconnect(self, now: float) -> None:
        """Begin again, with the next master and a fresh look at its key."""
        self._connection.shut()
        self._unproven = None
        self._turn += 1
        self._next_try = now
        self._lost_link(now)

    def _send_hello(self) -> bool:
        grains = self._grains() if callable(self._grains) else self._grains
        try:
            frame = self._hello(dict(grains))
        except BusError as error:
            self._warn_once(f"the grains cannot be sent: {error}")
            frame = self._hello({})
        return self._connection.send(frame)

    def _hello(self, grains: dict[str, Any]) -> bytes:
        frame = protocol.encode(Hello(self._id, protocol.VERSION, grains, self._run))
        if len(frame) > protocol.MAX_HELLO_BYTES:
            raise TooLargeError(f"{len(frame)} bytes are more than {protocol.MAX_HELLO_BYTES}")
        return frame

    def _spread(self, delay: float) -> float:
        return backoff.spread(delay, self._jitter)

    # -- while it lasts -------------------------------------------------------------------

    def _keep_alive(self, now: float) -> None:
        if now - self._heard > SILENCE_SECONDS:
            log.warning("the master %s has fallen silent: connecting again", self.master.host)
            self._reconnect(now)
        elif self._is_elsewhere and self._failback.is_back(now, self._server_key):
            self._go_back(now)
        elif now >= self._next_ping:
            self._next_ping = now + self._spread(PING_SECONDS)
            self._connection.send(protocol.encode(Ping()))

    @property
    def _is_elsewhere(self) -> bool:
        return self._turn % len(self._masters) != 0

    def _go_back(self, now: float) -> None:
        log.info("the master %s is there again: going back to it", self._masters[0].name)
        self._connection.send(protocol.encode(Bye()))
        self._reconnect(now)
        self._turn = 0

    def _wait(self, now: float) -> float:
        if self._question is not None or (self.state != CONNECTED and not self._outbox.idle):
            return 0.05
        due = self._next_ping if self.state == CONNECTED else self._next_try
        return min(max(due - now, 0.01), 1.0)

    def _send(self, item: Item, on_done: Done | None) -> None:
        self._outbox.add(item, on_done)
        # While enough is on the way, what comes next waits for company: a larger batch costs
        # hardly more than a small one, and the next answer sends it off.
        if self._outbox.in_flight < _PIPELINE or self._outbox.queued >= _FILL:
            self._pump()

    def _pump(self) -> None:
        """Send what may be sent."""
        if self.state != CONNECTED:
            return
        now = self._clock()
        while (batch := self._outbox.next(now)) and self._connection.send(batch.frame):
            self._outbox.sent(batch)

    # -- what comes from the master -------------------------------------------------------

    def _take_changes(self) -> None:
        for change in self._connection.events():
            if not self._connection.is_open:
                # The end of a connection that was given up already: the pause after it holds.
                continue
            if change == UP:
                self._proved()
            elif change == DOWN:
                self._lost_link(self._clock())
            elif change == FAILED:
                self._take_refusal(self._clock())

    def _take_refusal(self, now: float) -> None:
        try:
            self._refused_key(now)
        except BusError as error:
            self._warn_once(str(error))

    def _proved(self) -> None:
        """The handshake is over, so the master has the secret of the key that we know it by."""
        if self._unproven is not None:
            key, self._unproven = self._unproven, None
            log.info("the master's key %s is new here and pinned from now on", fingerprint(key))
            try:
                self._trust.pin(key)
            except BusError as error:
                self._warn_once(str(error))
        else:
            self._pin_successor()
        self._key_turn = 0
        self._delay = FIRST_DELAY
        self._next_try = self._clock()
        if self.state != CONNECTED:
            self._try_hello(self._next_try)

    def _pin_successor(self) -> None:
        """The key that was proved is the one to begin with from now on."""
        try:
            if self._trust.proved(self._server_key):
                log.info("the master's key is %s now", fingerprint(self._server_key))
        except BusError as error:
            self._warn_once(str(error))

    def _lost_link(self, now: float) -> None:
        if self.state == CONNECTED:
            log.info("the link to the master %s is down", self.master.host)
        self._absence.begin(now)
        self._outbox.link_down(now)
        self._fail_requests()
        if self._heard > self._began:
            # A master that was never heard keeps its time, or it would be tried for ever.
            self._began = self._heard = now
        self._delay = FIRST_DELAY
        self._next_try = now
        self._enter(CONNECTING)

    def _take_messages(self) -> None:
        while (raw := self._connection.receive()) is not None:
            try:
                message = protocol.decode_down(raw)
            except WireError as error:
                self._warn_once(f"the master sent what cannot be read: {error}")
                continue
            self._heard = self._clock()
            if self._absence.end():
                log.info("the master at %s is reached", self.master.name)
            self._take(message)
        self._pump()

    def _take(self, message: Down) -> None:
        match message:
            case Ack(lineage, number, refused):
                self._outbox.acknowledged(lineage, number, refused)
            case Job(job):
                self._on_job(job)
            case Reply(number, value, error):
                self._take_reply(number, value, error)
            case Refused(lineage, number, text):
                self._warn_once(f"the master cannot keep events now: {text}")
                self._outbox.refused(lineage, number, self._clock())
            case Welcome():
                self._welcomed(message)
            case State(state):
                self._take_state(state)
            case Changed():
                self._on_changed()
            case MasterKeys(keys):
                self._take_master_keys(keys)
            case Pong():
                pass

    def _take_master_keys(self, keys: list[bytes]) -> None:
        """Keep the master's next key, and say so once it is on the disk."""
        if self._unproven is not None or self.state != CONNECTED:
            return
        try:
            self._trust.hand_over(self._server_key, keys)
        except BusError as error:
            self._warn_once(str(error))
            return
        self.request({"knows": keys[-1]}, lambda _value, _error: None)

    def _take_reply(self, number: int, value: Any, error: str) -> None:
        on_reply = self._requests.pop(number, None)
        if on_reply is not None:
            on_reply(None if error else value, error)

    def _welcomed(self, message: Welcome) -> None:
        self._outbox.max_event_size = min(message.max_event_size, self._max_event_size)
        if self.state == CONNECTED:
            return
        self._warned = ""
        self._failback.begin(self._clock())
        self._next_ping = self._clock() + self._spread(PING_SECONDS)
        self._outbox.link_up()
        self._enter(CONNECTED)
        self._report_dropped()
        self._rotation.welcomed()
        if self._rotation.unfinished():
            self._propose_again()

    def _propose_again(self) -> None:
        """Go on with what was begun before the link went down, or before the minion ended."""
        try:
            self._propose_key()
        except BusError as error:
            self._warn_once(str(error))

    def _propose_key(self) -> None:
        pair = self._rotation.begin()
        self.request({"rotate": pair.public}, self._take_key_answer)

    def _take_key_answer(self, _value: Any, error: str) -> None:
        # Without an answer nobody knows which key the master has: the next connection shows it.
        if error not in (NOT_CONNECTED, WENT_DOWN):
            self._rotation.answered(error)

    def _use(self, keypair: Keypair) -> None:
        """Connect anew, with this key pair."""
        self._connection.shut()
        self._connection.use(keypair)
        self._unproven = None
        self._lost_link(self._clock())

    def _report_dropped(self) -> None:
        """Tell the master how many events made room for newer ones while it was away."""
        count = self._outbox.unreported
        if not count or self._reporting:
            return
        self._reporting = True

        def done(good: bool, _text: str) -> None:
            self._reporting = False
            if good:
                self._outbox.reported(count)

        tag = tagify([self._id, "spool", "dropped"], "minion")
        self.send_event(tag, {"dropped": count, "spool_policy": DROP_OLDEST}, done)

    def _take_state(self, state: str) -> None:
        """The master does not let us in, or does not know this connection (any more)."""
        now = self._clock()
        if self.state == CONNECTED:
            self._outbox.link_down(now)
            self._fail_requests()
        if state == DENIED and self._rotation.denied():
            return
        if state in (PENDING, REJECTED):
            self._rotation.known()
        if state in (UNKNOWN, ACCEPTED):
            self._enter(CONNECTING)
            self._next_try = min(self._next_try, now + self._spread(self._delay))
            return
        self._say_state(state)
        self._enter(CONNECTING if state == protocol.DELETED else state)
        self._next_try = now + self._spread(self._acceptance_wait)

    def _say_state(self, state: str) -> None:
        words = {
            PENDING: "waits for 'reactor key accept' on the master",
            REJECTED: "is rejected by the master",
            DENIED: "is denied: the master knows this id with another key",
            protocol.DELETED: "was deleted on the master: it asks to be accepted anew",
        }[state]
        if self.state != state:
            finger = fingerprint(self._rotation.keypair.public)
            self._warn_once(f"the key {finger} of minion {self._id} {words}")

    def _enter(self, state: str) -> None:
        if state != self.state:
            self.state = state
            self._on_state(state)

    def _fail_requests(self) -> None:
        waiting, self._requests = self._requests, {}
        for on_reply in waiting.values():
            on_reply(None, WENT_DOWN)

    def _warn_once(self, text: str) -> None:
        """Say it once, not at every try."""
        if text != self._warned:
            self._warned = text
            log.warning("%s", text)


def _failback_seconds(opts: Mapping[str, Any]) -> float:
    return float(opts.get("master_failback_interval", 0)) if opts.get("master_failback") else 0.0


def _unsendable(ret: Mapping[str, Any], error: BusError) -> dict[str, Any]:
    return {
        "jid": str(ret.get("jid", "")),
        "fun": str(ret.get("fun", "")),
        "return": f"ERROR: this return cannot be sent: {error}",
        "retcode": 1,
        "success": False,
    }
