"""One question, one answer: what servers can be asked over their local sockets.

`open_server`, `open_connection` and `open_caller` choose by the address: files speak as the direct
line does (`bus.rpc.line`), loopback ports and the bus's own ROUTER speak ZeroMQ
(`bus.rpc.zeromq`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from bus.complaints import Complaints
from bus.endpoints import line_path
from bus.rpc.base import Caller, Connection, OnReply, Server
from bus.rpc.methods import Methods, answer

__all__ = [
    "Caller",
    "Connection",
    "Methods",
    "OnReply",
    "Server",
    "answer",
    "call",
    "open_caller",
    "open_connection",
    "open_server",
]


def open_server(address: str, methods: Methods, complaints: Complaints | None = None) -> Server:
    """Return a server of ``methods``.

    Args:
        address: where it is asked, see `bus.endpoints`.
        methods: what can be called.
        complaints: counts what is malformed or fails.

    Raises:
        AlreadyRunningError: another server has this socket.
        BusError: the address cannot be bound.
    """
    path = line_path(address)
    if path:
        from bus.rpc.line import LineServer

        return LineServer(path, methods, complaints or Complaints())
    from bus.rpc.zeromq import ZmqServer

    return ZmqServer(address, methods, complaints or Complaints())


def open_connection(address: str) -> Connection:
    """Return a connection that asks one thing at a time; it connects when it is first used."""
    path = line_path(address)
    if path:
        from bus.rpc.line import LineConnection

        return LineConnection(path)
    from bus.rpc.zeromq import ZmqConnection

    return ZmqConnection(address)


def open_caller(address: str) -> Caller:
    """Return what asks many things without waiting."""
    path = line_path(address)
    if path:
        from bus.rpc.line import LineCaller

        return LineCaller(path)
    from bus.rpc.zeromq import ZmqCaller

    return ZmqCaller(address)


def call(
    address: str, method: str, params: Mapping[str, Any] | None = None, timeout: float = 5.0
) -> Any:
    """Ask the server at ``address`` once: arguments and errors are those of `Connection.call`."""
    with contextlib.closing(open_connection(address)) as connection:
        return connection.call(method, params, timeout)
