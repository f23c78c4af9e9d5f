"""How far a minion is with the exchange of its key, in what order, and what is still to be done.

Pure but for the key files, which `bus.keys.MinionKeys` has. The link says what it hears and asks
the master; from here it learns which key pair to use.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from bus.errors import ConfigError
from bus.keys import Keypair, MinionKeys, fingerprint
from bus.link.replies import NOT_CONNECTED, WENT_DOWN, OnReply

log = logging.getLogger(__name__)

REFUSED = "the master did not take the new key, which stays in minion.pem.new: "


class Rotation:
    """The exchange of one minion's key.

    Args:
        keys: the minion's key pairs.
        ask: asks the master.
        use: told the key pair with which to connect anew.

    Attributes:
        running: an exchange was asked for and is not over.
        finished: how many are over, well or not.
        error: why the last one did not succeed; empty if it did.
    """

    def __init__(
        self,
        keys: MinionKeys,
        *,
        ask: Callable[[Mapping[str, Any], OnReply], None],
        use: Callable[[Keypair], None],
    ) -> None:
        self._keys = keys
        self._ask = ask
        self._use = use
        self._tries_next = False
        self.running = False
        self.finished = 0
        self.error = ""

    @property
    def keypair(self) -> Keypair:
        """The key pair to connect with."""
        return (self._keys.next if self._tries_next else None) or self._keys.current

    def begin(self) -> int:
        """Propose another key pair to the master, unless an exchange runs.

        Returns:
            What `finished` will be when the exchange is over.

        Raises:
            ConfigError: the key pair cannot be made.
        """
        number = self.finished + 1
        if not self.running:
            self._propose()
        return number

    def _propose(self) -> None:
        pair = self._keys.prepare()
        self.running, self.error = True, ""
        self._ask({"rotate": pair.public}, self._answered)

    def _answered(self, _value: Any, error: str) -> None:
        """The master has taken the new key, or has refused it."""
        if error in (NOT_CONNECTED, WENT_DOWN):
            return  # nobody knows which key the master has: the next connection shows it
        if error:
            self._end(REFUSED + error)
            return
        self._adopt()
        self._use(self.keypair)

    def _is_unfinished(self) -> bool:
        """Say whether a new key waits that the master, which took the old one, cannot have."""
        return self._keys.next is not None and not self._tries_next

    def welcomed(self) -> None:
        """The master has accepted the key pair in use.

        What was begun before the link went down, or before the minion ended, goes on.
        """
        if self._tries_next:
            self._adopt()
        if not self._is_unfinished():
            if self.running:
                self._end("")
            return
        try:
            self._propose()
        except ConfigError as error:
            log.warning("%s", error)

    def denied(self) -> bool:
        """The master knows another key than the one in use; say whether the next one is tried.

        A minion that was killed, or did not hear the answer, does not know which one the master
        has, so that one is tried after the other.
        """
        if self._keys.next is None:
            return False
        self._tries_next = not self._tries_next
        self._use(self.keypair)
        return self._tries_next

    def known(self) -> None:
        """The master knows the key in use, though it may not be accepted."""
        if self._tries_next:
            self._adopt()

    def status(self) -> dict[str, Any]:
        """Return whether an exchange runs, how many are over, and the key in use."""
        return {
            "running": self.running,
            "finished": self.finished,
            "error": self.error,
            "finger": fingerprint(self.keypair.public),
        }

    def _adopt(self) -> None:
        try:
            self._keys.adopt()
        except ConfigError as error:
            log.warning("%s", error)
            return
        finally:
            self._tries_next = self._keys.next is not None
        log.info("the key of this minion is %s now", fingerprint(self._keys.current.public))

    def _end(self, error: str) -> None:
        if error:
            log.warning("%s", error)
        self.running, self.error = False, error
        self.finished += 1
