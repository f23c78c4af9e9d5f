"""What is written at once, so that thousands of streams fit into one process. Pure."""

from __future__ import annotations

from collections.abc import Iterator

PIECE = 8 << 10
"""Bytes of one write. A TLS connection keeps room for the largest write that it ever made."""

_EVENT_END = b"\n\n"


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
