"""The way of a minion to a master: whom it tries, by which key, until a connection proves it."""

from __future__ import annotations

import logging
from collections.abc import Callable

import zmq

from bus.errors import BusError, NotRunningError
from bus.keys import Keypair, fingerprint
from bus.link import vigil
from bus.link.connection import Connection
from bus.link.failback import Failback
from bus.link.firstcontact import Question
from bus.link.handover import HandoverQuestion
from bus.link.trust import Address, Trust
from bus.link.turns import ASK_SUCCESSOR, NEXT_KEY, Turns

log = logging.getLogger(__name__)

SEEKING = "seeking"
OPENED = "opened"
ASTRAY = "astray"

ERROR_DELAY = 30.0
NEXT_KEY_DELAY = 0.1
HANDOVER_SECONDS = 2.0
"""How long to ask a master that proves none of the keys that we know for the one after them."""
FIRST_QUESTION_DELAY = 0.3
LAST_QUESTION_DELAY = 5.0


class Seeker:
    """Opens the connection to a master, and knows whether the master has proved its key.

    Args:
        turns: the masters.
        trust: their keys.
        failback: looks for the first of them.
        connection: what to open; nobody else opens or shuts it.
        warn: says what is wrong, once.
        spread: varies a pause.
        now: seconds that never run backwards.

    Attributes:
        due: when to call `tick` again, unless `is_asking`.
    """

    def __init__(
        self,
        turns: Turns,
        trust: Trust,
        failback: Failback,
        connection: Connection,
        *,
        warn: Callable[[str], None],
        spread: Callable[[float], float],
        now: float,
    ) -> None:
        self._turns = turns
        self._trust = trust
        self._failback = failback
        self._connection = connection
        self._warn = warn
        self._spread = spread
        self._question: Question | None = None
        self._asked_since = now
        self._unproven: bytes | None = None
        self._server_key = b""
        self.due = now
        self._delay = FIRST_QUESTION_DELAY
        self._obstacle = (self.master.name, "no connection")

    # -- what there is to know ------------------------------------------------------------

    @property
    def master(self) -> Address:
        """The master that is tried or connected now."""
        return self._turns.master

    @property
    def is_asking(self) -> bool:
        """Whether a master is being asked for its key, and the answer to be looked for."""
        return self._question is not None

    @property
    def has_alternative(self) -> bool:
        """Whether there is something else to try: another master, or to ask for the key again."""
        return self._turns.has_others or self._unproven is not None

    @property
    def whereabouts(self) -> tuple[str, str]:
        """Where the master should be, and what is known of why it is not."""
        if self._question is not None:
            return self.master.name, "no answer to the question for its key, by UDP on that port"
        if self._connection.is_open:
            return self.master.name, self._connection.lacks
        return self._obstacle

    # -- until there is a connection ------------------------------------------------------

    def tick(self, now: float) -> str:
        """Go on, while no connection is open.

        Returns:
            `OPENED` once there is one; `ASTRAY` if the master's key cannot be the right one,
            whatever it proves; else `SEEKING`.
        """
        try:
            return self._ask_on(self._question, now) if self._question else self._begin(now)
        except (BusError, zmq.ZMQError) as error:
            return self._stay_away(error, now)

    def _begin(self, now: float) -> str:
        """Connect to the master whose turn it is, or ask for its key first."""
        if now < self.due:
            return SEEKING
        self._obstacle = (self.master.name, "no connection")
        keys = self._trust.keys()
        if keys:
            return self._connect(self._turns.key(keys))
        self._start_asking(now, Question(self.master.host, self.master.port))
        return SEEKING

    def _stay_away(self, error: Exception, now: float) -> str:
        """Nothing is sent to a master that is not the right one, or that cannot be found."""
        if isinstance(error, NotRunningError | zmq.ZMQError):
            self._obstacle = (self.master.name, str(error))
            self._turns.next_master()
            self.due = now + self._spread(vigil.FAILOVER_SECONDS)
            return SEEKING
        self._warn(str(error))
        self.due = now + ERROR_DELAY
        return ASTRAY

    def _connect(self, key: bytes) -> str:
        self._server_key = key
        self._connection.open(self.master, key)
        return OPENED

    def _start_asking(self, now: float, question: Question) -> None:
        self._question, self._asked_since = question, now
        self._delay = FIRST_QUESTION_DELAY
        self.due = now

    def _ask_on(self, question: Question, now: float) -> str:
        key = question.poll()
        if isinstance(question, HandoverQuestion):
            return self._ask_for_next(question, key, now)
        if key is not None:
            self._stop_asking()
            self._unproven = key
            return self._connect(key)
        if self._turns.has_others and now - self._asked_since > vigil.FAILOVER_SECONDS:
            self._stop_asking()
            self._turns.next_master()
            self.due = now
        else:
            self._ask_again(question, now)
        return SEEKING

    def _ask_for_next(self, question: HandoverQuestion, key: bytes | None, now: float) -> str:
        if key is not None:
            self._stop_asking()
            log.info("the master's key %s is followed by another", fingerprint(question.answered))
            self._trust.hand_over(question.answered, [key])
            self._turns.proved()
            return self._connect(key)
        if now - self._asked_since > HANDOVER_SECONDS:
            self._stop_asking()
            self._refused_by_all(now)
        else:
            self._ask_again(question, now)
        return SEEKING

    def _ask_again(self, question: Question, now: float) -> None:
        if now >= self.due:
            question.send()
            self.due = now + self._spread(self._delay)
            self._delay = min(self._delay * 2, LAST_QUESTION_DELAY)

    def _stop_asking(self) -> None:
        if self._question is not None:
            self._question.close()
            self._question = None

    # -- what becomes of the connection ---------------------------------------------------

    def proved(self) -> None:
        """The handshake is over, so the master has the secret of the key that we know it by."""
        self._turns.proved()
        key, self._unproven = self._unproven, None
        try:
            if key is not None:
                log.info("the master's key %s is new here and pinned from now on", fingerprint(key))
                self._trust.pin(key)
            elif self._trust.proved(self._server_key):
                # A successor: the one to begin with from now on.
                log.info("the master's key is %s now", fingerprint(self._server_key))
        except BusError as error:
            self._warn(str(error))

    def refused(self, now: float) -> None:
        """The master does not prove the key that we know it by: try others, then ask for one."""
        try:
            self._refused(now)
        except BusError as error:
            self._warn(str(error))

    def _refused(self, now: float) -> None:
        known = self._trust.keys()
        step = self._turns.refused(len(known), now)
        if step == NEXT_KEY:
            self._connection.shut()
            self.due = now + self._spread(NEXT_KEY_DELAY)
        elif step == ASK_SUCCESSOR:
            self._connection.shut()
            host, port, pair = self.master.host, self.master.port, self._connection.keypair
            self._start_asking(now, HandoverQuestion(host, port, pair, known))
        else:
            self._refused_by_all(now)

    def _refused_by_all(self, now: float) -> None:
        self._warn(
            f"the master {self.master.host} port {self.master.port} does not prove the "
            f"key that is expected: {self._trust.advice}"
        )
        pause = self._turns.refused_by_all()
        if pause is not None:
            self._connection.shut()
            self.due = now + pause

    def welcomed(self, now: float) -> None:
        """The master has let us in."""
        self._failback.begin(now)

    def keep_next_keys(self, keys: list[bytes]) -> bool:
        """Keep, durably, the keys that the connected master vouches for; return whether they are.

        One that has not proved its own key yet vouches for nothing.
        """
        if self._unproven is not None:
            return False
        try:
            self._trust.hand_over(self._server_key, keys)
        except BusError as error:
            self._warn(str(error))
            return False
        return True

    def first_is_back(self, now: float) -> bool:
        """Say whether another master than the first serves, and the first answers again."""
        return self._turns.is_elsewhere and self._failback.is_back(now, self._server_key)

    # -- beginning again ------------------------------------------------------------------

    def leave(self, now: float) -> None:
        """Begin again, with the next master and a fresh look at its key."""
        self._shut(now)
        self._turns.next_master()

    def go_back(self, now: float) -> None:
        """Begin again, with the first master."""
        log.info("the master %s is there again: going back to it", self._turns.first.name)
        self._shut(now)
        self._turns.go_back()

    def use(self, keypair: Keypair, now: float) -> None:
        """Begin again, with another key pair of the minion's."""
        self._shut(now)
        self._connection.use(keypair)

    def _shut(self, now: float) -> None:
        self._connection.shut()
        self._unproven = None
        self.due = now

    def close(self) -> None:
        """Stop asking."""
        self._stop_asking()
        self._failback.end()
