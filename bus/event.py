"""Salt's event library, name for name: ``get_event``, ``MasterEvent``, ``MinionEvent``.

Signatures, defaults and return values are those of ``salt.utils.event``; what differs is written
in docs/explanation/coming-from-salt.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from bus import nodes, timeouts, wire
from bus.ainput import wait_for_input
from bus.config import Opts
from bus.errors import BusError, DataError, ListenerLimitError, NotRunningError, TagError, WireError
from bus.feed import MAX_GAPS, Gap
from bus.listener import Heard, Listener, open_listener
from bus.publisher import Publisher
from bus.tags import MATCH_TYPES, Matcher, matcher, tagify

__all__ = [
    "MATCH_TYPES",
    "MasterEvent",
    "MinionEvent",
    "SaltEvent",
    "get_event",
    "get_master_event",
    "tagify",
]

log = logging.getLogger(__name__)

_LOOK = 1_000_000
"""Events that `SaltEvent.get_event` looks through without waiting: as many as may wait here."""

MAX_CACHED = 100_000
"""Events kept for `SaltEvent.subscribe` while nobody asks for them; the oldest goes first."""

_POLL = 0.5
"""Seconds between two looks of a blocking wait, so that Ctrl-C and a new bus are noticed."""


class SaltEvent:
    """A connection to the bus of a master or a minion. One object a thread.

    A forked child has connections of its own from its first use on, and hears what it fires.

    Args:
        node: ``"master"`` or ``"minion"``.
        sock_dir: the directory of the sockets, if not that of ``opts``.
        opts: the configuration; by default the one that is found.
        listen: hear events from now on; without it only firing works at once.
        raise_errors: raise when there is no bus, instead of waiting for one.

    Attributes:
        lost: how many events this listener did not get, since it was too slow, or since they
            came while it connected again. `bus.connect` has listeners that miss nothing.
        gaps: the first and last numbers of what this listener did not get, the newest 1,000
            ranges.

    Raises:
        NotRunningError: no bus, and ``raise_errors``.
        ValueError: ``node`` is neither, or ``opts`` are no mapping.
    """

    def __init__(
        self,
        node: str,
        sock_dir: str | Path | None = None,
        opts: Mapping[str, Any] | None = None,
        listen: bool = True,
        io_loop: object = None,
        keep_loop: bool = False,
        raise_errors: bool = False,
    ) -> None:
        del io_loop, keep_loop  # Salt's callers pass them; nothing here needs a loop
        self._node = nodes.find(node)
        self.node = node
        self.opts = _with_sock_dir(self._node.options(opts), sock_dir)
        self.raise_errors = raise_errors
        self._listen = listen
        self._match_type = str(self.opts.get("event_match_type", "startswith"))
        self._limit = int(self.opts.get("max_event_size", wire.DEFAULT_MAX_EVENT_SIZE))
        self._packer = wire.EventPacker(time.time_ns, self._limit)
        self._subscribed: list[tuple[str, str, Matcher]] = []
        self._cached: deque[tuple[str, dict[str, Any]]] = deque(maxlen=MAX_CACHED)
        self._listener: Listener | None = None
        self._heard: deque[bytes] = deque()
        self._publisher: Publisher | None = None
        self.lost = 0
        self.gaps: deque[Gap] = deque(maxlen=MAX_GAPS)
        self._place: tuple[str, int] | None = None
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        if listen:
            self.connect_pub()

    # -- connections ----------------------------------------------------------------------

    def connect_pub(self, timeout: float | None = None) -> bool:
        """Begin to listen; return whether the bus answered within ``timeout`` seconds."""
        self._after_fork()
        if self._listener is None:
            self._listener = open_listener(self._node.fires(self.opts))
        try:
            seq = self._listener.wait_ready(1.0 if timeout is None else timeout)
            self._place = self._place or (self._listener.bus_id, seq)
        except NotRunningError as error:
            if self.raise_errors:
                self.close_pub()
                raise
            if isinstance(error, ListenerLimitError):
                log.warning("not listening: %s", error)
            return False
        return True

    def connect_pull(self, timeout: float = 1) -> bool:
        """Begin to fire; return whether a bus may be there."""
        del timeout  # as in Salt's signature; connecting itself takes no time
        self._after_fork()
        return self._firing().reachable()

    def close_pub(self) -> None:
        """Listen no longer."""
        if self._listener is not None and self._pid == os.getpid():
            with self._turn:  # a cancelled `iter_events_async` may still wait in its thread
                self._listener.close()
        self._heard.clear()
        self._listener = None
        self._place = None

    def close_pull(self) -> None:
        """Fire no longer."""
        if self._publisher is not None and self._pid == os.getpid():
            with self._lock:
                self._publisher.close()
        self._publisher = None

    def destroy(self) -> None:
        """Close both connections."""
        self.close_pub()
        self.close_pull()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.destroy()

    def _after_fork(self) -> None:
        """In a forked child: leave the parent's sockets alone, and listen again if it did.

        At the first use of any kind: what is fired here is to be heard here.
        """
        if self._pid == os.getpid():
            return
        was_listening = self._listener is not None
        self._listener = None
        self._heard.clear()
        if self._publisher:
            self._publisher.leave()
        self._publisher = None
        self._place = None
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._pid = os.getpid()
        if was_listening:
            with contextlib.suppress(NotRunningError):  # it is for who listens, not for who fires
                self.connect_pub()

    def _listening(self) -> Listener:
        self._after_fork()
        if self._listener is None:
            self.connect_pub()
        if self._listener is None:  # pragma: no cover - connect_pub raised or made one
            raise BusError("not listening")
        return self._listener

    def _firing(self) -> Publisher:
        self._after_fork()
        if self._publisher is None:
            self._publisher = Publisher(
                self._node.pull(self.opts), direct=self._node.direct(self.opts)
            )
        return self._publisher

    # -- listening ------------------------------------------------------------------------

    def subscribe(self, tag: str | None = None, match_type: str | None = None) -> None:
        """Keep events of ``tag`` for later, while `get_event` waits for others.

        As in Salt, nothing is kept for no tag at all, and everything for an empty one.
        """
        if tag is None:
            return
        self._after_fork()
        match_type = match_type or self._match_type
        self._subscribed.append((tag, match_type, matcher(tag, match_type)))

    def unsubscribe(self, tag: str | None, match_type: str | None = None) -> None:
        """Take back one `subscribe`, and drop what only it kept."""
        wanted = (tag, match_type or self._match_type)
        for entry in self._subscribed:
            if entry[:2] == wanted:
                self._subscribed.remove(entry)
                break
        self._keep_subscribed()

    def get_event(
        self,
        wait: float | None = 5,
        tag: str = "",
        full: bool = False,
        match_type: str | None = None,
        no_block: bool = False,
        auto_reconnect: bool = False,
    ) -> Any:
        """Return the next event whose tag matches.

        Args:
            wait: seconds; 0 or None waits for ever (or not at all with ``no_block``).
            tag: what to match.
            full: return ``{"tag": ..., "data": ...}`` instead of the data.
            match_type: one of `MATCH_TYPES`; by default the option ``event_match_type``.
            no_block: only look.
            auto_reconnect: as in Salt; a lost bus is always waited for here.

        Returns:
            The event, or None at the time-out.
        """
        del auto_reconnect
        matches = self._matcher(tag, match_type)
        found = self._from_cache(matches) or self._receive(matches, _seconds(wait, no_block))
        if found is None:
            return None
        return {"tag": found[0], "data": found[1]} if full else found[1]

    def get_event_noblock(self) -> dict[str, Any] | None:
        """Return the next event as ``{"tag", "data"}`` if one waits, whatever its tag."""
        return _full(self._next(0))

    def get_event_block(self) -> dict[str, Any] | None:
        """Return the next event as ``{"tag", "data"}``, whatever its tag; wait for ever."""
        while True:
            found = self._next(_POLL)
            if found:
                return _full(found)

    def iter_events(
        self,
        tag: str = "",
        full: bool = False,
        match_type: str | None = None,
        auto_reconnect: bool = False,
    ) -> Iterator[Any]:
        """Yield events whose tag matches, for ever."""
        while True:
            event = self.get_event(
                wait=_POLL,
                tag=tag,
                full=full,
                match_type=match_type,
                auto_reconnect=auto_reconnect,
            )
            if event is not None:
                yield event

    async def iter_events_async(
        self,
        tag: str = "",
        full: bool = False,
        match_type: str | None = None,
        auto_reconnect: bool = False,
    ) -> AsyncIterator[Any]:
        """`iter_events` for asyncio. It waits in the loop; only its looks run in a thread."""
        del auto_reconnect
        while True:
            event = await asyncio.to_thread(self._look_in_turn, tag, full, match_type)
            if event is not None:
                yield event
            elif self._listener is not None:
                await wait_for_input(self._listener.socket, _POLL)

    def _look_in_turn(self, tag: str, full: bool, match_type: str | None) -> Any:
        with self._turn:
            return self.get_event(tag=tag, full=full, match_type=match_type, no_block=True)

    def _matcher(self, tag: str, match_type: str | None) -> Matcher:
        return matcher(tag, match_type or self._match_type)

    def _from_cache(self, matches: Matcher) -> tuple[str, dict[str, Any]] | None:
        for place, event in enumerate(self._cached):
            if matches(event[0]):
                self._after_fork()
                del self._cached[place]
                return event
        return None

    def _keep_subscribed(self) -> None:
        kept = [event for event in self._cached if self._is_subscribed(event[0])]
        self._cached = deque(kept, maxlen=MAX_CACHED)

    def _is_subscribed(self, tag: str) -> bool:
        return any(matches(tag) for _, _, matches in self._subscribed)

    def _receive(
        self, matches: Matcher, seconds: float | None
    ) -> tuple[str, dict[str, Any]] | None:
        deadline = None if seconds is None else time.monotonic() + seconds
        looks = 0
        while True:
            left = _POLL if deadline is None else deadline - time.monotonic()
            # Without a wait, what is here already is looked through; and a stream of other events
            # that never ends must not keep the caller.
            if left < 0 and looks and (seconds or looks > _LOOK):
                return None
            packed = self._next_packed(max(0.0, left))
            looks += 1
            if packed is None:
                if left <= 0:
                    return None
                continue
            tag, body = wire.parts_of(packed)
            if matches(tag):
                if (data := _unpacked(tag, body)) is not None:
                    return tag, data
            elif self._subscribed and self._is_subscribed(tag):
                self._keep(tag, body)

    def _keep(self, tag: str, body: bytes) -> None:
        """Put an event into the cache that somebody subscribed to."""
        if (data := _unpacked(tag, body)) is not None:
            if len(self._cached) == MAX_CACHED:
                self._count_lost(1, "nobody took the events that subscribe() keeps")
            self._cached.append((tag, data))

    def _next(self, seconds: float) -> tuple[str, dict[str, Any]] | None:
        deadline = time.monotonic() + seconds
        while packed := self._next_packed(max(0.0, deadline - time.monotonic())):
            tag, body = wire.parts_of(packed)
            if (data := _unpacked(tag, body)) is not None:
                return tag, data
        return None

    def _next_packed(self, seconds: float) -> bytes | None:
        if self._heard and self._pid == os.getpid():
            return self._heard.popleft()
        listener = self._listening()
        deadline = time.monotonic() + seconds
        while not self._heard:
            heard = self._hear(listener, max(0.0, deadline - time.monotonic()))
            if heard is None:
                return None
            self._follow(heard)
            self._heard.extend(heard.events)
        return self._heard.popleft()

    def _hear(self, listener: Listener, seconds: float) -> Heard | None:
        try:
            return listener.receive(seconds)
        except ListenerLimitError as error:
            if self.raise_errors:
                raise
            log.warning("not listening: %s", error)
            return None

    def _follow(self, heard: Heard) -> None:
        """Count what is missing between the last event and this one."""
        bus_id, last = self._place or (heard.bus_id, heard.before)
        if bus_id == heard.bus_id:
            missing = heard.before - last
            if missing > 0:
                self.gaps.append((last + 1, last + missing))
                where = f"{last + 1} to {last + missing}"
                self._count_lost(
                    missing, f"numbers {where}: this listener was too slow, or the bus was away"
                )
            self._place = (bus_id, max(last, heard.seq))
        else:
            self._place = (heard.bus_id, heard.seq)

    def _count_lost(self, count: int, why: str) -> None:
        self.lost += count
        log.warning("%d events lost (%d in all): %s", count, self.lost, why)

    # -- firing ---------------------------------------------------------------------------

    def fire_event(self, data: Mapping[str, Any], tag: str, timeout: float | None = 1000) -> bool:
        """Fire an event.

        Args:
            data: a dict; it is not changed.
            tag: the event's tag.
            timeout: milliseconds; None waits for ever.

        Returns:
            True once it is in the journal (on a minion's bus: once the bus has it); False if
            the bus did not answer in time, or could not keep it (and the log says why). A bus
            that has it and is only late, since it was stopped, may keep it after the time-out.

        Raises:
            ValueError: an empty tag, data that is no dict or cannot be packed, or too much.
        """
        return self._fire(tag, data, timeouts.milliseconds(timeout, "timeout"))

    async def fire_event_async(
        self,
        data: Mapping[str, Any],
        tag: str,
        cb: object = None,
        timeout: float | None = 1000,
    ) -> bool:
        """`fire_event` for asyncio; ``cb`` is accepted as in Salt, and not called."""
        del cb
        return await asyncio.to_thread(self.fire_event, data, tag, timeout)

    def fire_events(self, events: Iterable[wire.Fired], timeout: float | None = 10_000) -> int:
        """Fire many events, pipelined.

        Args:
            events: ``(tag, data)`` pairs in order; ``(data, tag)``, as `fire_event` has them, and
                ``{"tag": ..., "data": ...}``, as ``get_event(full=True)`` returns them, do as well.
            timeout: milliseconds without progress after which to give up; None for never.

        Returns:
            How many are in the journal, from the first on: fewer if the bus cannot be reached
            in time, or could not keep them (and the log says why).

        Raises:
            ValueError: one of them cannot go onto a bus; its ``kept`` says how many before it are
                in the journal.
        """
        patience = timeouts.milliseconds(timeout, "timeout")
        publisher = self._firing()
        with self._lock:
            try:
                return publisher.fire_all(self._packer.pack_all(events), patience)
            except (DataError, TagError):
                raise
            except BusError as error:
                self._not_fired(error)
                return error.kept

    def fire_master(self, data: Mapping[str, Any], tag: str, timeout: float | None = 1000) -> bool:
        """Fire an event to the master, by way of this minion's bus.

        Returns:
            True once the master has it in its journal, or the minion in its spool.

        Raises:
            ValueError: as for `fire_event`.
        """
        wire.pack_event(tag, data, self._limit)  # the user's own event is checked as such
        message = {"tag": tag, "data": dict(data), "events": None, "pretag": None}
        return self.fire_event(message, "fire_master", timeout)

    def _fire(self, tag: str, data: Mapping[str, Any], seconds: float | None) -> bool:
        publisher = self._firing()
        with self._lock:
            event = self._packer.pack(tag, data)
            try:
                publisher.fire([event], seconds)
            except DataError:
                raise
            except BusError as error:
                self._not_fired(error)
                return False
        return True

    def _not_fired(self, error: BusError) -> None:
        if self.raise_errors:
            raise error
        log.warning("not fired: %s", error)

    # -- the wire -------------------------------------------------------------------------

    @classmethod
    def pack(cls, tag: str, data: Mapping[str, Any], max_size: int | None = None) -> bytes:
        """Return an event as it goes over the wire.

        Raises:
            ValueError: it cannot go onto a bus.
        """
        return wire.pack_event(tag, data, max_size or wire.DEFAULT_MAX_EVENT_SIZE)

    @classmethod
    def unpack(cls, raw: bytes) -> tuple[str, dict[str, Any]]:
        """Return tag and data of an event.

        Raises:
            WireError: ``raw`` is none.
        """
        return wire.unpack_event(raw)


class MasterEvent(SaltEvent):
    """The master's bus, for the user that the master runs as."""

    def __init__(
        self,
        sock_dir: str | Path | None = None,
        opts: Mapping[str, Any] | None = None,
        listen: bool = True,
        io_loop: object = None,
        keep_loop: bool = False,
        raise_errors: bool = False,
    ) -> None:
        super().__init__("master", sock_dir, opts, listen, io_loop, keep_loop, raise_errors)


class MinionEvent(SaltEvent):
    """The bus of the minion that ``opts`` describes."""

    def __init__(
        self,
        opts: Mapping[str, Any] | None = None,
        listen: bool = True,
        io_loop: object = None,
        raise_errors: bool = False,
    ) -> None:
        super().__init__("minion", None, opts, listen, io_loop, raise_errors=raise_errors)


def get_event(
    node: str,
    sock_dir: str | Path | None = None,
    opts: Mapping[str, Any] | None = None,
    listen: bool = True,
    io_loop: object = None,
    keep_loop: bool = False,
    raise_errors: bool = False,
    *,
    transport: str | None = None,
) -> SaltEvent:
    """Return a connection to the bus of ``node``, ``"master"`` or ``"minion"``.

    ``transport`` is accepted as older releases of Salt have it.

    Raises:
        DataError: a transport that is not there.
        ValueError: ``node`` is neither.
    """
    if transport not in (None, "", "zeromq"):
        raise DataError(f"unknown transport {transport!r}: only 'zeromq' is there")
    return SaltEvent(node, sock_dir, opts, listen, io_loop, keep_loop, raise_errors)


def get_master_event(
    opts: Mapping[str, Any],
    sock_dir: str | Path | None = None,
    listen: bool = True,
    io_loop: object = None,
    raise_errors: bool = False,
    keep_loop: bool = False,
) -> MasterEvent:
    """Return a connection to the master's bus."""
    return MasterEvent(sock_dir, opts, listen, io_loop, keep_loop, raise_errors)


def _with_sock_dir(opts: Mapping[str, Any], sock_dir: str | Path | None) -> Mapping[str, Any]:
    if sock_dir is None or str(sock_dir) == str(opts.get("sock_dir")):
        return opts
    changed = {"sock_dir": str(sock_dir)}
    return opts.with_(**changed) if isinstance(opts, Opts) else {**opts, **changed}


def _seconds(wait: float | None, no_block: bool) -> float | None:
    if no_block:
        return 0.0
    return timeouts.seconds(wait, "wait") or None


def _unpacked(tag: str, body: bytes) -> dict[str, Any] | None:
    try:
        return wire.unpack_data(tag, body)
    except WireError as error:
        log.warning("an event that cannot be read: %s", error)
        return None


def _full(event: tuple[str, dict[str, Any]] | None) -> dict[str, Any] | None:
    return {"tag": event[0], "data": event[1]} if event else None
