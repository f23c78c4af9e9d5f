"""Binding and connecting sockets the same way everywhere, and saying clearly why it failed."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import zmq

from bus import localkey
from bus.errors import BusError, NotRunningError

_IPC = "ipc://"
_FILES = (_IPC, "line://")
"""What begins an address that is a file."""

Socket = zmq.Socket[bytes]


def context() -> zmq.Context[Socket]:
    """Return this process's context; a forked child gets one of its own."""
    return zmq.Context.instance()


_EVENTS = int(zmq.EVENTS)
_POLLIN = int(zmq.POLLIN)
_DONTWAIT = int(zmq.DONTWAIT)
_MORE = int(zmq.DONTWAIT) | int(zmq.SNDMORE)


def send_pair(socket: Socket, head: bytes, tail: bytes) -> None:
    """Send two frames without waiting: `send_multipart` at a third of its cost."""
    socket.send(head, _MORE)
    socket.send(tail, _DONTWAIT)


def send_parts(socket: Socket, parts: Sequence[bytes]) -> None:
    """Send a message of any number of frames without waiting."""
    for part in parts[:-1]:
        socket.send(part, _MORE)
    socket.send(parts[-1], _DONTWAIT)


def receive_pair(socket: Socket) -> tuple[bytes, bytes] | None:
    """Return the two frames of the next message without waiting, or None.

    Nothing else than two frames is to be published on such a socket: asking each message for
    its number of frames would cost more than reading it.
    """
    try:
        return socket.recv(_DONTWAIT), socket.recv(_DONTWAIT)
    except zmq.Again:
        return None
    except BaseException:
        if socket.get(zmq.RCVMORE):  # Ctrl-C between the two: the other is no beginning
            socket.recv(_DONTWAIT)
        raise


def has_input(socket: Socket) -> bool:
    """Say whether a message waits: for a third of what a vain attempt to read one costs."""
    return bool(socket.getsockopt(_EVENTS) & _POLLIN)  # type: ignore[operator]


def await_input(socket: Socket, milliseconds: int) -> bool:
    """Wait for a message, for ever with -1: `zmq.Socket.poll` without the poller that it makes."""
    return bool(zmq.zmq_poll([(socket, _POLLIN)], milliseconds))


def skip_rest(socket: Socket) -> None:
    """Read away what is left of a message, so that the next read begins with the next one."""
    while socket.getsockopt(zmq.RCVMORE):
        socket.recv(_DONTWAIT)


_HANDSHAKE_MS = 10_000
"""A stranger who connects and says nothing is not kept."""


def bind(socket: Socket, address: str) -> None:
    """Bind ``socket`` for its owner only; a UNIX socket that somebody left there is replaced.

    Raises:
        BusError: the address cannot be bound.
    """
    place, key_file = localkey.split(address)
    if key_file:
        _guard_with_key(socket, key_file)
    else:
        _guard_by_user(socket)
    umask = os.umask(0o177)
    try:
        socket.bind(place)
    except zmq.ZMQError as error:
        raise BusError(
            f"cannot listen on {place}: {error}; is another server using it, "
            "or is its directory missing?"
        ) from error
    finally:
        os.umask(umask)


def _guard_by_user(socket: Socket) -> None:
    """Have the system's word for who connects, whatever the modes of file and directory allow."""
    for user in {os.geteuid(), 0}:
        # A system that does not tell who connects still has the modes.
        with contextlib.suppress(zmq.ZMQError):
            socket.set(zmq.IPC_FILTER_UID, user)


def _guard_with_key(socket: Socket, key_file: Path) -> None:
    key = localkey.load_or_create(key_file)
    if key is None:
        raise BusError(
            f"the key {key_file} cannot be made: does its directory exist, and is it yours?"
        )
    socket.set(zmq.CURVE_SERVER, 1)
    socket.set(zmq.CURVE_SECRETKEY, key.secret)
    # Who knows the key is in: a handler for other sockets of this context is not asked.
    socket.set(zmq.ZAP_ENFORCE_DOMAIN, 1)
    socket.set(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)


def close_bound(socket: Socket, address: str) -> None:
    """Close a bound socket and remove its file, so that clients know at once that it is gone."""
    socket.close(linger=100)
    if address.startswith(_IPC):
        Path(address.removeprefix(_IPC)).unlink(missing_ok=True)


