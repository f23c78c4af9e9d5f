"""The states of a link, and what a minion makes of the one that its master tells it. Pure."""

from __future__ import annotations

from typing import NamedTuple

from bus.keys import ACCEPTED, DENIED, PENDING, REJECTED, UNKNOWN
from bus.link.protocol import DELETED

CONNECTING = "connecting"
CONNECTED = "connected"
ERROR = "error"


class Standing(NamedTuple):
    """What follows from a state that was told.

    Attributes:
        enters: the state of the link from now on.
        waits: whether somebody has to decide first; else hello is said again soon.
        words: what to say of the minion's key; empty for nothing.
    """

    enters: str
    waits: bool
    words: str


STANDINGS = {
    UNKNOWN: Standing(CONNECTING, False, ""),
    ACCEPTED: Standing(CONNECTING, False, ""),
    PENDING: Standing(PENDING, True, "waits for 'reactor key accept' on the master"),
    REJECTED: Standing(REJECTED, True, "is rejected by the master"),
    DENIED: Standing(DENIED, True, "is denied: the master knows this id with another key"),
    DELETED: Standing(CONNECTING, True, "was deleted on the master: it asks to be accepted anew"),
}
"""For each state that a master tells (`bus.link.protocol.State`)."""
