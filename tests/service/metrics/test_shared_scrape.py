"""Many scrapes at once: one rendering for all that wait, and each is told what was so after it asked."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from service.metrics.shared_scrape import SharedScrape

INTERVAL_S = 0.1


class Renderings:
    """Counts renderings; each takes as long as the test wants. Its clock stands unless someone sleeps."""

    def __init__(self) -> None:
        self.begun = 0
        self.now_s = 100.0
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def render(self) -> bytes:
        self.begun += 1
        number = self.begun
        await self.may_end.wait()
        return b"%d" % number

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        await asyncio.sleep(0)

    def scrape(self) -> SharedScrape:
        return SharedScrape(self.render, INTERVAL_S, lambda: self.now_s, self.sleep)


def run(scene: Callable[[Renderings], Awaitable[None]]) -> None:
    async def whole() -> None:
        await scene(Renderings())

    asyncio.run(asyncio.wait_for(whole(), 10))


def test_five_hundred_at_once_share_one_rendering() -> None:
    async def scene(renderings: Renderings) -> None:
        scrape = renderings.scrape()
        texts = await asyncio.gather(*(scrape.text() for _ in range(500)))
        assert texts == [b"1"] * 500
        assert (renderings.begun, renderings.now_s) == (1, 100.0)

    run(scene)


def test_those_that_come_during_a_rendering_share_the_next_one_some_time_later() -> None:
    async def scene(renderings: Renderings) -> None:
        scrape = renderings.scrape()
        renderings.may_end.clear()
        early = asyncio.create_task(scrape.text())
        while not renderings.begun:
            await asyncio.sleep(0)
        late = [asyncio.create_task(scrape.text()) for _ in range(500)]
        await asyncio.sleep(0)
        renderings.may_end.set()
        assert [await early, *{await one for one in late}] == [b"1", b"2"]
        assert renderings.begun == 2
        assert renderings.now_s == pytest.approx(100.0 + INTERVAL_S)

    run(scene)


def test_each_that_comes_after_the_other_gets_its_own_and_waits_only_if_it_comes_soon() -> None:
    async def scene(renderings: Renderings) -> None:
        scrape = renderings.scrape()
        assert await scrape.text() == b"1"
        renderings.now_s += 5
        assert await scrape.text() == b"2"
        assert renderings.now_s == 105
        assert await scrape.text() == b"3"
        assert renderings.now_s == pytest.approx(105 + INTERVAL_S)

    run(scene)


def test_a_scrape_that_is_given_up_does_not_take_the_others_along() -> None:
    async def scene(renderings: Renderings) -> None:
        scrape = renderings.scrape()
        renderings.may_end.clear()
        first, second = (asyncio.create_task(scrape.text()) for _ in range(2))
        while not renderings.begun:
            await asyncio.sleep(0)
        first.cancel()
        renderings.may_end.set()
        assert await second == b"1"

    run(scene)
