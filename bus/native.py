"""The native interface: ``connect``, ``fire``, and ``listen`` from any point of the journal."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Iterable, Mapping
from typing import Any, Self

from bus import nodes, rpc, timeouts, wire
from bus.bookmark import Asks
from bus.feed import OnGap
from bus.journal import JournalReader, journal_path
from bus.listener import Listener, open_listener
from bus.listening import Listening
from bus.publisher import Publisher
from bus.since import Since


def connect(
    node: str = "master",
    opts: Mapping[str, Any] | None = None,
    *,
    timeout: float = 1.0,
) -> Connection:
    """Connect to the bus of ``node``.

    Args:
        node: ``"master"`` or ``"minion"``.
        opts: the configuration; by default the one that is found.
        timeout: seconds to wait for the bus.

    Raises:
        NotRunningError: no bus answers.
        DataError: ``node`` is neither.
    """
    return Connection(node, opts, timeout=timeout)


class Connection:
    """A bus that events are fired at and listened to. One object a thread.

    A forked child has connections of its own from its first use on; the listeners that it got from
    its parent hear what it fires.
    """

    _listening_kind: type[Listening] = Listening

    def __init__(
        self, node: str, opts: Mapping[str, Any] | None = None, *, timeout: float = 1.0
    ) -> None:
        self._node = nodes.find(node)
        self.node = node
        self.opts = self._node.options(opts)
        self.timeout = timeouts.bounded(timeout, "timeout")
        limit = int(self.opts.get("max_event_size", wire.DEFAULT_MAX_EVENT_SIZE))
        self._packer = wire.EventPacker(time.time_ns, limit)
        self._publisher: Publisher | None = None
        self._listenings: weakref.WeakSet[Listening] = weakref.WeakSet()
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._check_running()

    def _check_running(self) -> None:
        listener = open_listener(self._node.fires(self.opts), None)
        try:
            listener.wait_ready(self.timeout)
        finally:
            listener.close()

    def _after_fork(self) -> None:
        """In a forked child: leave the parent's sockets alone, and listen on where it did."""
        if self._pid == os.getpid():
            return
        self._pid = os.getpid()
        if self._publisher:
            self._publisher.leave()
        self._publisher, self._lock = None, threading.Lock()
        for listening in list(self._listenings):
            listening.follow_fork()

    def _firing(self) -> Publisher:
        self._after_fork()
        if self._publisher is None:
            self._publisher = Publisher(
                self._node.pull(self.opts), direct=self._node.direct(self.opts)
            )
        return self._publisher

    def fire(self, tag: str, data: Mapping[str, Any], timeout: float | None = None) -> int:
        """Fire an event and return its sequence number once it is in the journal.

        Args:
            tag: the event's tag.
            data: a dict; it is not changed.
            timeout: seconds; by default those of `connect`.

        Raises:
            NotRunningError: the bus did not answer in time. One that is only late may still
                keep the event.
            ValueError: the event cannot go onto a bus.
        """
        patience = self.timeout if timeout is None else timeouts.seconds(timeout, "timeout")
        publisher = self._firing()
        with self._lock:
            event = self._packer.pack(tag, data)
            return publisher.fire([event], patience)

    def fire_events(self, events: Iterable[wire.Fired], timeout: float | None = 10.0) -> int:
        """Fire many ``(tag, data)`` pairs, pipelined; return how many are in the journal.

        Raises:
            ValueError: one of them cannot go onto a bus.
            BusError: the bus could not keep them. In both cases ``kept`` of the error says how
                many before that are in the journal.
        """
        patience = timeouts.seconds(timeout, "timeout")
        publisher = self._firing()
        with self._lock:
            return publisher.fire_all(self._packer.pack_all(events), patience)

    def listen(
        self,
        tag: str = "*",
        since: Since = None,
        *,
        match_type: str = "fnmatch",
        timeout: float | None = None,
        cursor: str | None = None,
        auto_commit: bool = True,
        exact: bool = False,
        on_gap: OnGap | None = None,
    ) -> Listening:
        """Iterate over events from now on, or from ``since`` or a cursor on with nothing missed.

        It listens when this returns: what is fired after that is heard, whenever it is asked for.

        A cursor is a place in the journal that the master keeps under a name. An event is done
        when the next one is asked for, or when `Listening.commit` says so; what was not done
        when a program ended comes again (at least once).

        Args:
            tag: a glob (or what ``match_type`` says).
            since: see `Since`; it needs the journal, which only a master's bus has.
            match_type: one of `bus.tags.MATCH_TYPES`.
            timeout: end after this many seconds without an event that matches.
            cursor: a name to go on from; ``since`` then says where a new cursor begins.
            auto_commit: asking for the next event says that the one before is done.
            exact: without ``since``, hear all tags and choose here, so that what a slow reader
                lost is known by its numbers; else only a listener to everything knows it.
            on_gap: told of each loss, ``on_gap(first, last)``, both numbers included, before the
                event after it; it may commit and close. It implies ``exact``.

        Raises:
            NotRunningError: no bus answers.
            DataError: ``since`` cannot be read, or this bus has no journal.
        """
        self._after_fork()
        listening = self._listening_kind(
            self,
            tag,
            since,
            match_type,
            timeout,
            cursor=cursor,
            auto_commit=auto_commit,
            exact=exact,
            on_gap=on_gap,
        )
        self._listenings.add(listening)
        return listening

    def now(self) -> float:
        """Return what an age in ``since`` counts from, in seconds since 1970."""
        return time.time()

    def open_calls(self) -> Asks:
        """Return a connection over which the bus can be asked things."""
        return rpc.open_connection(self._node.pull(self.opts))

    def open_listener(self, prefix: str) -> Listener:
        """Return a listener to what begins with ``prefix``, in force."""
        return open_listener(self._node.fires(self.opts), prefix)

    def open_journal(self) -> JournalReader | None:
        """Return a reader of the master's journal, or None on a minion's bus."""
        if self.node != "master":
            return None
        return JournalReader(journal_path(self.opts["state_dir"]))

    def close(self) -> None:
        """Close all that this connection opened."""
        for listening in list(self._listenings):
            listening.close()
        self._listenings.clear()
        if self._publisher is not None and self._pid == os.getpid():
            with self._lock:
                self._publisher.close()
        self._publisher = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
