"""A reactor's place among those of its master: it stands by until the lease is its own.

Every reactor has a name and a socket of its own, at which it can be asked and told to lead or
not, whether it is the active one or not. The active one also has the socket that all commands use.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import zmq

from bus import endpoints, rpc
from bus.errors import BusError
from bus.stopping import Stop
from reactor.engine import lease as leases
from reactor.engine.lease import Holder, Lease, Sight, Watch, lease_path
from reactor.engine.state import State, state_path
from reactor.errors import ReactorError

log = logging.getLogger(__name__)

MAIN = "reactor"
"""The name of the reactor that `reactor master` runs."""

_ASK_SECONDS = 1.0
_COMPLAIN_EVERY = 10.0


class Term:
    """Being the active reactor.

    Attributes:
        lease: the lease.
        state: the engine's database, open and writable in this term only.
        before: who had the lease before, if that is known.
        producer: in whose name this reactor fires.
    """

    def __init__(self, lease: Lease, state: State, before: Holder | None, producer: bytes) -> None:
        self.lease = lease
        self.state = state
        self.before = before
        self.producer = producer
        self.since = time.time()

    def close(self, heir: str = "") -> None:
        """Let others have it."""
        self.state.close()
        self.lease.release(heir)


class Seat:
    """One reactor among several.

    Args:
        opts: the master's options.
        name: its name.
        clock: seconds, monotonic.
    """

    def __init__(
        self, opts: Mapping[str, Any], name: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = name
        self._opts = opts
        self._clock = clock
        self._path = lease_path(opts["state_dir"])
        self._patience = float(opts["reactor_take_over_after"])
        self._watch = Watch(name, self._patience)
        self._server: rpc.Server | None = None
        self._term: Term | None = None
        self._may_lead = True
        self._heir: str | None = None
        self._complained_at = -_COMPLAIN_EVERY
        self._sight = Sight()

    # -- standing by ----------------------------------------------------------------------

    def try_lead(self) -> Term | None:
        """Look once at the lease, and take it if it may be taken.

        Raises:
            ReactorError: the lease or the database cannot be read or written.
        """
        sight = self._sight = leases.look(self._path)
        if not self._watch.may_take(sight, self._clock()) or not self._may_lead:
            return None
        try:
            leases.end(self._path, sight)
        except ReactorError as error:
            self._complain(error)
            return None
        self._term = self._take(sight)
        return self._term

    def stand_by(self, stop: Stop) -> Term | None:
        """Wait until this reactor leads, and answer meanwhile; None if the end is asked for."""
        self.open()
        self._sight = leases.look(self._path)
        log.info("this reactor (%s) stands by: %s", self.name, self._who_leads())
        poller = zmq.Poller()
        poller.register(stop.fileno(), zmq.POLLIN)
        if self._server is not None:
            poller.register(self._server.socket, zmq.POLLIN)
        while not stop.is_set():
            poller.poll(int(leases.RENEW_EVERY * 1000))
            stop.drain()
            self.handle()
            try:
                term = self.try_lead()
            except ReactorError as error:
                self._complain(error)
                continue
            if term is not None:
                return term
        return None

    def _who_leads(self) -> str:
        holder = self._leader()
        if not self._may_lead:
            return "it was told not to lead"
        if holder is None:
            return f"{self.heir or 'who wants to'} may lead"
        return f"{holder.name} (process {holder.pid}) is active"

    def _complain(self, error: ReactorError) -> None:
        if self._clock() - self._complained_at >= _COMPLAIN_EVERY:
            self._complained_at = self._clock()
            log.error("%s: this reactor (%s) stands by", error, self.name)

    def _take(self, sight: Sight) -> Term | None:
        state = State(state_path(self._opts["state_dir"]))
        producer = os.urandom(12)
        made: list[Lease] = []

        def seal(term: int) -> None:
            # Nobody else is here now: who was first has changed the lease.
            if not leases.look(self._path).is_still(sight):
                raise ReactorError("another reactor was faster")
            leases.forget_strays(self._path)
            holder = Holder(self.name, os.getpid(), term, self._address())
            made.append(Lease(self._path, holder, self._patience, self._clock))

        try:
            state.take_over(self.name, producer, seal)
        except ReactorError:
            for lease in made:
                lease.release()
            state.close()
            if not made and not leases.look(self._path).is_still(sight):
                return None
            raise
        self._heir = None
        return Term(made[0], state, sight.holder, producer)

    # -- leading --------------------------------------------------------------------------

    @property
    def is_leaving(self) -> bool:
        """Whether it was told to lead no more."""
        return self._heir is not None

    @property
    def heir(self) -> str:
        """Whom it leaves the lead to, if that was said."""
        return self._heir or ""

    def leave(self) -> None:
        """Let others lead."""
        if self._term is not None:
            self._term.close(self.heir)
            self._term = None

    # -- what it can be asked -------------------------------------------------------------

    def open(self) -> None:
        """Make the socket, unless it is there.

        Raises:
            AlreadyRunningError: another reactor has this name.
        """
        if self._server is None and self._address():
            self._server = rpc.Server(self._address(), self._methods())

    @property
    def socket(self) -> zmq.Socket[bytes] | None:
        """What to poll, and then `handle`."""
        return self._server.socket if self._server else None

    def handle(self) -> None:
        """Answer what waits."""
        if self._server is not None:
            self._server.handle()

    def close(self) -> None:
        """Close the socket."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def describe(self) -> dict[str, Any]:
        """Return what is said of this reactor."""
        term = self._term
        return {
            "name": self.name,
            "pid": os.getpid(),
            "active": term is not None,
            "may_lead": self._may_lead,
            "leader": self._myself(term) if term else leases.describe(self._leader()),
        }

    def _leader(self) -> Holder | None:
        return None if self._sight.is_free else self._sight.holder

    def _myself(self, term: Term) -> dict[str, Any]:
        return {**leases.describe(term.lease.holder), "since": round(term.since, 3)}

    def _methods(self) -> dict[str, Callable[[dict[str, Any]], Any]]:
        return {
            "ping": lambda _: True,
            "leader": lambda _: self.describe(),
            "leader.set": self._set,
            "leader.yield": self._yield,
        }

    def _set(self, params: dict[str, Any]) -> dict[str, Any]:
        """Lead, or do not; the caller asks again whether it has come to that."""
        self._may_lead = bool(params.get("value"))
        if self._term is not None:
            self._heir = None if self._may_lead else ""
        elif self._may_lead:
            self._ask_for_it()
        return self.describe()

    def _ask_for_it(self) -> None:
        holder = self._leader()
        if holder is None:
            return
        try:
            rpc.call(holder.address, "leader.yield", {"to": self.name}, timeout=_ASK_SECONDS)
        except BusError as error:
            log.warning("%s does not let go of the lease: %s", holder.name, error)

    def _yield(self, params: dict[str, Any]) -> bool:
        if self._term is None:
            return False
        self._heir = str(params.get("to", ""))
        return True

    def _address(self) -> str:
        if self._opts.get("ipc_mode", "ipc") == "tcp":
            return ""
        return endpoints.master_reactor_named(self._opts, self.name)