def is_listening(address: str) -> bool:
    """Say whether a server may be there: whether its socket's file exists, or its port's key."""
    path = _file_of(address)
    return path is None or _is_there(path)


def appears(address: str, timeout: float) -> bool:
    """Wait briefly for a socket file: a server that is just starting is worth a moment."""
    deadline = time.monotonic() + min(timeout, 0.2)
    while not is_listening(address):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.01)
    return True


def is_refused(address: str) -> bool:
    """Say whether a socket's file is there and certainly nobody listens: its server was killed."""
    if not address.startswith(_IPC):
        return False
    import socket as system_socket  # not for `reactor fire`, which starts fast

    with contextlib.closing(system_socket.socket(system_socket.AF_UNIX)) as probe:
        probe.setblocking(False)
        try:
            probe.connect(address.removeprefix(_IPC))
        except ConnectionRefusedError:
            return True
        except OSError:  # nothing certain, such as a queue that is full for the moment
            return False
    return False


def _is_there(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises where one may not look


def shown(address: str) -> str:
    """Return an address as a person is to read it."""
    place, _ = localkey.split(address)
    return place.partition("://")[2] if place.startswith(_FILES) else place


def _file_of(address: str) -> Path | None:
    place, key_file = localkey.split(address)
    return Path(shown(place)) if place.startswith(_FILES) else key_file


def not_running(address: str) -> NotRunningError:
    """Return the error that says that nobody answers at ``address``."""
    path = _file_of(address)
    if path and _is_there(path.parent) and not os.access(path.parent, os.X_OK):
        return NotRunningError(
            f"no bus answers at {shown(address)} for you: only the user who owns {path.parent} "
            "can open it, so become that user"
        )
    return NotRunningError(
        f"no bus answers at {shown(address)}: "
        "is it running? start it with 'reactor up', 'reactor master' or 'reactor minion', "
        "or name its configuration with --config DIR or REACTOR_CONFIG_DIR"
    )


def connect(kind: int, address: str, *, queue: int = 1000) -> Socket:
    """Return a new connected socket whose close never waits."""
    socket = context().socket(kind)
    socket.set(zmq.LINGER, 0)
    socket.set(zmq.SNDHWM, queue)
    socket.set(zmq.RCVHWM, queue)
    # A server that comes back is found at once; on loopback a try costs next to nothing.
    socket.set(zmq.RECONNECT_IVL, 20)
    socket.set(zmq.RECONNECT_IVL_MAX, 500)
    place, key_file = localkey.split(address)
    if key_file:
        _present_key(socket, key_file)
    socket.connect(place)
    return socket


def _present_key(socket: Socket, key_file: Path) -> None:
    """Prove that we know the server's key; without it nobody answers, as without a server."""
    key = localkey.load_or_create(key_file) or localkey.generate()
    socket.set(zmq.CURVE_SERVERKEY, key.public)
    socket.set(zmq.CURVE_PUBLICKEY, key.public)
    socket.set(zmq.CURVE_SECRETKEY, key.secret)
    socket.set(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)


def disconnect(socket: Socket, address: str) -> None:
    """Take a connection back, so that the server forgets it; the socket stays."""
    socket.disconnect(localkey.split(address)[0])


def reconnect(socket: Socket, address: str) -> None:
    """Connect a socket of `connect` once more after `disconnect`."""
    socket.connect(localkey.split(address)[0])


def poll_until(socket: Socket, deadline: float | None, turn: Callable[[], bool]) -> bool:
    """Run ``turn`` each time that ``socket`` has input, until it returns True.

    Args:
        socket: what to wait for.
        deadline: on `time.monotonic`, or None to wait for ever.
        turn: reads what waits.

    Returns:
        Whether ``turn`` returned True before the deadline.
    """
    while not turn():
        wait = None if deadline is None else max(0.0, deadline - time.monotonic())
        waited = wait != 0.0 and await_input(socket, -1 if wait is None else int(wait * 1000) + 1)
        if not waited and deadline is not None and time.monotonic() >= deadline:
            return turn()
    return True


def close(socket: Socket | None) -> None:
    """Close a socket if there is one."""
    if socket is not None:
        with contextlib.suppress(zmq.ZMQError):
            socket.close(linger=0)
