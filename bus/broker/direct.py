"""The server's end of the direct line, see `bus.direct`: one descriptor to poll for all clients."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from bus.complaints import Complaints
from bus.direct import RECEIVE_BYTES, Inbox, answer_message
from bus.errors import BusError

_BACKLOG = 1024
_CREDENTIALS = struct.Struct("3i")


class Client:
    """A client's connection. It answers to nobody once it is closed."""

    __slots__ = ("_socket", "inbox")

    def __init__(self, sock: socket.socket, limit: int) -> None:
        self._socket = sock
        self.inbox = Inbox(limit)

    def receive(self) -> bytes:
        """Return what is there; nothing at the end."""
        return self._socket.recv(RECEIVE_BYTES)

    def answer(self, parts: list[bytes]) -> None:
        """Send an answer; a client that does not read its answers is cut off, and asks again."""
        data = answer_message(parts)
        try:
            sent = self._socket.send(data)
        except OSError:
            sent = 0
        if sent < len(data):
            # What the client hears next is the end. The descriptor stays until we hear of it.
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


class DirectSocket:
    """A bound UNIX socket and its clients.

    Args:
        path: where it is bound; what a server that was killed left there is replaced, so the
            caller has to know that no other one runs.
        limit: the longest message in bytes.
        complaints: counts and says what is wrong.

    Raises:
        BusError: it cannot be bound.
    """

    def __init__(self, path: Path, limit: int, complaints: Complaints) -> None:
        self._path = path
        self._limit = limit
        self._complaints = complaints
        self._clients: dict[int, Client] = {}
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
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
        self._epoll.register(self._listener, select.EPOLLIN)

    def fileno(self) -> int:
        """The descriptor to poll for input."""
        return self._epoll.fileno()

    def receive(self) -> Iterator[tuple[Client, list[tuple[bytes, bytes]]]]:
        """Yield who sent what: of each client what one reading brings.

        It may be left early: those who were not read are there the next time.
        """
        for descriptor, _ in self._epoll.poll(0):
            client = self._clients.get(descriptor)
            if client is None:
                while self._accept():
                    pass
                continue
            yield client, self._read(descriptor, client)

    def _read(self, descriptor: int, client: Client) -> list[tuple[bytes, bytes]]:
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
        client.close()

    def _accept(self) -> bool:
        """Let one client in; say whether there may be another."""
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return False
        except OSError as error:
            self._turn_away(error)
            return False
        if _is_allowed(sock):
            sock.setblocking(False)
            self._clients[sock.fileno()] = Client(sock, self._limit)
            self._epoll.register(sock, select.EPOLLIN)
        else:
            self._complaints.add("malformed", "turned away another user of this host")
            sock.close()
        return True

    def _turn_away(self, error: OSError) -> None:
        """Give up the spare descriptor to be rid of a client that there is none for."""
        self._complaints.add("refused_clients", f"turned a client away: {error.strerror}")
        os.close(self._spare)
        with contextlib.suppress(OSError):
            self._listener.accept()[0].close()
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

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
        os.close(self._spare)


def _is_allowed(sock: socket.socket) -> bool:
    """Say whether the user at the other end is ours or root, whatever the file's mode allows."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(raw)
    return user in (os.geteuid(), 0)


def direct_line_works() -> bool:
    """Say whether this system has what the direct line needs: without it ZeroMQ's serve."""
    return hasattr(select, "epoll") and hasattr(socket, "SO_PEERCRED")
