"""The firing half of a connection to a bus: pipelined, acknowledged, sent again after a crash."""

from __future__ import annotations

import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path

import zmq

from bus import frames, wire
from bus.direct.firing import DirectLine
from bus.direct.steady import SteadyLine
from bus.errors import BusError, WireError
from bus.sockets import (
    Socket,
    close,
    connect,
    has_input,
    is_listening,
    not_running,
    poll_until,
    send_pair,
)

log = logging.getLogger(__name__)

OnDone = Callable[[int | None, BusError | None], None]
"""Told the number of the first event once it is kept, or the error."""

FIRST_RESEND = 0.25
LAST_RESEND = 2.0
"""Seconds without any answer before what is unanswered is sent again: doubling, so that a bus
which is only slow is not buried, and bounded, so that one which comes back is found."""

BATCH_EVENTS = 256
BATCH_BYTES = 256 * 1024
WINDOW = 32
"""Fires on the way at once; with `BATCH_EVENTS` the most that a pipelined caller has in memory."""


class _Pending:
    """A fire without an answer yet."""

    __slots__ = ("body", "on_done", "on_line", "sent_at")

    def __init__(self, body: bytes, on_done: OnDone) -> None:
        self.body = body
        self.on_done = on_done
        self.on_line = 0
        self.sent_at = time.monotonic()


class _Queue:
    """The unanswered fires of one producer, in order.

    Attributes:
        sent_at: when the newest of them, or all of them again, went to the socket.
        resent_after: the number after which the bus last asked for them again.
    """

    __slots__ = ("fires", "resent_after", "sent_at")

    def __init__(self) -> None:
        self.fires: OrderedDict[int, _Pending] = OrderedDict()
        self.sent_at = 0.0
        self.resent_after: int | None = None

    @property
    def base(self) -> int:
        return next(iter(self.fires), 0)


