"""Which minions are accepted or rejected without anybody being asked: the lists. Pure.

A list has one entry a line: an id, a glob or a full regular expression, and if wanted the
fingerprint that the key must have. What follows a ``#`` at the beginning of a word is a comment.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass

from bus.errors import KeyStateError
from bus.keys import key_from_fingerprint

ACCEPT = "accept"
REJECT = "reject"
ASK = "ask"

_ONLY_IN_EXPRESSIONS = frozenset("\\(){}|+^$")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a list.

    Attributes:
        text: what the id is compared with.
        expression: ``text`` as a regular expression, if it is one.
        key: the key that the minion must have, in Z85; None for any.
    """

    text: str
    expression: re.Pattern[str] | None
    key: bytes | None

    def matches(self, ident: str, public: bytes) -> bool:
        """Say whether a minion's id and key are meant."""
        return (self.key is None or self.key == public) and self._matches_id(ident)

    def _matches_id(self, ident: str) -> bool:
        if ident == self.text or fnmatch.fnmatchcase(ident, self.text):
            return True
        return self.expression is not None and self.expression.fullmatch(ident) is not None


@dataclass(frozen=True, slots=True)
class Problem:
    """A line that is no entry.

    Attributes:
        line: its number, from 1.
        text: what is wrong and what to do.
    """

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Entries:
    """What a list says, and which of its lines say nothing."""

    entries: tuple[Entry, ...] = ()
    problems: tuple[Problem, ...] = ()

    def match(self, ident: str, public: bytes) -> bool:
        """Say whether one of the entries means this id with this key."""
        return any(entry.matches(ident, public) for entry in self.entries)


def parse(content: bytes) -> Entries:
    """Return the entries of a list; a bad line is a problem, and the others still count."""
    entries: list[Entry] = []
    problems: list[Problem] = []
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        try:
            words = _words(line)
            if words:
                entries.append(_entry(words))
        except KeyStateError as error:
            problems.append(Problem(number, str(error)))
    return Entries(tuple(entries), tuple(problems))


def _words(line: bytes) -> list[str]:
    try:
        words = line.decode().split()
    except UnicodeDecodeError as error:
        raise KeyStateError("this line is not UTF-8: save the file as UTF-8") from error
    comment = next((at for at, word in enumerate(words) if word.startswith("#")), len(words))
    return words[:comment]


def _entry(words: list[str]) -> Entry:
    if len(words) > 2:
        raise KeyStateError(
            f"{len(words)} words: write an id, a glob or a regular expression, and at most the "
            "fingerprint after it"
        )
    key = key_from_fingerprint(words[1]) if len(words) == 2 else None
    return Entry(words[0], _expression(words[0]), key)


def _expression(text: str) -> re.Pattern[str] | None:
    """Return a regular expression, or None if the text can only be meant as an id or a glob.

    Raises:
        KeyStateError: it can only be meant as a regular expression, and is none.
    """
    try:
        return re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        if _ONLY_IN_EXPRESSIONS.isdisjoint(text):
            return None
        raise KeyStateError(f"{text[:200]!r} is no regular expression: {error}") from error


def decide(
    ident: str, public: bytes, *, sign: Entries | None, reject: Entries | None, accept_all: bool
) -> str:
    """Return what becomes of a key that nobody has decided on: reject beats accept.

    Args:
        ident: of the minion, as it says.
        public: the key that it has proved, in Z85.
        sign: who is accepted; None if the list cannot be trusted.
        reject: who is rejected; None if the list cannot be trusted.
        accept_all: the option ``auto_accept``.

    Returns:
        ``accept``, ``reject`` or ``ask``: somebody has to decide.
    """
    if reject is None:
        # Somebody wrote down who must not get in, and it cannot be read: let nobody in unseen.
        return ASK
    if reject.match(ident, public):
        return REJECT
    return ACCEPT if accept_all or (sign or Entries()).match(ident, public) else ASK
