"""Looks whether the first of several masters is there again, while another one serves."""

from __future__ import annotations

from bus.errors import NotRunningError
from bus.link.firstcontact import Question
from bus.link.trust import Address


class Failback:
    """Asks the first master for its key now and then, as at a first contact, and by UDP.

    Args:
        first: the master to go back to.
        seconds: between two questions; 0 never to go back.
    """

    def __init__(self, first: Address, seconds: float) -> None:
        self._first = first
        self._seconds = seconds
        self._question: Question | None = None
        self._due = 0.0

    def begin(self, now: float) -> None:
        """Another master serves from now on."""
        self.end()
        self._due = now + self._seconds

    def is_back(self, now: float, key: bytes | None) -> bool:
        """Say whether the first master has answered.

        Args:
            now: seconds that never run backwards.
            key: that it has to have; an answer with another one counts for nothing.
        """
        if not self._seconds:
            return False
        if self._question is not None and key is not None and self._question.poll() == key:
            self.end()
            return True
        if now >= self._due:
            self._due = now + self._seconds
            self._ask()
        return False

    def _ask(self) -> None:
        """Ask; each time anew, since the name may mean another address by now."""
        self.end()
        try:
            self._question = Question(self._first.host, self._first.port)
        except NotRunningError:
            return
        self._question.send()

    def end(self) -> None:
        """Stop asking."""
        if self._question is not None:
            self._question.close()
            self._question = None
