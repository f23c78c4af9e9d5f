"""The minion's end of the link: finds its master, says hello, and brings up what is fired.

An object without a loop of its own: the minion polls its sockets and calls `tick`.
"""

from __future__ import annotations

import logging
import random
import secrets
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import zmq

from bus.errors import NotRunningError, WireError
from bus.keys import DENIED, PENDING, REJECTED, Keypair, MinionKeys, fingerprint
from bus.link import backoff, protocol
from bus.link.absence import Absence
from bus.link.connection import DOWN, FAILED, UP, Connection
from bus.link.dropreport import DropReport
from bus.link.failback import Failback
from bus.link.hellos import Grains, Hellos
from bus.link.items import event_item, return_item
from bus.link.outbox import Done, Outbox
from bus.link.protocol import (
    LINEAGE_BYTES,
    Ack,
    Bye,
    Changed,
    Down,
    Item,
    Job,
    MasterKeys,
    Ping,
    Pong,
    Refused,
    Reply,
    State,
    Welcome,
)
from bus.link.replies import NOT_CONNECTED, OnReply, Replies
from bus.link.rotation import Rotation
from bus.link.seeking import ASTRAY, OPENED, Seeker
from bus.link.spool import REFUSE, DiskSpool
from bus.link.standing import CONNECTED, CONNECTING, ERROR, STANDINGS
from bus.link.trust import Address, Trust, parse_masters
from bus.link.turns import Turns
from bus.link.vigil import Vigil
from bus.sockets import Socket

log = logging.getLogger(__name__)

