"""What one connection may hold in memory, so that thousands of streams fit into one process."""

from __future__ import annotations

import asyncio
import asyncio.sslproto
from collections.abc import Iterator

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

UNSENT = 32 << 10
"""Bytes that wait for a client before its stream waits for it. asyncio would let 512 KiB wait on
a TLS connection, half a gigabyte for a thousand clients that have stopped reading."""

PIECE = 8 << 10
"""Bytes of one write. A TLS connection keeps room for the largest write that it ever made."""

_TLS_READ = 4 << 10
"""Bytes that a TLS connection reads at once."""

_EVENT_END = b"\n\n"


class Connection(HttpToolsProtocol):
    """uvicorn's protocol of HTTP, with less in its buffers."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a new connection."""
        transport.set_write_buffer_limits(high=UNSENT)
        super().connection_made(transport)


def spare_tls_reads() -> None:
    """Have each TLS connection of this process read into little.

    asyncio gives it 256 KiB from its first moment on. The clients of event streams say nothing
    after their request.
    """
    asyncio.sslproto.SSLProtocol.max_size = _TLS_READ


def pieces(chunk: bytes) -> Iterator[memoryview]:
    """Yield a chunk as parts that share its memory: of whole events, of about `PIECE` bytes.

    An event that is larger is cut.
    """
    view, begin = memoryview(chunk), 0
    while begin < len(chunk):
        end = begin + PIECE
        if end < len(chunk):
            found = chunk.rfind(_EVENT_END, begin, end)
            end = end if found < 0 else found + len(_EVENT_END)
        yield view[begin:end]
        begin = end
