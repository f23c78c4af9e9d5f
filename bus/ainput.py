"""Waiting in an asyncio loop until a socket has something to read: no thread waits with it."""

from __future__ import annotations

import asyncio
import contextlib
import os

import zmq

from bus.sockets import Socket


async def wait_for_input(source: Socket | int, seconds: float) -> None:
    """Wait until there may be input, at most so long.

    Args:
        source: a descriptor, or a ZeroMQ socket of which all that was there has been read.
        seconds: how long.
    """
    try:
        descriptor = source if isinstance(source, int) else int(source.getsockopt(zmq.FD))
        # A copy: if the socket is closed meanwhile, its number may be given to another file, and
        # that one's place in the loop is not ours to take away.
        copy = os.dup(descriptor)
    except (OSError, zmq.ZMQError):  # closed already, in another thread: who looks next sees it
        await asyncio.sleep(0)
        return
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    try:
        loop.add_reader(copy, ready.set)
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ready.wait(), seconds)
        finally:
            loop.remove_reader(copy)
    finally:
        os.close(copy)
