"""What was read from the journal last: streams that are behind are so at the same places."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Pages(Generic[T]):
    """Reads each page once for all who ask for it at about the same time. Of one loop.

    Args:
        read: reads the page behind a number.
        is_whole: says whether a page will be the same when it is read again: one at the end of
            the journal grows.
        most: pages that are kept.
    """

    def __init__(
        self, read: Callable[[int], Awaitable[T]], is_whole: Callable[[T], bool], most: int
    ) -> None:
        self._read = read
        self._is_whole = is_whole
        self._most = most
        self._kept: OrderedDict[int, asyncio.Future[T]] = OrderedDict()

    async def get(self, seq: int) -> T:
        """Return the page behind ``seq``.

        Raises:
            Exception: what ``read`` raises; the next who asks has it read again.
        """
        reading = self._kept.get(seq)
        if reading is None:
            reading = self._kept[seq] = asyncio.ensure_future(self._read(seq))
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        try:
            # One who goes away leaves the page to the others who wait for it.
            page = await asyncio.shield(reading)
        except BaseException:  # a failed reading is not kept; a cancelled wait leaves it to others
            if reading.done():
                self._forget(seq, reading)
            raise
        if self._is_whole(page):
            if self._kept.get(seq) is reading:
                self._kept.move_to_end(seq)
        else:
            self._forget(seq, reading)
        return page

    def clear(self) -> None:
        """Forget all pages: numbers mean other events from now on, or nobody asks any more."""
        self._kept.clear()

    def _forget(self, seq: int, reading: asyncio.Future[T]) -> None:
        if self._kept.get(seq) is reading:
            del self._kept[seq]
