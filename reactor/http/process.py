"""The HTTP role: uvicorn with the application, on a socket that is bound before."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import uvicorn

from bus.complaints import Complaints
from bus.descriptors import raise_limit, warn_if_few
from bus.errors import ConfigError
from bus.stopping import Stop
from reactor.http import certificate
from reactor.http.address import url_of
from reactor.http.answering import Answering
from reactor.http.app import create_app
from reactor.http.connection import HEAD_SECONDS, Connection, spare_tls_reads
from reactor.http.door import Door
from reactor.http.guard import Scrubbing
from reactor.http.hooks import hooks_of
from reactor.http.services import Services

log = logging.getLogger(__name__)

_BACKLOG = 2048
_MOST_CONNECTIONS = 10_000
_CLOSE_SECONDS = 1


def run(opts: Mapping[str, Any], stop: Stop, answering: Answering) -> None:
    """Serve HTTP until ``stop`` is set.

    Args:
        opts: the master's options.
        stop: ends it.
        answering: is told once it serves.

    Raises:
        ConfigError: an option is wrong, or the port is taken.
    """
    for handler in logging.getLogger().handlers:
        handler.addFilter(Scrubbing())
    hooks_of(opts)  # refused at the start, not at the first request
    cert, key = certificate.prepare(opts)
    spare_tls_reads()
    warn_if_few(raise_limit(), int(opts["http_max_streams"]), "event streams")
    with contextlib.closing(bind(opts)) as listener:
        asyncio.run(_serve(opts, stop, listener, (cert, key), answering))


def bind(opts: Mapping[str, Any]) -> socket.socket:
    """Return a socket that is bound to the option's address and port.

    Raises:
        ConfigError: the port is taken, or the address is not ours.
    """
    host, port = str(opts["http_interface"]), int(opts["http_port"])
    if not port:
        raise ConfigError("http_port is 0: set it to a port, such as 8000")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot serve on {host}:{port} ({error.strerror or error}): set http_port to "
            "another port, or to 0 for no HTTP"
        ) from error
    listener.setblocking(False)
    return listener


class _Server(uvicorn.Server):
    """Leaves signals to the role, which has handlers of its own, and has a door of its own."""

    _doors: Sequence[Door] = ()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve on sockets that listen."""
        await super().startup(sockets=[])
        self._doors = [self._door(sock) for sock in sockets or ()]
        for door in self._doors:
            door.open()

    def _door(self, listener: socket.socket) -> Door:
        config, state = self.config, self.server_state
        return Door(
            listener,
            lambda: Connection(config=config, server_state=state, app_state=self.lifespan.state),
            context=config.ssl,
            handshake_seconds=HEAD_SECONDS,
            complaints=Complaints(),
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the connections that there are."""
        for door in self._doors:
            door.close()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


async def _serve(
    opts: Mapping[str, Any],
    stop: Stop,
    listener: socket.socket,
    files: tuple[str, str],
    answering: Answering,
) -> None:
    cert, key = files
    services = Services(opts)
    config = uvicorn.Config(
        create_app(services),
        http=Connection,
        ws="wsproto",
        loop="asyncio",
        lifespan="off",
        interface="asgi3",
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=_CLOSE_SECONDS,
        ssl_certfile=cert or None,
        ssl_keyfile=key or None,
        ws_max_size=1 << 16,
    )
    server = _Server(config)
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        stop.drain()
        if stop.is_set():
            services.streams.end_all()
            server.should_exit = True

    loop.add_reader(stop.fileno(), on_signal)
    answering.serves(services.describe)
    try:
        log.info("HTTP serves on %s", url_of(opts))
        on_signal()
        await server.serve(sockets=[listener])
    finally:
        loop.remove_reader(stop.fileno())
        await services.close()
