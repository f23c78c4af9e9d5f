"""One connection: what it may hold in memory, how long and how large a request's head may be."""

from __future__ import annotations

import asyncio
import asyncio.sslproto
import logging

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

log = logging.getLogger(__name__)

UNSENT = 32 << 10
"""Bytes that wait for a client before its stream waits for it. asyncio would let 512 KiB wait on
a TLS connection, half a gigabyte for a thousand clients that have stopped reading."""

MOST_HEAD = 64 << 10
"""Bytes of a request besides its body: as nginx has it in sum. The parser itself has no limit."""

_CHUNKED = 8
"""Times its size that a body may take on the way: it may come in chunks of a byte."""

HEAD_SECONDS = 30.0
"""Seconds until a request's head is there: a stranger may open connections and say nothing."""

_TLS_READ = 4 << 10
"""Bytes that a TLS connection reads at once."""

_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large"
_TOO_LATE = b"HTTP/1.1 408 Request Timeout"
_ENDED = b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class Connection(HttpToolsProtocol):
    """uvicorn's protocol of HTTP, with less in its buffers, and limits."""

    _late: asyncio.TimerHandle | None = None
    _raw = _body = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a new connection."""
        transport.set_write_buffer_limits(high=UNSENT)
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let it go."""
        self._head_is_there()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came, unless it is too much for a request's head."""
        if self._late is None and (self.cycle is None or self.cycle.response_complete):
            self._await_head()
        self._raw += len(data)
        super().data_received(data)
        if self._raw - self._body > MOST_HEAD + _CHUNKED * self._body:
            self._refuse(_TOO_LARGE)

    def on_message_begin(self) -> None:
        """Count anew."""
        self._raw = self._body = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Begin with the request."""
        self._head_is_there()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count what the application has a limit for."""
        self._body += len(body)
        super().on_body(body)

    def _await_head(self) -> None:
        self._late = self.loop.call_later(HEAD_SECONDS, self._refuse, _TOO_LATE)

    def _head_is_there(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _refuse(self, status: bytes) -> None:
        self._head_is_there()
        if self.transport.is_closing():
            return
        log.info("a connection was ended: %s", status.decode().partition(" ")[2])
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(status + _ENDED)
        self.transport.close()


def spare_tls_reads() -> None:
    """Have each TLS connection of this process read into little.

    asyncio gives it 256 KiB from its first moment on. The clients of event streams say nothing
    after their request.
    """
    asyncio.sslproto.SSLProtocol.max_size = _TLS_READ
