"""Runs each role in a process of its own, restarts one that dies, and ends them all together.

One thread, no ZeroMQ: the supervisor forks, waits and signals, and nothing else.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import math
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from bus import localkey, peercred
from bus.errors import BusError
from bus.stopping import ASK, Stop
from reactor.pulse import Pulse

log = logging.getLogger(__name__)

STOP_SECONDS = 1.2
"""From the first SIGTERM to the SIGKILL of what still runs. On a busy host signals, reaping and
the end of the interpreter take their time too: it leaves them the rest of two seconds."""

START_SECONDS = 10.0
"""How long a role may take to serve before the next one is started without it."""

FIRST_BACKOFF, LAST_BACKOFF = 0.1, 5.0
"""Seconds before a restart: doubling, and back to the first after `STEADY_SECONDS` of life."""

STEADY_SECONDS = 10.0

REFUSED, CRASHED = 1, 70
"""Exit statuses of a role: it said in one line why it cannot run; it fell over (EX_SOFTWARE)."""

_STOPPING = (signal.SIGTERM, signal.SIGINT)
_WATCHED = (*_STOPPING, signal.SIGHUP, signal.SIGCHLD)
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15


@dataclass(frozen=True, slots=True)
class Role:
    """A part that runs in a process of its own.

    Attributes:
        name: what people call it, such as ``bus``.
        run: serves until its argument is set.
        address: a socket of its own that listens once it serves; empty if it has none.
        keep: restart it whenever it ends, and do not go on without it at the start. Without it,
            a role may end by itself, but is restarted if it is killed or falls over.
        again: serves instead of ``run`` when it is restarted; None for the same.
        patience: seconds for which its loop need not come round before it is killed and started
            again; 0 for any time.
    """

    name: str
    run: Callable[[Stop], None]
    address: str = ""
    keep: bool = True
    again: Callable[[Stop], None] | None = None
    patience: float = 0.0


class _Child:
    """A role and the process that runs it now, if any."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self.pid = 0
        self.started = 0.0
        self.served = False
        self.backoff = FIRST_BACKOFF
        self.restart_at = 0.0
        self.restarts = 0
        self.line: socket.socket | None = None
        self.pulse = Pulse(0)

    def open_line(self) -> Stop:
        """Return what tells the next process to end, and asks it whether it comes round."""
        self.close_line()
        reader, self.line = socket.socketpair()
        self.pulse = Pulse(self.role.patience)
        return Stop((reader, self.line))

    def close_line(self) -> None:
        if self.line is not None:
            self.line.close()
            self.line = None


