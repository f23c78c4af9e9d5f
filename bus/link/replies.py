"""What a minion has asked its master, and who waits for the replies. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bus.link import protocol
from bus.link.protocol import Reply, Request

OnReply = Callable[[Any, str], None]
"""Told the value and an empty text, or None and what went wrong."""

NOT_CONNECTED = "the master is not connected"
WENT_DOWN = "the link to the master went down"


class Replies:
    """Numbers questions, and hands each reply to the one who asked.

    Args:
        send: sends a frame to the master; False if it cannot.
    """

    def __init__(self, send: Callable[[bytes], bool]) -> None:
        self._send = send
        self._number = 0
        self._waiting: dict[int, OnReply] = {}

    def ask(self, params: Mapping[str, Any], on_reply: OnReply) -> None:
        """Ask the master.

        Args:
            params: the question.
            on_reply: told the reply, once.
        """
        self._number += 1
        if self._send(protocol.encode(Request(self._number, dict(params)))):
            self._waiting[self._number] = on_reply
        else:
            on_reply(None, NOT_CONNECTED)

    def take(self, reply: Reply) -> None:
        """Hand over a reply; one that nobody waits for is dropped."""
        on_reply = self._waiting.pop(reply.number, None)
        if on_reply is not None:
            on_reply(None if reply.error else reply.value, reply.error)

    def fail(self) -> None:
        """Tell all who wait that the link went down."""
        waiting, self._waiting = self._waiting, {}
        for on_reply in waiting.values():
            on_reply(None, WENT_DOWN)
