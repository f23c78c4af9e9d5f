"""What the routes share, made once for a process and handed to each by dependency."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

from fastapi import Depends
from starlette.requests import HTTPConnection

from bus import durations, endpoints, rpc
from bus.anative import AsyncConnection
from bus.errors import BusError
from reactor.http.access import Access, access_dir
from reactor.http.auth import Authenticator, Identity
from reactor.http.errors import HttpError
from reactor.http.hooks import Replays, hooks_of, window_of
from reactor.http.hub import Hub
from reactor.http.lowstate import Clients
from reactor.http.permissions import need
from reactor.http.slowdown import Rate
from reactor.http.streams import Streams

T = TypeVar("T")

ASK_SECONDS = 5.0


class Services:
    """The collaborators of the routes.

    Args:
        opts: the master's options.
    """

    def __init__(self, opts: Mapping[str, Any]) -> None:
        self.opts = opts
        self.started = time.time()
        self.access = Access(access_dir(opts), time.time)
        self.auth = Authenticator(
            self.access,
            lifetime=durations.seconds(opts["http_token_lifetime"]),
            pam_service=str(opts["http_pam_service"]),
        )
        self.hub = Hub(opts)
        self.streams = Streams(
            self.hub,
            most=int(opts["http_max_streams"]),
            lag=int(opts["http_stream_lag"]),
            heartbeat=float(opts["http_heartbeat"]),
        )
        self.hooks = hooks_of(opts)
        self.replays = Replays(window_of(opts), time.time)
        self.hook_rate = Rate(int(opts["http_hook_rate"]), time.monotonic)
        self.clients = Clients(opts)
        self.answers: dict[int, int] = {}
        self._bus: AsyncConnection | None = None
        self._connecting = asyncio.Lock()

    def count(self, status: int) -> None:
        """Count an answer."""
        self.answers[status] = self.answers.get(status, 0) + 1

    def describe(self) -> dict[str, Any]:
        """Say how this server does; asked from another thread too."""
        return {
            "seconds": round(time.time() - self.started, 3),
            "streams": len(self.streams),
            "dropped": self.streams.dropped,
            "answers": {str(status): count for status, count in sorted([*self.answers.items()])},
        }

    # -- asking the other roles -----------------------------------------------------------------

    async def ask(
        self,
        part: str,
        method: str,
        params: Mapping[str, Any] | None = None,
        seconds: float = ASK_SECONDS,
    ) -> Any:
        """Ask the ``bus``, the ``link`` or the ``reactor``.

        Raises:
            BusError: it is not there, or says what was wrong.
        """
        address = _ADDRESSES[part](self.opts)
        return await asyncio.to_thread(rpc.call, address, method, params, seconds)

    async def fire(self, tag: str, data: Mapping[str, Any]) -> int:
        """Fire an event; return its number once it is in the journal.

        Raises:
            BusError: it cannot go onto the bus, or there is none.
        """
        bus = await self._connected()
        try:
            return await bus.fire(tag, data, ASK_SECONDS)
        except OverflowError as error:  # a number that no event can carry
            raise HttpError(str(error)) from error

    async def _connected(self) -> AsyncConnection:
        async with self._connecting:
            if self._bus is None:
                bus = AsyncConnection("master", self.opts)
                await bus.__aenter__()
                self._bus = bus
            return self._bus

    async def close(self) -> None:
        """Let go of everything."""
        self.streams.end_all()
        self.hub.close()
        self.clients.close()
        if self._bus:
            with contextlib.suppress(BusError):
                await self._bus.__aexit__(None, None, None)
        self.access.close()


_ADDRESSES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "bus": endpoints.master_pull,
    "link": endpoints.master_link,
    "reactor": endpoints.master_reactor,
}


async def services_of(connection: HTTPConnection) -> Services:
    """Return the services of the application that serves a request.

    Dependencies are coroutines, so that they run in the loop, which owns the database of tokens.
    """
    found: Services = connection.app.state.services
    return found


async def identity_of(connection: HTTPConnection) -> Identity:
    """Return who makes a request; a route that needs nobody's permission does without."""
    services: Services = connection.app.state.services
    return services.auth.identify(connection)


Serves = Annotated[Services, Depends(services_of)]
Who = Annotated[Identity, Depends(identity_of)]


def need_reading(who: Identity, tag: str, what: str) -> None:
    """Refuse who may not read the events that tell the same.

    Raises:
        ForbiddenError: with the tag in its text.
    """
    need(who.may.may_read(tag), f"read {what}: it needs to read {tag}")
