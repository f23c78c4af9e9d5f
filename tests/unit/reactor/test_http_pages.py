"""Pages of the journal that several streams ask for."""

import asyncio

import pytest

from reactor.http.pages import Pages


class _Source:
    """Reads when it is let."""

    def __init__(self):
        self.asked = []
        self.go = asyncio.Event()
        self.error = None

    async def read(self, seq):
        self.asked.append(seq)
        await self.go.wait()
        if self.error:
            raise self.error
        return f"page {seq}"


def _run(test, whole=lambda _page: True):
    async def main():
        source = _Source()
        await test(source, Pages(source.read, whole, 2))

    asyncio.run(main())


def test_who_asks_together_waits_together():
    """One reading for all of them, and for who comes later."""

    async def test(source, pages):
        asking = [asyncio.ensure_future(pages.get(5)) for _ in range(3)]
        await asyncio.sleep(0)
        source.go.set()
        assert await asyncio.gather(*asking) == ["page 5"] * 3
        assert await pages.get(5) == "page 5"
        assert source.asked == [5]

    _run(test)


def test_who_goes_away_leaves_it_to_others():
    """Whoever asked first."""

    async def test(source, pages):
        first, second = (asyncio.ensure_future(pages.get(5)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        source.go.set()
        assert await second == "page 5"
        assert source.asked == [5]

    _run(test)


def test_the_last_page_is_read_again():
    """It may have grown."""

    async def test(source, pages):
        source.go.set()
        await pages.get(5)
        await pages.get(5)
        assert source.asked == [5, 5]

    _run(test, whole=lambda _page: False)


def test_an_error_is_not_kept():
    """All who waited are told, and the next one has it read again."""

    async def test(source, pages):
        source.error = OSError("no journal")
        source.go.set()
        told = await asyncio.gather(pages.get(5), pages.get(5), return_exceptions=True)
        assert [str(each) for each in told] == ["no journal"] * 2
        source.error = None
        assert await pages.get(5) == "page 5"
        assert source.asked == [5, 5]

    _run(test)


def test_few_are_kept():
    """Those that were asked for last; none after `clear`."""

    async def test(source, pages):
        source.go.set()
        for seq in (1, 2, 1, 3, 1, 2):
            await pages.get(seq)
        assert source.asked == [1, 2, 3, 2]
        pages.clear()
        await pages.get(2)
        assert source.asked == [1, 2, 3, 2, 2]

    _run(test)
