"""``event``: fire an event on the master's bus."""

from __future__ import annotations

from bus.errors import BusError
from bus.record import CAUSE
from reactor.engine.actions import Done
from reactor.engine.firing import Reaction
from reactor.engine.outbox import Outbox
from reactor.rules.model import Call


class EventAction:
    """Fires an event that carries its cause; done once it is in the journal."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def start(self, call: Call, reaction: Reaction, done: Done) -> None:
        """Put the event into the outbox."""

        def fired(seq: int | None, error: BusError | None) -> None:
            done({"seq": seq}, None if error is None else str(error))

        self._outbox.fire(call.function, {**call.data, CAUSE: reaction.cause()}, fired)
