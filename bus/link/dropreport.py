"""Tells a master how many events made room for newer ones while it was away. No I/O of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bus.link.outbox import Done, Outbox
from bus.link.spool import DROP_OLDEST
from bus.tags import tagify


class DropReport:
    """The report of one minion; while one is on its way there is no second.

    Args:
        outbox: knows what was dropped and not reported.
        ident: the minion.
    """

    def __init__(self, outbox: Outbox, ident: str) -> None:
        self._outbox = outbox
        self._tag = tagify([ident, "spool", "dropped"], "minion")
        self._on_its_way = False

    def send(self, send_event: Callable[[str, dict[str, Any], Done], None]) -> None:
        """Send it, if there is something to report.

        Args:
            send_event: sends an event to the master.
        """
        count = self._outbox.unreported
        if not count or self._on_its_way:
            return
        self._on_its_way = True

        def done(good: bool, _text: str) -> None:
            self._on_its_way = False
            if good:
                self._outbox.reported(count)

        send_event(self._tag, {"dropped": count, "spool_policy": DROP_OLDEST}, done)
