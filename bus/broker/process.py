"""The bus role of a master: the event sockets and the journal, in a process of their own."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import zmq

from bus import durations, endpoints
from bus.broker.cursors import Cursors, cursors_path
from bus.broker.limits import Limits
from bus.broker.server import EventSockets
from bus.config import private_dir
from bus.journal import Journal, Retention, journal_path
from bus.lock import DirectoryLock
from bus.stopping import Stop

log = logging.getLogger(__name__)

MAINTAIN_EVERY = 10.0
"""Seconds between two looks at what the journal need not keep."""


def run(opts: Mapping[str, Any], stop: Stop) -> None:
    """Serve the master's bus until ``stop`` is set.

    Raises:
        AlreadyRunningError: another bus has this ``sock_dir``.
        BusError: the sockets or the journal cannot be opened.
    """
    private_dir(opts["sock_dir"])
    private_dir(opts["state_dir"])
    lock = DirectoryLock(Path(opts["state_dir"]) / "journal.lock", "state_dir")
    try:
        _run(opts, stop)
    finally:
        lock.release()


def _run(opts: Mapping[str, Any], stop: Stop) -> None:
    retention = Retention(
        keep=durations.seconds(opts["journal_keep"]),
        max_size=int(opts["journal_max_size"]),
        segment_size=int(opts["journal_segment_size"]),
    )
    journal = Journal(
        journal_path(opts["state_dir"]), sync=str(opts["journal_sync"]), retention=retention
    )
    try:
        cursors = Cursors(cursors_path(opts["state_dir"]), sync=str(opts["journal_sync"]))
        try:
            _run_sockets(opts, stop, journal, cursors)
        finally:
            cursors.close()
    finally:
        journal.close()


def _run_sockets(opts: Mapping[str, Any], stop: Stop, journal: Journal, cursors: Cursors) -> None:
    sockets = EventSockets(
        pull=endpoints.master_pull(opts),
        pub=endpoints.master_pub(opts),
        fires=endpoints.master_fires(opts),
        store=journal,
        methods=cursors.methods(),
        limits=Limits.of(opts),
    )
    log.info("the bus serves; the journal ends at %d", journal.last_seq)
    try:
        _serve(sockets, stop, journal.maintain)
    finally:
        sockets.close()


def _serve(sockets: EventSockets, stop: Stop, maintain: Callable[[], None]) -> None:
    poller = zmq.Poller()
    for socket in (*sockets.sockets, stop.fileno()):
        poller.register(socket, zmq.POLLIN)
    due = 0.0
    while not stop.is_set():
        if time.monotonic() >= due:
            maintain()
            due = time.monotonic() + MAINTAIN_EVERY
        ready: Any
        for ready, _ in poller.poll(int(MAINTAIN_EVERY * 1000)):
            if ready == stop.fileno():
                stop.drain()
            else:
                sockets.handle(ready)
    for socket in sockets.sockets:
        sockets.handle(socket)  # what has arrived is kept, even now