class Publisher:
    """Fires events at a bus. For one thread at a time; it never waits unless asked to.

    Args:
        address: where the bus takes events, see `bus.endpoints`.
        producer: the name that counts this publisher's fires; by default a new one.
        direct: the file of the bus's direct line; while it is there, `fire` takes that way.
        line: the same, for `send`: whoever gives it polls `inputs`.
    """

    def __init__(
        self,
        address: str,
        *,
        producer: bytes | None = None,
        direct: Path | None = None,
        line: Path | None = None,
    ) -> None:
        self.address = address
        self.producer = producer or os.urandom(12)
        self._line = DirectLine(direct) if direct else None
        self._steady = SteadyLine(line) if line else None
        self._socket: Socket | None = None
        self._number = 0
        self._pending: dict[bytes, _Queue] = {}
        self._last_progress = self._looked_at = time.monotonic()
        self._answered_upto = 0.0
        self._resend_after = FIRST_RESEND
        self._told_slower: BusError | None = None

    @property
    def socket(self) -> Socket:
        """The connection of all fires but those that take the direct line."""
        if self._socket is None:
            self._socket = connect(zmq.DEALER, self.address, queue=4 * WINDOW)
        return self._socket

    @property
    def inputs(self) -> list[Socket | int]:
        """What has input when there may be something to `handle`."""
        return [self.socket, self._steady.fileno()] if self._steady else [self.socket]

    @property
    def pending(self) -> int:
        """How many fires have no answer yet."""
        return sum(len(queue.fires) for queue in self._pending.values())

    def send(
        self,
        events: Sequence[bytes],
        *,
        on_done: OnDone,
        producer: bytes | None = None,
        number: int | None = None,
    ) -> tuple[bytes, int]:
        """Send a fire without waiting.

        Args:
            events: packed events, see `bus.wire.pack_event`.
            on_done: told what became of it, by `handle`.
            producer: in whose name it is fired, if not in this publisher's own.
            number: the fire's number in that name.

        Returns:
            Producer and number, as `abandon` takes them.
        """
        if producer is None or number is None:
            self._number += 1
            producer, number = self.producer, self._number
        if not self._pending:
            self._last_progress = time.monotonic()
        queue = self._pending.setdefault(producer, _Queue())
        pending = queue.fires[number] = _Pending(wire.pack(list(events)), on_done)
        queue.sent_at = pending.sent_at
        if not self._goes_by_line(producer, number, queue):
            self._transmit(producer, number, queue.base, pending.body)
        return producer, number

    def _goes_by_line(self, producer: bytes, number: int, queue: _Queue) -> bool:
        """Send by the line if it takes it, and nothing before it is still on the other way."""
        if self._steady is None:
            return False
        fires = queue.fires
        if len(fires) > 1 and not next(islice(reversed(fires.values()), 1, None)).on_line:
            return False
        pending = fires[number]
        pending.on_line = self._steady.send(
            *frames.fire(producer, number, queue.base, pending.body)
        )
        return bool(pending.on_line)

    def abandon(self, producer: bytes, number: int) -> None:
        """Wait no longer for an answer; the fire is not sent again."""
        self._pop(producer, number)

    def handle(self) -> None:
        """Read the answers that wait, and tell those who asked."""
        if self._steady is not None:
            for parts in self._steady.receive():
                self._read(parts)
        while has_input(self.socket):
            self._handle_one()

    def _handle_one(self) -> None:
        self._read(self.socket.recv_multipart(zmq.NOBLOCK))

    def _read(self, parts: list[bytes]) -> None:
        try:
            self._take(parts)
        except WireError as error:
            log.warning("an answer of %s that cannot be read: %s", self.address, error)

    def tick(self) -> None:
        """Send again what has waited too long. To be called every now and then."""
        now = time.monotonic()
        if self._pending and now - self._last_progress > self._resend_after:
            self._resend_after = min(self._resend_after * 2, LAST_RESEND)
            self._last_progress = now
            self._resend_older_than(now)
        elif self._pending and now - self._looked_at > FIRST_RESEND:
            # The bus answers in the order of sending: what went out before something that is
            # answered by now was lost, even while the answers of other producers keep coming.
            self._looked_at = now
            self._resend_older_than(min(self._answered_upto, now - FIRST_RESEND))

    def fire(self, events: Sequence[bytes], timeout: float | None = 1.0) -> int:
        """Fire events together and wait until they are kept.

        Returns:
            The number of the first one.

        Raises:
            NotRunningError: no answer within ``timeout`` seconds.
            FireRateError: the bus did not take them within that time, since they came too fast.
            BusError: the bus refused them.
        """
        if self._line and not self._pending and self._line.open():
            self._number += 1
            body = wire.pack(list(events))
            seq = self._line.fire(self.producer, self._number, body, timeout)
            if seq is None:
                raise not_running(self.address)
            return seq
        return self._fire_and_wait(events, timeout)

    def _fire_and_wait(self, events: Sequence[bytes], timeout: float | None) -> int:
        answers: list[tuple[int | None, BusError | None]] = []
        before = self._number
        try:
            key = self.send(events, on_done=lambda seq, error: answers.append((seq, error)))
            self.wait(lambda: bool(answers), timeout)
        except BaseException:  # Ctrl-C, too
            self._break_off(before)
            raise
        self.abandon(*key)
        if not answers:
            self._drop_unsent()
            raise self._told_to_wait() or not_running(self.address)
        seq, error = answers[0]
        if error:
            raise error
        return seq or 0

    def fire_all(self, events: Iterable[bytes], timeout: float | None = 10.0) -> int:
        """Fire many events with a window of unanswered fires on the way.

        Args:
            events: packed events.
            timeout: seconds without any progress after which to give up.

        Returns:
            How many are kept, in order from the first.

        Raises:
            BusError: the bus refused some, or ``events`` ended in one; its ``kept`` says how many
                before that are kept.
        """
        pipeline = _Pipeline(self, timeout)
        before = self._number
        try:
            for batch in _batches(events):
                if not pipeline.push(batch):
                    break
            pipeline.finish()
        except BusError as error:
            pipeline.settle()
            error.kept = pipeline.kept
            pipeline.abandon()
            raise
        except Exception:
            pipeline.settle()  # an error of the caller's own: what came before it is kept
            self._break_off(before)
            raise
        except BaseException:  # Ctrl-C: it is not to wait for what is under way
            self._break_off(before)
            raise
        pipeline.abandon()
        if pipeline.gave_up:
            self._drop_unsent()
            slower = self._told_to_wait()
            if slower:
                slower.kept = pipeline.kept
                raise slower
            log.warning("only %d events fired: %s", pipeline.kept, not_running(self.address))
        return pipeline.kept

    def wait(self, done: Callable[[], bool], timeout: float | None) -> bool:
        """Handle answers until ``done()`` or the time-out, in seconds; return ``done()``."""
        deadline = None if timeout is None else time.monotonic() + timeout

        def turn() -> bool:
            while not done():
                if not has_input(self.socket):
                    return False
                self._handle_one()
            return True

        while True:
            step = time.monotonic() + min(self._resend_after, FIRST_RESEND)
            until = step if deadline is None else min(step, deadline)
            if poll_until(self.socket, until, turn):
                return True
            if deadline is not None and time.monotonic() >= deadline:
                return False
            self.tick()

    def reachable(self) -> bool:
        """Say whether a bus may be listening."""
        return is_listening(self.address)

    def close(self) -> None:
        """Close the connection; what has no answer is not sent again."""
        self.leave()
        close(self._socket)
        self._pending.clear()

    def leave(self) -> None:
        """Let go of what a fork has copied; the parent's ZeroMQ sockets are not to be touched."""
        if self._line:
            self._line.close()
        if self._steady:
            self._steady.close()

    def _told_to_wait(self) -> BusError | None:
        """Return why the bus took nothing, if it said so since the last answer."""
        error, self._told_slower = self._told_slower, None
        return error

    def _drop_unsent(self) -> None:
        """Connect anew: what was reported as not fired must not be fired when a bus comes up."""
        if not self._pending:
            close(self._socket)
            self._socket = None

    def _break_off(self, before: int) -> None:
        """Let go of the fires after number ``before``, which something has interrupted.

        Ctrl-C comes between any two steps: a fire may be noted and not sent, or sent in part, and
        the next one must not become its other half. What others wait for is sent again.
        """
        for number in range(before + 1, self._number + 1):
            self.abandon(self.producer, number)
        close(self._socket)
        self._socket = None

    def _transmit(self, producer: bytes, number: int, base: int, body: bytes) -> None:
        try:
            send_pair(self.socket, *frames.fire(producer, number, base, body))
        except zmq.Again:
            log.debug("the bus takes nothing now; fire %d waits to be sent again", number)

    def _resend_older_than(self, moment: float) -> None:
        for producer, queue in self._pending.items():
            if queue.sent_at < moment:
                queue.resent_after = None
                self._resend(producer, queue, 0)

    def _resend_on_demand(self, producer: bytes, after: int) -> None:
        """Send again what the bus misses: once, as each fire behind the gap asks for the same."""
        queue = self._pending.get(producer)
        if queue and queue.resent_after != after:
            queue.resent_after = after
            self._resend(producer, queue, after)

    def _resend(self, producer: bytes, queue: _Queue, after: int) -> None:
        queue.sent_at = time.monotonic()
        base = queue.base
        for number, pending in queue.fires.items():
            if number > after:
                self._settle(pending)
                self._transmit(producer, number, base, pending.body)

    def _take(self, parts: list[bytes]) -> None:
        answer = frames.parse_answer(parts)
        self._last_progress = time.monotonic()
        self._resend_after = FIRST_RESEND
        if answer.kind == frames.AGAIN:
            self._resend_on_demand(answer.producer, answer.number)
        elif answer.kind == frames.SLOWER:
            # It stays unanswered, so it is sent again like one that was lost.
            self._told_slower = answer.error
        else:
            self._told_slower = None
            seq = None if answer.error else answer.first_seq
            self._finish(answer.producer, answer.number, seq, answer.error)

    def _finish(
        self, producer: bytes, number: int, seq: int | None, error: BusError | None
    ) -> None:
        pending = self._pop(producer, number)
        if pending:
            self._answered_upto = max(self._answered_upto, pending.sent_at)
            pending.on_done(seq, error)

    def _pop(self, producer: bytes, number: int) -> _Pending | None:
        queue = self._pending.get(producer)
        if queue is None:
            return None
        pending = queue.fires.pop(number, None)
        if pending:
            self._settle(pending)
        if not queue.fires:
            del self._pending[producer]
        return pending

    def _settle(self, pending: _Pending) -> None:
        """Give the line its room back."""
        if self._steady and pending.on_line:
            self._steady.settled(pending.on_line)
            pending.on_line = 0


