"""The listeners on the direct line: what goes to whom, and what each of them lost."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence
from typing import Any

from bus import frames, wire
from bus.broker.choices import Choices
from bus.broker.limits import Listeners
from bus.direct import framing
from bus.direct.framing import Mark
from bus.direct.serving import Client
from bus.errors import ListenerLimitError
from bus.frames import Group
from bus.store import Store

MAX_SHOWN = 20
"""Listeners that the status tells of one by one: those that are furthest behind."""


class Audience:
    """Who listens on the direct line.

    What came together is packed once for all who want the same. Each listener has a queue of its
    own, so one that is slow loses events, and nobody else does. It is told as soon as it has read
    what it had: by the numbers of what comes next, or by a mark if nothing does.

    Args:
        listeners: those of all outlets of the bus together.
        store: says where the numbering stands.
        counters: where lost events are counted, as ``dropped``.
    """

    def __init__(self, listeners: Listeners, store: Store, counters: Counter[str]) -> None:
        self._listeners = listeners
        self._store = store
        self._counters = counters
        self._choices = Choices(secrets.randbits(63 - frames.RUN_BITS))
        self._wanted: dict[Client, bytes] = {}
        self._clients: dict[bytes, list[Client]] = {}

    def ask(self, client: Client, prefix: bytes | None) -> ListenerLimitError | None:
        """Let a client listen, and tell it from which number on; return why not, if so.

        Args:
            client: who asks.
            prefix: the beginning of the tags that it wants; None if it only wants to know.
        """
        refusal = None
        if prefix is not None:
            refusal = self._listeners.join(client)
            if refusal is None and self._wanted.get(client) != prefix:
                self._forget(client)
                self._add(client, prefix)
        self._tell(client, refusal)
        return refusal

    def leave(self, client: Client) -> None:
        """A client has gone."""
        self._forget(client)
        self._listeners.leave(client)

    def drained(self, client: Client) -> None:
        """A client that lost events has read all that it had."""
        self._tell(client, None)

    def publish(self, events: Sequence[bytes], body: bytes) -> None:
        """Send events to those who want them.

        Args:
            events: those that the store has kept last.
            body: the same, packed as an array; empty if that is still to be done.
        """
        last, count = self._store.last_seq, len(events)
        everybody = self._clients.get(b"")
        if everybody:
            body = body or wire.pack(list(events))
            self._send(everybody, Group(body, last, count, 0))
        for chosen in self._choices.split(events, last - count + 1):
            clients = self._clients[chosen.prefix]
            if len(chosen.events) == count:  # as they are: nothing has to be put together
                body = body or wire.pack(list(events))
                self._send(clients, Group(body, last, count, chosen.sent))
            else:
                packed = wire.pack([chosen.numbers, chosen.events])
                group = Group(packed, chosen.numbers[-1], len(chosen.events), chosen.sent)
                self._send(clients, group, framing.CHOSEN)

    def status(self) -> list[dict[str, Any]]:
        """Return the listeners that are furthest behind or lost most, those first."""
        slow = sorted(
            (client for client in self._wanted if client.queued_events or client.lost),
            key=lambda client: (client.queued_events, client.lost),
            reverse=True,
        )
        return [
            {
                "pid": client.pid,
                "prefix": self._wanted[client].decode(errors="replace"),
                "queued": client.queued_events,
                "queued_bytes": client.queued_bytes,
                "lost": client.lost,
            }
            for client in slow[:MAX_SHOWN]
        ]

    def _send(self, clients: Sequence[Client], group: Group, kind: bytes = framing.GROUP) -> None:
        message = framing.group_message(group, kind)
        for client in clients:
            if not client.post(message, group.size):
                self._counters["dropped"] += group.size

    def _tell(self, client: Client, refusal: ListenerLimitError | None) -> None:
        prefix = self._wanted.get(client)
        sent = self._choices.sent(prefix) if prefix else 0
        mark = Mark(self._store.last_seq, sent, self._store.bus_id, refusal)
        client.post_always(framing.mark_message(mark))

    def _add(self, client: Client, prefix: bytes) -> None:
        client.begin_to_listen()
        self._wanted[client] = prefix
        clients = self._clients.setdefault(prefix, [])
        if prefix and not clients:
            self._choices.add(prefix)
        clients.append(client)

    def _forget(self, client: Client) -> None:
        prefix = self._wanted.pop(client, None)
        if prefix is None:
            return
        clients = self._clients[prefix]
        clients.remove(client)
        if not clients:
            del self._clients[prefix]
            self._choices.remove(prefix)
