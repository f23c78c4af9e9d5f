"""Listening over the direct line: what the bus publishes comes straight from it to its reader."""

from __future__ import annotations

import contextlib
import logging
import math
import select
import socket
import time
from collections import deque
from pathlib import Path
from typing import Final

from bus import endpoints, frames
from bus.direct import framing
from bus.direct.connecting import connect
from bus.direct.framing import Inbox
from bus.errors import WireError
from bus.listener import Heard, Listener
from bus.sockets import appears, not_running

log = logging.getLogger(__name__)

RECEIVE_BYTES: Final = 262_144
"""As much as a socket's queue holds: in a burst, few calls bring much."""

MAX_GROUP_BYTES: Final = (1 << 32) - 1
"""What the bus publishes is as large as it allows: it is not the listener's to refuse it."""

_FIRST_LOOK, _LAST_LOOK = 0.02, 0.5
"""Seconds between two looks whether a bus that went away is back: doubling."""
_EVENTS: Final = (framing.GROUP, framing.CHOSEN)
_LOOK_FOR_ROOM = 5.0
"""Seconds until a bus is asked again that had no room for this listener."""


class LineListener(Listener):
    """A listener to the bus at the socket ``path``, which need not be there yet.

    Args:
        path: the bus's direct line.
        prefix: the beginning of the tags to hear; empty for everything, None for nothing.
    """

    def __init__(self, path: Path, prefix: str | None = "") -> None:
        self.address = endpoints.line_address(path)
        self.bus_id = ""
        self.closed = False
        self._path = path
        self._prefix = prefix
        self._socket: socket.socket | None = None
        self._poll = select.poll()
        self._epoll: select.epoll | None = None
        self._inbox = Inbox(MAX_GROUP_BYTES)
        self._messages: deque[tuple[bytes, bytes]] = deque()
        self._backlog: deque[Heard] = deque()
        self._sent = 0
        self._look = _FIRST_LOOK
        self._look_at = 0.0

    @property
    def socket(self) -> int:
        """A descriptor that stays the same when the bus goes and comes back."""
        if self._epoll is None:
            self._epoll = select.epoll()
            if self._socket is not None:
                self._epoll.register(self._socket, select.EPOLLIN)
        return self._epoll.fileno()

    @property
    def has_read(self) -> bool:
        """Whether there is something that no longer waits in the socket."""
        return bool(self._messages or self._backlog)

    def wait_ready(self, timeout: float = 1.0) -> int:
        """See `Listener.wait_ready`."""
        deadline = time.monotonic() + timeout
        if not appears(self.address, timeout):
            raise not_running(self.address)
        if self._socket is None:
            self._look_at = 0.0
        else:
            self._ask()
        while True:
            heard = self._next()
            if heard and heard.events:
                self._backlog.append(heard)
                continue
            if heard:
                return heard.seq
            left = deadline - time.monotonic()
            if left <= 0:
                raise not_running(self.address)
            self.wait(left)

    def read(self) -> Heard | None:
        """See `Listener.read`."""
        return self._backlog.popleft() if self._backlog else self._next()

    def wait(self, seconds: float) -> None:
        """See `Listener.wait`."""
        if self._messages or seconds <= 0 or self.closed:
            return
        if self._socket is None:
            time.sleep(min(seconds, max(0.0, self._look_at - time.monotonic())))
        else:
            self._poll.poll(None if seconds == math.inf else int(seconds * 1000) + 1)

    def close(self) -> None:
        """See `Listener.close`."""
        self.closed = True
        self._hang_up()
        if self._epoll is not None:
            self._epoll.close()
            self._epoll = None

    def __del__(self) -> None:
        self.close()  # who is forgotten, as in Salt's scripts, is worth no warning

    # -- the connection -------------------------------------------------------------------

    def _connect(self) -> bool:
        """Connect if it is time to try, and say what is to be heard."""
        now = time.monotonic()
        if now < self._look_at or self.closed:
            return False
        self._look_at, self._look = now + self._look, min(2 * self._look, _LAST_LOOK)
        sock = connect(self._path)
        if sock is None:
            return False
        self._socket = sock
        self._poll.register(sock, select.POLLIN)
        if self._epoll is not None:
            self._epoll.register(sock, select.EPOLLIN)
        return self._ask()

    def _ask(self) -> bool:
        """Say what is to be heard; a mark is the answer."""
        assert self._socket is not None
        question = framing.listen_message(self._prefix)
        with contextlib.suppress(OSError):
            if self._socket.send(question) == len(question):
                return True
        self._hang_up()
        return False

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._poll.unregister(self._socket)
            self._socket.close()  # the epoll forgets it by itself
            self._socket = None
        self._inbox = Inbox(MAX_GROUP_BYTES)
        self._messages.clear()

    # -- what comes -----------------------------------------------------------------------

    def _next(self) -> Heard | None:
        while True:
            while self._messages:
                heard = self._decode(*self._messages.popleft())
                if heard:
                    return heard
            if (self._socket is None and not self._connect()) or not self._fetch():
                return None

    def _fetch(self) -> bool:
        """Read what waits; say whether anything came."""
        if self._socket is None:
            return False
        try:
            data = self._socket.recv(RECEIVE_BYTES)
            self._messages.extend(self._inbox.add(data))
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        except BaseException:  # Ctrl-C: what was read and not noted is a gap, and no nonsense
            self._hang_up()
            self._look_at = 0.0
            self._connect()  # now, so that the gap is no longer than it has to be
            raise
        if not data:
            self._hang_up()  # connected again at once, if the bus is there
            return self._connect()
        if self._inbox.error:
            log.warning("what the bus at %s publishes cannot be read", self._path)
            self._hang_up()
            return False
        return True

    def _decode(self, head: bytes, body: bytes) -> Heard | None:
        kind = head[:1]
        try:
            if kind in _EVENTS:
                return self._take_group(framing.read_group(head, body), kind == framing.CHOSEN)
            if kind == framing.MARK:
                return self._take_mark(framing.read_mark(head, body))
        except WireError as error:
            log.warning("what the bus at %s publishes cannot be read: %s", self._path, error)
        else:
            log.warning("the bus at %s sent a message of the unknown kind %r", self._path, kind)
        return None

    def _take_group(self, group: frames.Group, is_chosen: bool) -> Heard:
        numbers, events = frames.unpack_group(group, chosen=is_chosen)
        lost = self._count(group.sent, group.size) if self._prefix else 0
        return Heard(events, numbers, group.last, self.bus_id, lost)

    def _take_mark(self, mark: framing.Mark) -> Heard:
        if mark.error:
            self._hang_up()
            self._look_at = time.monotonic() + _LOOK_FOR_ROOM
            raise mark.error
        self.bus_id = mark.bus_id
        self._look = _FIRST_LOOK
        return Heard((), (), mark.last_seq, mark.bus_id, self._count(mark.sent, 0))

    def _count(self, sent: int, heard: int) -> int:
        """Return how many events are missing, by how many the bus says that there were."""
        before, self._sent = self._sent, sent
        return frames.missing(before, sent, heard)
