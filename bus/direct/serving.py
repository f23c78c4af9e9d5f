"""The server's end of a direct line, see `bus.direct`: one descriptor to poll for all clients."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from bus.complaints import Complaints
from bus.direct.framing import RECEIVE_BYTES, Inbox, answer_message
from bus.errors import BusError

log = logging.getLogger(__name__)

_BACKLOG = 1024
_CREDENTIALS = struct.Struct("3i")

_MARKS = 65_536
"""Bytes of answers about where the numbering stands that may wait, beside the events."""

_SEND_BUFFER = 1 << 20
"""What the system is asked to hold for one listener; it may give less (``net.core.wmem_max``)."""


class Client:
    """A client's connection. It answers to nobody once it is closed.

    Args:
        sock: not blocking.
        limit: the longest message that it may send.
        room: the bytes that may wait for it.
        on_full: told when the socket takes no more, and `flush` is to be called when it does.

    Attributes:
        pid: the process at the other end.
        queued_bytes: what waits for it here, beyond what the socket holds.
        queued_events: how many events that is.
        lost: how many events there was no room for so far.
    """

    __slots__ = (
        "_on_full",
        "_queue",
        "_room",
        "_socket",
        "_untold",
        "inbox",
        "lost",
        "pid",
        "queued_bytes",
        "queued_events",
    )

    def __init__(
        self, sock: socket.socket, limit: int, room: int, on_full: Callable[[Client], None]
    ) -> None:
        self._socket = sock
        self._room = room
        self._on_full = on_full
        self._queue: deque[tuple[memoryview, int]] = deque()
        self._untold = False
        self.inbox = Inbox(limit)
        self.pid, _ = _peer(sock)
        self.queued_bytes = self.queued_events = self.lost = 0

    def fileno(self) -> int:
        """The descriptor of the connection."""
        return self._socket.fileno()

    def receive(self) -> bytes:
        """Return what is there; nothing at the end."""
        return self._socket.recv(RECEIVE_BYTES)

    def begin_to_listen(self) -> None:
        """Have the system hold more for it: what comes to a listener comes in bursts."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)

    def answer(self, parts: list[bytes]) -> None:
        """Send an answer; a client that does not read its answers is cut off, and asks again."""
        data = answer_message(parts)
        try:
            sent = 0 if self._queue else self._socket.send(data)
        except OSError:
            sent = 0
        if sent < len(data):
            self._cut_off()

    def post(self, message: bytes, events: int) -> bool:
        """Send events, now or when there is room; return False if there is room for none."""
        if self._queue:
            if self.queued_bytes + len(message) > self._room:
                self.lost += events
                self._untold = True
                return False
            self._enqueue(message, 0, events)
            return True
        try:
            sent = self._socket.send(message)
        except BlockingIOError:
            sent = 0
        except OSError:
            return True  # it has gone, which is about to be noticed
        if sent < len(message):
            self._enqueue(message, sent, events)
            self._on_full(self)
        return True

    def post_always(self, message: bytes) -> None:
        """Send what a listener must know; one that asks and asks and reads nothing is cut off."""
        if self.queued_bytes > self._room + _MARKS:
            self._cut_off()
        elif self._queue:
            self._enqueue(message, 0, 0)
        else:
            self.post(message, 0)

    def flush(self) -> bool:
        """Send what waits, as far as the socket takes it; return whether all is sent."""
        queue = self._queue
        try:
            while queue:
                message, events = queue[0]
                sent = self._socket.send(message)
                self.queued_bytes -= sent
                if sent < len(message):
                    queue[0] = message[sent:], events
                    return False
                self.queued_events -= events
                queue.popleft()
        except BlockingIOError:
            return False
        except OSError:  # it has gone, which is about to be noticed
            self._drop_all()
        return True

    def take_untold(self) -> bool:
        """Return whether it lost events and was not told yet; it is being told now."""
        untold, self._untold = self._untold, False
        return untold

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()
        self._drop_all()

    def _enqueue(self, message: bytes, sent: int, events: int) -> None:
        self._queue.append((memoryview(message)[sent:], events))
        self.queued_bytes += len(message) - sent
        self.queued_events += events

    def _drop_all(self) -> None:
        self._queue.clear()
        self.queued_bytes = self.queued_events = 0

    def _cut_off(self) -> None:
        # What the client hears next is the end. The descriptor stays until we hear of it.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


Messages = list[tuple[bytes, bytes]]


class Watcher(Protocol):
    """Is told what becomes of clients."""

    def leave(self, client: Client) -> None:
        """A client has gone."""
        ...

    def drained(self, client: Client) -> None:
        """A client that lost events has read all that it had."""
        ...


