"""What one sender and one listener may cost a bus. No sockets; the clock is passed in."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from bus import wire
from bus.errors import FireRateError, ListenerLimitError

LISTENER_QUEUE = 2_000
LISTENER_QUEUE_SIZE = 134_217_728
MAX_LISTENERS = 10_000

MAX_SENDERS = 10_000
"""Senders whose rate is remembered; the one that was silent longest is forgotten first."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one bus, named as their options.

    Attributes:
        max_event_size: bytes of an event.
        fire_rate: events a second of one sender; 0 for no limit.
        max_listeners: how many may listen at once.
        listener_queue: events that wait for one subscriber to single events.
        listener_queue_size: bytes that wait for one listener to groups.
    """

    max_event_size: int = wire.DEFAULT_MAX_EVENT_SIZE
    fire_rate: int = 0
    max_listeners: int = MAX_LISTENERS
    listener_queue: int = LISTENER_QUEUE
    listener_queue_size: int = LISTENER_QUEUE_SIZE

    @classmethod
    def of(cls, opts: Mapping[str, Any]) -> Limits:
        """Return the limits that the options of a master or minion set."""
        return cls(**{name: int(opts[name]) for name in cls.__slots__})


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float


class Rates:
    """How fast each sender fires: a second's worth at once, and a large fire on credit.

    A fire passes while anything is left, however large it is, and its sender then waits until
    that is paid back: so a batch of many is not stuck for ever behind a small rate.

    Args:
        per_second: events of one sender.
        clock: seconds, monotonic.
    """

    def __init__(self, per_second: int, clock: Callable[[], float]) -> None:
        self._per_second = per_second
        self._clock = clock
        self._buckets: OrderedDict[bytes, _Bucket] = OrderedDict()

    def refusal(self, sender: bytes) -> FireRateError | None:
        """Return why a sender has to wait, or None if he may fire."""
        bucket = self._buckets.get(sender)
        if bucket is None:
            return None
        now = self._clock()
        earned = (now - bucket.at) * self._per_second
        bucket.left = min(float(self._per_second), bucket.left + earned)
        bucket.at = now
        if bucket.left >= 1:
            return None
        return FireRateError(
            f"this sender fires faster than the option fire_rate of {self._per_second} events "
            "a second allows: fire more slowly, wait longer, or raise fire_rate"
        )

    def charge(self, sender: bytes, events: int) -> None:
        """Take what a sender has fired off what it may fire."""
        bucket = self._buckets.get(sender)
        if bucket is None:
            bucket = self._buckets[sender] = _Bucket(float(self._per_second), self._clock())
        self._buckets.move_to_end(sender)
        bucket.left -= events
        if len(self._buckets) > MAX_SENDERS:
            self._buckets.popitem(last=False)


class Listeners:
    """Who listens.

    Of the direct line these are its clients. Connections of a publishing socket cannot be
    counted, but each listener of ours subscribes to a topic of its own, and ZeroMQ takes that back
    when the listener goes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._asked: dict[Hashable, bytes] = {}

    def __len__(self) -> int:
        return len(self._asked)

    def join(self, who: Hashable, topic: bytes = b"") -> ListenerLimitError | None:
        """Count a listener, or return why there is no room for it.

        Args:
            who: the same each time that one listener asks.
            topic: what it asked with this time.
        """
        if who not in self._asked and len(self._asked) >= self._limit:
            return ListenerLimitError(
                f"the bus has {len(self._asked)} listeners, as many as the option max_listeners "
                "allows: end some, or raise max_listeners"
            )
        self._asked[who] = topic
        return None

    def leave(self, who: Hashable, topic: bytes = b"") -> None:
        """A listener took ``topic`` back; it went, unless it has asked with another one since."""
        if self._asked.get(who) == topic:
            del self._asked[who]
