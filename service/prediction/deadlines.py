"""The deadlines of the requests that are under way, with one timer for all: nearly all end long before their own."""

import asyncio
import math
import time
from typing import Protocol

TIMER_ROUNDING_S = 0.0015  # added to timers: uvloop rounds them to whole milliseconds, up to 1.5 ms early


class Expiring(Protocol):
    """What has a deadline."""

    def expire(self) -> None:
        """The deadline has passed."""


class Deadlines:
    """Tells each request whose deadline passes. A timer for each would take 4 % of the CPU time of a request.

    Attributes:
        open: deadlines of the requests that are under way, ns of the monotonic clock.
        looks_ns: when the timer looks at them next; a request with an earlier deadline calls `look_at`.

    """

    def __init__(self) -> None:
        self.open: dict[Expiring, int] = {}
        self.looks_ns: float = math.inf
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def look_at(self, ns: int) -> None:
        """Have the timer look then."""
        if self._timer:
            self._timer.cancel()
        self.looks_ns = ns
        left_s = (ns - time.monotonic_ns()) / 1e9
        self._timer = self._loop.call_later(left_s + TIMER_ROUNDING_S, self._look)

    def _look(self) -> None:
        self.looks_ns, now_ns = math.inf, time.monotonic_ns()
        for late in [one for one, deadline_ns in self.open.items() if deadline_ns <= now_ns]:
            del self.open[late]
            self._loop.call_soon(late.expire)  # one that fails takes no other with it
        if self.open:
            self.look_at(min(self.open.values()))
