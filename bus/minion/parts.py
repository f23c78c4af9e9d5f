"""What the minion daemon is put together from, so that tests can hand in other parts."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import zmq

from bus import endpoints
from bus.broker.limits import Limits
from bus.broker.server import EventHook, EventSockets
from bus.config.directories import private_dir
from bus.keys import Keypair
from bus.link.client import LinkClient
from bus.minion import accepted, memory, worker
from bus.minion.accepted import AcceptedJobs
from bus.minion.load import load
from bus.minion.nursery import Entry
from bus.rpc import Methods
from bus.sockets import context
from bus.store import MemoryStore

OnSent = Callable[[bool, str], None]
Grains = Callable[[], Mapping[str, Any]]
OnReply = Callable[[Any, str], None]


class Link(Protocol):
    """What the daemon needs of the connection to the master."""

    @property
    def sockets(self) -> Sequence[tuple[zmq.Socket[bytes], Callable[[], None]]]:
        """The sockets to poll, each with what is to be called when it has input."""

    @property
    def state(self) -> str:
        """How far the connection is, such as ``connected``."""

    @property
    def lost(self) -> int:
        """How many events could neither be delivered nor kept."""

    @property
    def spool(self) -> Mapping[str, int]:
        """What waits for the master, and what was dropped or lost."""

    def tick(self) -> float:
        """Do what is due, and return the seconds until something else is."""

    def send_event(self, tag: str, data: dict[str, Any], on_done: OnSent) -> None:
        """Send an event up; ``on_done`` is told whether the master has it, or why not."""

    def send_return(self, ret: dict[str, Any], on_done: OnSent | None = None) -> None:
        """Send a job's return up; ``on_done`` is told once it is safe, or lost and why."""

    def request(self, params: dict[str, Any], on_reply: OnReply) -> None:
        """Ask the master; ``on_reply`` gets the answer, or None and what went wrong."""

    @property
    def rotation(self) -> Mapping[str, Any]:
        """How far the exchange of the minion's key is."""

    def rotate(self) -> int:
        """Begin to exchange the minion's key; return what ``finished`` will be after it."""

    def say_hello(self) -> None:
        """Tell the master the grains of now."""

    def close(self) -> None:
        """End the connection; what was not delivered is kept on disk."""


class Sockets(Protocol):
    """What the daemon needs of the minion's own bus."""

    @property
    def sockets(self) -> Sequence[Any]:
        """The sockets to poll for input."""

    def handle(self, socket: Any) -> None:
        """Take what waits on one of the sockets."""

    def publish(self, tag: str, data: Mapping[str, Any]) -> int:
        """Put an event of the server's own onto the bus."""

    def status(self) -> dict[str, Any]:
        """Return the bus's counters."""

    def close(self) -> None:
        """Close the sockets."""


@dataclass(frozen=True, slots=True)
class LinkHooks:
    """What the link tells the daemon.

    Attributes:
        on_job: a job came.
        on_state: the state of the connection changed.
        on_changed: files that minions take over have changed.
    """

    on_job: Callable[[dict[str, Any]], None]
    on_state: Callable[[str], None]
    on_changed: Callable[[], None]


class Parts(Protocol):
    """Makes the parts of a minion."""

    def entry(self, opts: Mapping[str, Any]) -> Entry:
        """Return what a worker process runs."""

    def sockets(self, opts: Mapping[str, Any], methods: Methods, on_event: EventHook) -> Sockets:
        """Open the minion's bus."""

    def accepted(self, opts: Mapping[str, Any]) -> AcceptedJobs:
        """Open the file of the jobs that were accepted and are not finished."""

    def link(self, opts: Mapping[str, Any], hooks: LinkHooks, grains: Grains) -> Link:
        """Open the connection to the master."""


class RealParts:
    """The parts of a minion that does real work."""

    def entry(self, opts: Mapping[str, Any]) -> Entry:
        """Return what a worker process runs."""
        limit = int(opts["max_event_size"])
        most = int(opts.get("job_memory_max", 0))

        def run(sock: socket.socket) -> None:
            memory.bound(most)
            worker.main(sock, partial(load, opts), limit)

        return run

    def sockets(self, opts: Mapping[str, Any], methods: Methods, on_event: EventHook) -> Sockets:
        """Open the minion's bus.

        Raises:
            AlreadyRunningError: another minion of this name runs here.
            BusError: the sockets cannot be opened.
        """
        private_dir(opts["sock_dir"])
        return EventSockets(
            pull=endpoints.minion_pull(opts),
            pub=endpoints.minion_pub(opts),
            fires=endpoints.minion_fires(opts),
            store=MemoryStore(),
            methods=methods,
            on_event=on_event,
            limits=Limits.of(opts),
            context=context(),
        )

    def accepted(self, opts: Mapping[str, Any]) -> AcceptedJobs:
        """Open the file of the jobs that were accepted and are not finished.

        Raises:
            JournalError: it cannot be opened.
        """
        return AcceptedJobs(Path(opts["state_dir"]) / accepted.FILE)

    def link(self, opts: Mapping[str, Any], hooks: LinkHooks, grains: Grains) -> Link:
        """Open the connection to the master.

        Raises:
            BusError: the minion's key cannot be read or made.
        """
        return LinkClient(
            opts,
            context=context(),
            keypair=Keypair.load_or_create(opts["pki_dir"], "minion"),
            on_job=hooks.on_job,
            on_state=hooks.on_state,
            on_changed=hooks.on_changed,
            grains=grains,
        )
