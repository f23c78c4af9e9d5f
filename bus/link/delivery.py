"""That each job that was sent ends: with a return, or with the word that there will be none."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container
from typing import Any

from bus.complaints import Complaints
from bus.errors import BusError
from bus.link import protocol
from bus.link.held import Held
from bus.link.jobs import JobStore, runs_of
from bus.link.owing import Lost, Owing
from bus.link.peers import Peer, Peers
from bus.link.protocol import Job
from bus.link.publishing import job_frame
from bus.tags import tagify

log = logging.getLogger(__name__)

MAX_RECALLED = 2_000
"""Of so many jobs a new server finds out whose returns are owed."""
MAX_AGAIN = 500
"""Jobs that a minion is sent again at once: its queue here has to have room for them."""


class Delivery:
    """Knows what minions owe, and what waits for those that are on their way back.

    Args:
        store: the record of jobs.
        peers: who is connected.
        send: sends a frame to a minion; False if it is not connected.
        fire: fires an event on the master's bus.
        complaints: counts and says what is wrong.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        store: JobStore,
        peers: Peers,
        *,
        send: Callable[[str, bytes], bool],
        fire: Callable[[str, dict[str, Any]], None],
        complaints: Complaints,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._peers = peers
        self._send = send
        self._fire = fire
        self._complaints = complaints
        self._clock = clock
        self._held = Held(clock())
        self._owing = Owing()

    def __len__(self) -> int:
        """Return how many returns are owed."""
        return len(self._owing)

    @property
    def owed(self) -> set[str]:
        """The ids of the jobs of which a return is owed."""
        return self._owing.jobs

    @property
    def debtors(self) -> list[str]:
        """The ids of the minions that owe a return."""
        return self._owing.minions

    def recall(self) -> None:
        """Take up what minions owed when this server's predecessor ended.

        Raises:
            JournalError: the record of jobs cannot be read.
        """
        for job, idents in self._store.unreturned(MAX_RECALLED):
            runs = runs_of(job)
            for ident in sorted(idents):
                self._owing.sent(job["jid"], job["fun"], ident, runs[ident])

    # -- on the way to a minion -----------------------------------------------------------

    def run_of(self, ident: str) -> bytes:
        """Return which process of a minion is connected; empty if none is."""
        peer = self._peers.minion(ident)
        return peer.run if peer else b""

    def hold(self, ident: str, frame: bytes) -> bool:
        """Keep a job for a minion that is not connected; False if it is not waited for."""
        return self._held.hold(ident, frame, self._clock())

    def sent(self, jid: str, fun: str, ident: str) -> None:
        """A minion was sent a job."""
        self._owing.sent(jid, fun, ident, self.run_of(ident))

    def greeted(self, peer: Peer) -> None:
        """An accepted minion said hello: what it owes from another process will not come."""
        self._tell_gone(self._owing.greeted(peer.id, peer.run))

    def send_held(self, ident: str) -> None:
        """Send a minion what was kept for it."""
        for frame in self._held.take(ident):
            job = protocol.decode_down(frame)
            if self._send(ident, frame) and isinstance(job, Job):
                self.sent(job.job["jid"], job.job["fun"], ident)

    # -- back from a minion, or not -------------------------------------------------------

    def returned(self, jid: str, ident: str) -> None:
        """A return came."""
        self._owing.returned(jid, ident)

    def look(self) -> None:
        """Send again what may have been lost, and say whose returns will not come."""
        self._send_again()
        self._tell_gone(self._owing.look(self._peers.ids, self._clock()))

    def _send_again(self) -> None:
        """Send minions whose connection failed what they owe; they know which of it they have."""
        for ident, jids in self._owing.unsure(MAX_AGAIN).items():
            try:
                jobs = [self._store.get(jid) for jid in jids]
            except BusError as error:
                self._complaints.add("jobs_not_sent_again", str(error))
                continue
            log.info("%d jobs are sent to %s again, which was away", len(jobs), ident)
            for job in jobs:
                if job is not None and not self._send(ident, job_frame(job)):
                    break

    def _tell_gone(self, lost: list[Lost]) -> None:
        for one in lost:
            log.warning("job %s (%s) on %s: %s", one.jid, one.fun, one.id, one.reason)
            try:
                self._store.give_up(one.jid, one.id)
            except BusError as error:
                self._complaints.add("jobs_not_given_up", str(error))
            self._fire(tagify([one.jid, "gone", one.id], "job"), one._asdict())

    def keep_only(self, accepted: Container[str]) -> None:
        """Give up what is kept for minions that are not accepted any more."""
        for ident, count in self._held.keep_only(accepted).items():
            log.warning("%d jobs for %s are given up: its key was revoked", count, ident)

    def expire(self) -> None:
        """Give up what is kept for minions that did not come back."""
        for ident, count in self._held.expire(self._clock()).items():
            log.warning("%d jobs did not reach %s, which did not come back", count, ident)