class Supervisor:
    """Starts roles in order and looks after them.

    Args:
        roles: in the order in which they start; they stop in the reverse order.
        say: tells a person, in one line, that a role died or was restarted.
        on_ready: called once, when all roles serve.
        on_stop: called once, when it begins to end them.
        on_turn: called at least as often as it says: it returns the seconds until the next time.
        on_hangup: whether SIGHUP ends it, as the end of a terminal should; a daemon ignores it.
        clock: seconds that never run backwards.
    """

    def __init__(
        self,
        roles: Sequence[Role],
        *,
        say: Callable[[str], None] = log.warning,
        on_ready: Callable[[], None] = lambda: None,
        on_stop: Callable[[], None] = lambda: None,
        on_turn: Callable[[], float] = lambda: math.inf,
        on_hangup: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._children = [_Child(role) for role in roles]
        self._say = say
        self._on_ready = on_ready
        self._on_stop = on_stop
        self._on_turn = on_turn
        self._on_hangup = on_hangup
        self._clock = clock
        self._failed = 0
        self._stopping = False
        self._libc = _libc()

    def run(self) -> int:
        """Run until SIGTERM or SIGINT, or until a role cannot start.

        Returns:
            The exit status: 0, or 1 if a role could not start (it has said why).
        """
        # What was imported is shared with the children as long as nobody writes to it.
        gc.collect()
        gc.freeze()
        with self._signals() as wakeup:
            try:
                self._start_all(wakeup)
                while not self._stopping:
                    self._turn(wakeup)
            finally:
                self._stop_all(wakeup)
        return self._failed

    # -- starting and restarting ------------------------------------------------------------

    def _start_all(self, wakeup: socket.socket) -> None:
        for child in self._children:
            if self._stopping:
                return
            self._start(child)
            self._await_served(child, wakeup)
        if not self._stopping:
            self._on_ready()

    def _await_served(self, child: _Child, wakeup: socket.socket) -> None:
        deadline = self._clock() + START_SECONDS
        while not self._stopping and child.pid and not self._serves(child):
            if self._clock() > deadline:
                self._say(f"{child.role.name} does not serve yet; it may come later")
                return
            self._turn(wakeup, longest=0.01)

    def _serves(self, child: _Child) -> bool:
        if not child.served:
            child.served = not child.role.address or _listens(child.role.address, child.pid)
        return child.served

    def _start(self, child: _Child) -> None:
        """Fork; signals wait meanwhile, so that the child never handles them as its parent."""
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        stop = child.open_line()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        try:
            child.pid = os.fork()
            if child.pid == 0:
                self._be(child, stop, parent, before)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            stop.leave()
        child.started = self._clock()
        child.restart_at = 0.0
        log.info("started %s as process %d", child.role.name, child.pid)

    def _restart(self, child: _Child) -> None:
        try:
            self._start(child)
        except OSError as error:  # no process or memory to be had just now
            self._say(f"{child.role.name} cannot be started ({error.strerror}): trying again")
            child.restart_at = self._clock() + LAST_BACKOFF

    def _be(self, child: _Child, stop: Stop, parent: int, mask: Iterable[int]) -> NoReturn:
        role, status = child.role, CRASHED
        try:
            os.setsid()  # so that Ctrl-C reaches the supervisor only, and roles end in order
            _die_with(parent, role.name, self._libc)
            signal.set_wakeup_fd(-1)
            for number in _WATCHED:
                signal.signal(number, signal.SIG_DFL)
            # A handler, not SIG_IGN, which programs that a role starts would inherit.
            signal.signal(signal.SIGHUP, lambda _number, _frame: None)
            for other in self._children:
                if other is not child:
                    other.close_line()
            stop.install()
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            status = _run(role, stop, again=child.restarts > 0)
        finally:
            # Whatever happened, a child must never come back into its parent's code.
            os._exit(status)

    def _turn(self, wakeup: socket.socket, longest: float = 60.0) -> None:
        """Wait for a signal or the next restart, and act on it."""
        now = self._clock()
        due = [child.restart_at - now for child in self._children if child.restart_at]
        due += [child.pulse.due(now) for child in self._children if child.pid]
        wait = longest if self._stopping else max(0.0, min([longest, *due]))
        wait = min(wait, self._on_turn())
        if select.select([wakeup], [], [], wait)[0]:
            with contextlib.suppress(BlockingIOError):
                wakeup.recv(4096)
        for child in self._children:
            self._reap(child)
            if child.pid and not self._stopping:
                self._feel(child)
            if child.restart_at and not self._stopping and child.restart_at <= self._clock():
                self._restart(child)

    def _feel(self, child: _Child) -> None:
        """Look whether a role's loop still comes round; kill one that has not for too long."""
        now, line = self._clock(), child.line
        if line is None or child.pulse.due(now) > 0:
            return
        with contextlib.suppress(OSError):
            if child.pulse.look(now, has_answered=_has_answered(line)):
                line.send(ASK)
        if child.pulse.hangs:
            role = child.role
            self._say(f"{role.name} hangs: no sign of life for {role.patience:g} s; it is killed")
            _signal(child.pid, signal.SIGKILL)

    def _reap(self, child: _Child) -> None:
        if not child.pid:
            return
        pid, wait_status = os.waitpid(child.pid, os.WNOHANG)
        if pid:
            child.pid = 0
            if not self._stopping:
                self._on_death(child, os.waitstatus_to_exitcode(wait_status))

    def _on_death(self, child: _Child, status: int) -> None:
        role = child.role
        if not role.keep and status in (0, REFUSED):
            log.info("%s ended (%s)", role.name, _spoken(status))
            return
        lived = self._clock() - child.started
        if _cannot_run(child, status, lived):
            self._failed = 1
            self._stopping = True
            return
        if lived > STEADY_SECONDS:
            child.backoff = FIRST_BACKOFF
        self._say(f"{role.name} ended unexpectedly ({_spoken(status)}): starting it again")
        child.served = False
        child.restarts += 1
        child.restart_at = self._clock() + child.backoff
        child.backoff = min(child.backoff * 2, LAST_BACKOFF)

    # -- stopping -----------------------------------------------------------------------------

    def _stop_all(self, wakeup: socket.socket) -> None:
        """End the roles one after the other, later ones first; what hangs is killed."""
        self._stopping = True
        self._on_stop()
        deadline = self._clock() + STOP_SECONDS
        alive = [child for child in reversed(self._children) if child.pid]
        for place, child in enumerate(alive):
            _signal(child.pid, signal.SIGTERM)
            # One that is slow gets its share of the time, and the rest while others end.
            share = (deadline - self._clock()) / (len(alive) - place)
            self._await_end([child], self._clock() + share, wakeup)
        self._await_end(alive, deadline, wakeup)
        left = [child for child in alive if child.pid]
        for child in left:
            log.warning("%s did not end in time and is killed", child.role.name)
            _signal(child.pid, signal.SIGKILL)
        for child in left:
            os.waitpid(child.pid, 0)
            child.pid = 0

    def _await_end(
        self, children: Sequence[_Child], deadline: float, wakeup: socket.socket
    ) -> None:
        while any(child.pid for child in children) and self._clock() < deadline:
            self._turn(wakeup, longest=min(0.05, max(0.0, deadline - self._clock())))

    # -- signals --------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _signals(self) -> Iterator[socket.socket]:
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        before = {number: signal.getsignal(number) for number in _WATCHED}
        for number in _WATCHED:
            signal.signal(number, self._on_signal)
        old = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        try:
            yield reader
        finally:
            signal.set_wakeup_fd(old)
            for number, handler in before.items():
                signal.signal(number, handler)
            reader.close()
            writer.close()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number in _STOPPING or (number == signal.SIGHUP and self._on_hangup):
            self._stopping = True


def _has_answered(line: socket.socket) -> bool:
    found = False
    with contextlib.suppress(BlockingIOError):
        while line.recv(64):
            found = True
    return found


def _cannot_run(child: _Child, status: int, lived: float) -> bool:
    """Say whether a role's first end is its own verdict; a signal is somebody else's.

    On a TCP port, what seemed to serve may have been another server, which has the port.
    """
    if child.restarts or status <= 0 or lived > START_SECONDS:
        return False
    return not child.served or status == REFUSED


def _run(role: Role, stop: Stop, *, again: bool) -> int:
    """Run a role in its process and return the exit status."""
    try:
        (role.again if again and role.again else role.run)(stop)
    except (BusError, OSError) as error:
        log.debug("%s cannot run", role.name, exc_info=True)
        sys.stderr.write(f"reactor: {role.name}: {' '.join(str(error).split())}\n")
        return REFUSED
    except Exception:  # the boundary of a process: the trace is all that is left of it
        log.exception("%s fell over", role.name)
        return CRASHED
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
    return 0


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _spoken(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"


def _libc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if sys.platform == "linux" else None


def _die_with(parent: int, name: str, libc: ctypes.CDLL | None) -> None:
    """End this process when its parent does, even if that one is killed.

    SIGKILL, because every role must survive that anyway, and nothing may stay behind.
    """
    if libc is not None:
        libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        libc.prctl(_PR_SET_NAME, f"reactor-{name}".encode(), 0, 0, 0)
    if os.getppid() != parent:  # it died before the kernel was told
        os._exit(CRASHED)


def _listens(address: str, pid: int) -> bool:
    """Say whether the process ``pid`` listens at a ZeroMQ address; no ZeroMQ is needed to see."""
    try:
        if address.startswith("ipc://"):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(1.0)
                sock.connect(address.removeprefix("ipc://"))
                return peercred.owner(sock) in (0, pid)
        host, _, port = localkey.split(address)[0].removeprefix("tcp://").rpartition(":")
        with socket.create_connection((host, int(port)), timeout=1.0):
            return True
    except OSError:
        return False