_PIPELINE = 2
_FILL = 128


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
        self._clock = clock
        self._warned = ""
        now, spread = clock(), partial(backoff.spread, jitter=jitter)
        self._max_event_size = int(opts["max_event_size"])
        self._acceptance_wait = float(opts.get("acceptance_wait_time", 10.0))
        turns = Turns(parse_masters(opts["master"], int(opts["master_port"])), now, spread)
        trust = Trust(opts["pki_dir"], opts.get("master_finger") or "")
        keys = MinionKeys(opts["pki_dir"], keypair)
        self._rotation = Rotation(keys, ask=self.request, use=self._use)
        run = secrets.token_bytes(LINEAGE_BYTES)
        self._outbox = Outbox(run, _spool(opts), self._max_event_size)
        self._outbox.link_down(now)
        self._drop_report = DropReport(self._outbox, self._id)
        limit = protocol.max_message(self._max_event_size)
        self._connection = Connection(context, keypair, limit, backoff.reconnect(jitter))
        self._seeker = Seeker(
            turns,
            trust,
            Failback(turns.first, _failback_seconds(opts)),
            self._connection,
            warn=self._warn_once,
            spread=spread,
            now=now,
        )
        self._vigil = Vigil(now, self._acceptance_wait, spread)
        self._hellos = Hellos(self._id, grains, run, now=now, spread=spread)
        self._absence = Absence(now)
        self._replies = Replies(self._connection.send)

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
        return self._seeker.master

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
        if not self._connection.is_open:
            self._seek(now)
        elif self.state == CONNECTED:
            self._keep_alive(now)
        else:
            self._try_hello(now)
        if self.state != ERROR and self._absence.is_due(now):
            where = self._seeker.whereabouts
            log.warning("cannot reach the master at %s (%s), trying again", *where)
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
        self._send(event_item(tag, data, self._outbox.max_event_size), on_done)

    def send_return(self, ret: Mapping[str, Any], on_done: Done | None = None) -> None:
        """Send what a job returned; a value that cannot be sent is replaced by words that say so.

        Args:
            ret: ``jid``, ``return``, ``retcode``, ``success``, ...
            on_done: as for `send_event`.
        """
        self._send(return_item(ret, self._outbox.max_event_size), on_done)

    def request(self, params: Mapping[str, Any], on_reply: OnReply) -> None:
        """Ask the master, such as for a file.

        Args:
            params: the question, such as ``{"file": "_modules/x.py"}``.
            on_reply: told the answer; an error if the link is or goes down.
        """
        if self.state == CONNECTED:
            self._replies.ask(params, on_reply)
        else:
            on_reply(None, NOT_CONNECTED)

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
        return self._rotation.begin()

    def say_hello(self) -> None:
        """Tell the master the grains of now."""
        if self.state == CONNECTED:
            # Nothing goes up between a hello and its answer, so that what the master did not
            # take before the hello cannot be overtaken by what it takes after.
            self._outbox.link_down(self._clock())
            self._enter(CONNECTING)
            self._hellos.restart(self._clock())
        if self._connection.is_open:
            self._try_hello(self._clock())

    def close(self) -> None:
        """End the link; what the master does not have yet is written to the spool."""
        if self.state == CONNECTED:
            self._connection.send(protocol.encode(Bye()))
        self._seeker.close()
        self._replies.fail()
        self._outbox.close()
        self._connection.close()

    # -- until the master lets us in ------------------------------------------------------

    def _seek(self, now: float) -> None:
        found = self._seeker.tick(now)
        if found == OPENED:
            self._vigil.begin(now)
            self._hellos.restart(now)
            self._enter(CONNECTING)
        elif found == ASTRAY:
            self._enter(ERROR)

    def _try_hello(self, now: float) -> None:
        """Say hello until there is an answer, then now and then until the key is accepted."""
        if self._vigil.gives_up(now, early=self._seeker.has_alternative):
            self._leave(now)
        elif now >= self._hellos.due:
            sent = self._connection.send(self._hellos.frame(self._warn_once))
            self._hellos.said(now, sent=sent)

    def _leave(self, now: float) -> None:
        self._seeker.leave(now)
        self._lost_link(now)

    # -- while it lasts -------------------------------------------------------------------

    def _keep_alive(self, now: float) -> None:
        if self._vigil.is_silent(now):
            log.warning("the master %s has fallen silent: connecting again", self.master.host)
            self._leave(now)
        elif self._seeker.first_is_back(now):
            self._connection.send(protocol.encode(Bye()))
            self._seeker.go_back(now)
            self._lost_link(now)
        elif self._vigil.takes_ping(now):
            self._connection.send(protocol.encode(Ping()))

    def _wait(self, now: float) -> float:
        if self._seeker.is_asking or (self.state != CONNECTED and not self._outbox.idle):
            return 0.05
        if self.state == CONNECTED:
            due = self._vigil.next_ping
        else:
            due = self._hellos.due if self._connection.is_open else self._seeker.due
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
            now = self._clock()
            if change == UP:
                self._proved(now)
            elif change == DOWN:
                self._lost_link(now)
            elif change == FAILED:
                self._seeker.refused(now)

    def _proved(self, now: float) -> None:
        self._seeker.proved()
        self._hellos.restart(now)
        if self.state != CONNECTED:
            self._try_hello(now)

    def _lost_link(self, now: float) -> None:
        if self.state == CONNECTED:
            log.info("the link to the master %s is down", self.master.host)
        self._absence.begin(now)
        self._outbox.link_down(now)
        self._replies.fail()
        self._vigil.lost(now)
        self._hellos.restart(now)
        self._enter(CONNECTING)

    def _take_messages(self) -> None:
        while (raw := self._connection.receive()) is not None:
            try:
                message = protocol.decode_down(raw)
            except WireError as error:
                self._warn_once(f"the master sent what cannot be read: {error}")
                continue
            self._vigil.heard = self._clock()
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
            case Reply():
                self._replies.take(message)
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
        if self.state == CONNECTED and self._seeker.keep_next_keys(keys):
            self.request({"knows": keys[-1]}, lambda _value, _error: None)

    def _welcomed(self, message: Welcome) -> None:
        self._outbox.max_event_size = min(message.max_event_size, self._max_event_size)
        if self.state == CONNECTED:
            return
        self._warned = ""
        now = self._clock()
        self._seeker.welcomed(now)
        self._vigil.pinged(now)
        self._outbox.link_up()
        self._enter(CONNECTED)
        self._drop_report.send(self.send_event)
        self._rotation.welcomed()

    def _use(self, keypair: Keypair) -> None:
        """Connect anew, with this key pair."""
        now = self._clock()
        self._seeker.use(keypair, now)
        self._lost_link(now)

    def _take_state(self, state: str) -> None:
        """The master does not let us in, or does not know this connection (any more)."""
        now = self._clock()
        if self.state == CONNECTED:
            self._outbox.link_down(now)
            self._replies.fail()
        if state == DENIED and self._rotation.denied():
            return
        if state in (PENDING, REJECTED):
            self._rotation.known()
        standing = STANDINGS[state]
        if standing.words and self.state != state:
            finger = fingerprint(self._rotation.keypair.public)
            self._warn_once(f"the key {finger} of minion {self._id} {standing.words}")
        self._enter(standing.enters)
        if standing.waits:
            self._hellos.wait(now, self._acceptance_wait)
        else:
            self._hellos.hurry(now)

    def _enter(self, state: str) -> None:
        if state != self.state:
            self.state = state
            self._on_state(state)

    def _warn_once(self, text: str) -> None:
        """Say it once, not at every try."""
        if text != self._warned:
            self._warned = text
            log.warning("%s", text)


def _failback_seconds(opts: Mapping[str, Any]) -> float:
    return float(opts.get("master_failback_interval", 0)) if opts.get("master_failback") else 0.0


def _spool(opts: Mapping[str, Any]) -> DiskSpool:
    path = Path(opts["state_dir"]) / "spool.db"
    return DiskSpool(path, int(opts["spool_max_size"]), str(opts.get("spool_policy", REFUSE)))