class DirectSocket:
    """A bound UNIX socket and its clients.

    Args:
        path: where it is bound; what a server that was killed left there is replaced, so the
            caller has to know that no other one runs.
        limit: the longest message in bytes.
        room: the bytes that may wait for a listener that is slow.
        complaints: counts and says what is wrong.
        watcher: told of clients that go, and of those that catch up.

    Raises:
        BusError: it cannot be bound.
    """

    def __init__(
        self, path: Path, limit: int, room: int, complaints: Complaints, watcher: Watcher
    ) -> None:
        self._path = path
        self._limit = limit
        self._room = room
        self._watcher = watcher
        self._complaints = complaints
        self._clients: dict[int, Client] = {}
        self._has_waiting = False
        self._spare = _spare()
        self._epoll = select.epoll()
        self._listener = socket.socket(socket.AF_UNIX)
        try:
            self._bind()
        except BusError:
            self._close_descriptors()
            raise

    def _bind(self) -> None:
        umask = os.umask(0o177)
        try:
            self._path.unlink(missing_ok=True)
            self._listener.bind(str(self._path))
            self._listener.listen(_BACKLOG)
        except OSError as error:
            raise BusError(f"cannot listen on {self._path}: {error.strerror}") from error
        finally:
            os.umask(umask)
        self._listener.setblocking(False)
        self._listening = self._listener.fileno()
        # On the edge: who waits for a descriptor that nobody frees must not keep the loop busy.
        self._epoll.register(self._listener, select.EPOLLIN | select.EPOLLET)

    def fileno(self) -> int:
        """The descriptor to poll for input."""
        return self._epoll.fileno()

    def receive(self) -> Iterator[tuple[Client, Messages]]:
        """Yield who sent what: of each client what one reading brings.

        It may be left early: those who were not read are there the next time.
        """
        ready = self._epoll.poll(0)
        if self._listening in dict(ready):
            self._accept_all()  # first: it is said once only, and the loop may be left
        for descriptor, event in ready:
            client = self._clients.get(descriptor)
            if client is None:
                continue
            if event & select.EPOLLOUT:
                self._flush(client)
            if event & ~select.EPOLLOUT:
                yield client, self._read(descriptor, client)

    def _flush(self, client: Client) -> None:
        if not client.flush():
            return
        if client.take_untold():
            self._watcher.drained(client)
        if not client.queued_bytes:
            self._epoll.modify(client, select.EPOLLIN)

    def _wait_for_room(self, client: Client) -> None:
        self._epoll.modify(client, select.EPOLLIN | select.EPOLLOUT)

    def _read(self, descriptor: int, client: Client) -> Messages:
        try:
            data = client.receive()
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        messages = client.inbox.add(data)
        if client.inbox.error:
            self._complaints.add("malformed", f"cut off a client: {client.inbox.error}")
        if client.inbox.error or not data:
            self._forget(descriptor, client)
        return messages

    def _forget(self, descriptor: int, client: Client) -> None:
        del self._clients[descriptor]
        self._epoll.unregister(descriptor)
        self._watcher.leave(client)
        client.close()
        if self._has_waiting:  # for the descriptor that is free now
            self._accept_all()

    def _accept_all(self) -> None:
        self._has_waiting = False
        while self._accept():
            pass

    def _accept(self) -> bool:
        """Let one client in; say whether there may be another."""
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return False
        except OSError as error:
            return self._turn_away(error)
        if _is_allowed(sock):
            sock.setblocking(False)
            self._clients[sock.fileno()] = Client(
                sock, self._limit, self._room, self._wait_for_room
            )
            self._epoll.register(sock, select.EPOLLIN)
        else:
            self._complaints.add("malformed", "turned away another user of this host")
            sock.close()
        return True

    def _turn_away(self, error: OSError) -> bool:
        """Give up the spare descriptor to be rid of a client that there is none for.

        Another thread may be faster to take it, such as one that takes connections from the
        network: then the client waits until there is one again.

        Returns:
            Whether a client was turned away.
        """
        is_rid, is_waiting = False, True
        if self._spare >= 0:
            os.close(self._spare)
            try:
                self._listener.accept()[0].close()
                is_rid = True
            except BlockingIOError:  # the system asks for a descriptor before it looks for a client
                is_waiting = False
            except OSError:
                log.debug("the spare descriptor is gone too")
        self._spare = _spare()
        self._has_waiting = is_waiting and not is_rid
        if is_waiting:
            said = "turned a client away" if is_rid else "a client has to wait"
            self._complaints.add("refused_clients", f"{said}: {error.strerror}")
        return is_rid

    def close(self) -> None:
        """Close all, and remove the file, so that clients know at once that nobody is there."""
        self._path.unlink(missing_ok=True)
        self._close_descriptors()

    def _close_descriptors(self) -> None:
        for client in self._clients.values():
            client.close()
        self._clients.clear()
        self._listener.close()
        self._epoll.close()
        if self._spare >= 0:
            os.close(self._spare)


def _spare() -> int:
    """Return a descriptor to give up in need, -1 if there is none to be had."""
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def _is_allowed(sock: socket.socket) -> bool:
    """Say whether the user at the other end is ours or root, whatever the file's mode allows."""
    return _peer(sock)[1] in (os.geteuid(), 0)


def _peer(sock: socket.socket) -> tuple[int, int]:
    """Return the process and the user at the other end."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, user, _ = _CREDENTIALS.unpack(raw)
    return pid, user
