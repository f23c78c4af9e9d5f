"""``log``: write a line into the reactor's log."""

from __future__ import annotations

import logging

from reactor.engine.actions import Done
from reactor.engine.firing import Reaction
from reactor.rules.model import Call

log = logging.getLogger("reactor.rule")


class LogAction:
    """Writes one line, whatever the event put into it."""

    def start(self, call: Call, reaction: Reaction, done: Done) -> None:
        """Write it."""
        text = "".join(char if char.isprintable() else " " for char in call.function)
        level = logging.getLevelNamesMapping()[call.options.get("level", "info").upper()]
        log.log(level, "%s: %s", reaction.rule, text)
        done({}, None)