class _Pipeline:
    """Counts what `Publisher.fire_all` has on the way."""

    def __init__(self, publisher: Publisher, timeout: float | None) -> None:
        self._publisher = publisher
        self._timeout = timeout
        self._open: OrderedDict[tuple[bytes, int], int] = OrderedDict()
        self._error: BusError | None = None
        self.gave_up = False
        self.kept = 0

    def push(self, batch: list[bytes]) -> bool:
        """Send a batch as soon as the window has room; False when there is no progress."""
        if not self._wait_below(WINDOW):
            return False
        key: list[tuple[bytes, int]] = []
        key.append(
            self._publisher.send(batch, on_done=lambda seq, error: self._done(key[0], seq, error))
        )
        self._open[key[0]] = len(batch)
        return True

    def finish(self) -> None:
        """Wait for the answers that are open; raise what one of them said."""
        self.settle()
        if self._error:
            raise self._error

    def settle(self) -> None:
        """Wait for the answers that are open."""
        while self._open and self._wait_for_one():
            pass

    def abandon(self) -> None:
        """Let go of what has no answer."""
        while self._open:
            self._publisher.abandon(*self._open.popitem()[0])

    def _wait_below(self, limit: int) -> bool:
        while len(self._open) >= limit and not self._error:
            if not self._wait_for_one():
                return False
        return self._error is None

    def _wait_for_one(self) -> bool:
        """Wait until fewer are open; False once there was no progress."""
        count = len(self._open)
        if not self.gave_up:
            self.gave_up = not self._publisher.wait(lambda: len(self._open) < count, self._timeout)
        return not self.gave_up

    def _done(self, key: tuple[bytes, int], _seq: int | None, error: BusError | None) -> None:
        count = self._open.pop(key, 0)
        if error:
            self._error = error  # of what is still open, all came before it
            # At once: sent again, what follows would be kept without what it followed. What came
            # before may still be answered: a refusal does not wait for the journal.
            while self._open and next(reversed(self._open)) > key:
                self._publisher.abandon(*self._open.popitem()[0])
        else:
            self.kept += count


def _batches(events: Iterable[bytes]) -> Iterable[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    try:
        for event in events:
            # A large event goes alone: the bus limits a fire to the largest event that it allows.
            if batch and (len(batch) >= BATCH_EVENTS or size + len(event) > BATCH_BYTES):
                yield batch
                batch, size = [], 0
            batch.append(event)
            size += len(event)
    except Exception:  # whose ever it is, what came before it is good
        if batch:
            yield batch
        raise
    if batch:
        yield batch
