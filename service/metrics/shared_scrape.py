"""One rendering for all that scrape at about the same time: many at once cost what one does."""

import asyncio
import time
from collections.abc import Awaitable, Callable


class SharedScrape:
    """Renders for all that asked before the rendering began: each is told counts from after it asked.

    One rendering at a time, each at least `interval_s` after the one before.
    """

    def __init__(
        self,
        render: Callable[[], Awaitable[bytes]],
        interval_s: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._render, self._interval_s, self._clock, self._sleep = render, interval_s, clock, sleep
        self._turn = asyncio.Lock()
        self._next: asyncio.Task[bytes] | None = None  # the rendering that has not begun
        self._due_s = 0.0

    async def text(self) -> bytes:
        """The text of a rendering that begins after this call."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._take_turn())
        return await asyncio.shield(self._next)

    async def _take_turn(self) -> bytes:
        async with self._turn:
            if (wait_s := self._due_s - self._clock()) > 0:
                await self._sleep(wait_s)
            self._next = None
            self._due_s = self._clock() + self._interval_s
            return await self._render()
