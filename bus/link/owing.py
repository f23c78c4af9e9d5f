"""Which minion owes which return, and which of them will never come. Pure.

A minion that is killed says nothing. That it is gone shows when another process of it says hello,
or when it stays away; whoever waits for its returns is to know at once.

A connection that failed may have taken jobs with it. When the same process says hello again, nobody
can know which, so it is to be sent again what it owes; it knows what it has, and runs it once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container
from typing import NamedTuple

from bus.calls import Fun

AWAY_SECONDS = 15.0
"""How long a minion may be gone before what it owes is given up: longer than it needs to find out
that a connection is gone, and to come back on another."""

MAX_OWING = 100_000

RESTARTED = "the minion went away while the job was with it, and another process of it came back"
STAYED_AWAY = f"the minion went away and did not come back within {AWAY_SECONDS:g} seconds"


class Lost(NamedTuple):
    """A return that will not come from the process that the job was sent to.

    Attributes:
        jid: of the job.
        id: of the minion.
        fun: the job's function, or several.
        reason: in words.
    """

    jid: str
    id: str
    fun: Fun
    reason: str


class Owing:
    """Keeps the jobs that were sent and have not returned, the newest `MAX_OWING` of them."""

    def __init__(self, limit: int = MAX_OWING) -> None:
        self._limit = limit
        self._sent: OrderedDict[tuple[str, str], tuple[Fun, bytes]] = OrderedDict()
        self._by_minion: dict[str, dict[str, None]] = {}
        self._away_since: dict[str, float] = {}
        self._unsure: dict[str, list[str]] = {}

    def __len__(self) -> int:
        return len(self._sent)

    @property
    def minions(self) -> list[str]:
        """The ids of those that owe something."""
        return list(self._by_minion)

    @property
    def jobs(self) -> set[str]:
        """The ids of the jobs that are owed."""
        return {jid for jid, _ident in self._sent}

    def sent(self, jid: str, fun: Fun, ident: str, run: bytes) -> None:
        """A job went out.

        Args:
            jid: its id.
            fun: its function, or several.
            ident: the minion.
            run: which process of the minion it went to.
        """
        self._sent[jid, ident] = (fun, run)
        self._by_minion.setdefault(ident, {})[jid] = None
        if len(self._sent) > self._limit:
            self.returned(*next(iter(self._sent)))

    def returned(self, jid: str, ident: str) -> None:
        """A return came; of a job that is not known, nothing happens."""
        if self._sent.pop((jid, ident), None) is None:
            return
        jids = self._by_minion[ident]
        del jids[jid]
        if not jids:
            del self._by_minion[ident]
            self._away_since.pop(ident, None)

    def greeted(self, ident: str, run: bytes) -> list[Lost]:
        """A minion said hello: return what it owes from another process than this one."""
        self._away_since.pop(ident, None)
        jids = self._by_minion.get(ident, {})
        lost = [jid for jid in jids if self._sent[jid, ident][1] != run]
        given_up = [self._give_up(jid, ident, RESTARTED) for jid in lost]
        if ident in self._by_minion:
            self._unsure[ident] = list(self._by_minion[ident])
        return given_up

    def unsure(self, most: int) -> dict[str, list[str]]:
        """Return what minions are to be sent again since they said hello, once.

        Args:
            most: of one minion's at once; the rest comes next time.
        """
        found = {}
        for ident, jids in list(self._unsure.items()):
            head, self._unsure[ident] = jids[:most], jids[most:]
            found[ident] = [jid for jid in head if (jid, ident) in self._sent]
            if not self._unsure[ident]:
                del self._unsure[ident]
        return {ident: jids for ident, jids in found.items() if jids}

    def look(self, connected: Container[str], now: float) -> list[Lost]:
        """Return what is given up, since the minions that owe it have stayed away.

        Args:
            connected: the ids of those that are connected.
            now: seconds, monotonic.
        """
        lost: list[Lost] = []
        for ident in self.minions:
            if ident in connected:
                self._away_since.pop(ident, None)
            elif now - self._away_since.setdefault(ident, now) >= AWAY_SECONDS:
                jids = list(self._by_minion[ident])
                lost += [self._give_up(jid, ident, STAYED_AWAY) for jid in jids]
        return lost

    def _give_up(self, jid: str, ident: str, reason: str) -> Lost:
        fun, _run = self._sent[jid, ident]
        self.returned(jid, ident)
        return Lost(jid, ident, fun, reason)
