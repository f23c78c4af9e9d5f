"""Reasons that are put into words only when somebody reads them.

Most of what rules say about events is never read: a busy rule turns thousands of them away in a
second, and the trace keeps the newest. What a reason is made of is noted at once, and is small:
numbers, short texts, nothing that keeps an event.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Later:
    """A text that is made when it is asked for, by ``str()``.

    Args:
        make: makes the text.
        facts: what of; none of them may change meanwhile, or be large.
    """

    __slots__ = ("_facts", "_make")

    def __init__(self, make: Callable[..., str], *facts: Any) -> None:
        self._make = make
        self._facts = facts

    def __str__(self) -> str:
        return self._make(*self._facts)

    def __repr__(self) -> str:
        return f"Later({str(self)!r})"


Words = str | Later
"""What whoever shows it makes a text of, by ``str()``."""
