"""Calls back whoever has not ended by its deadline, with one timer for all whose deadlines are close together."""

import asyncio
import time
from collections.abc import Callable

import structlog

log = structlog.get_logger()

TICK_NS = 2_000_000  # a call is made at the end of the tick that its deadline falls into
ROUNDING_S = 0.0005  # uvloop takes whole milliseconds: no call is made before its deadline

Call = Callable[[], None]


class Deadlines:
    """The deadlines of one event loop's requests; nearly all of them end before, so setting one must cost little."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        # By tick, the multiple of TICK_NS that follows the deadline.
        self._calls: dict[int, tuple[set[Call], asyncio.TimerHandle]] = {}

    def add(self, deadline_ns: int, call: Call) -> int:
        """Have `call` called once the monotonic clock has passed the deadline; returns what `remove` needs."""
        tick = deadline_ns // TICK_NS + 1
        if known := self._calls.get(tick):
            known[0].add(call)
        else:
            left_s = (tick * TICK_NS - time.monotonic_ns()) / 1e9 + ROUNDING_S
            self._calls[tick] = {call}, self._loop.call_later(left_s, self._end, tick)
        return tick

    def remove(self, tick: int, call: Call) -> None:
        """Forget a call, if it has not been made; the last of its tick stops the timer."""
        if known := self._calls.get(tick):
            calls, timer = known
            calls.discard(call)
            if not calls:
                timer.cancel()
                del self._calls[tick]

    def _end(self, tick: int) -> None:
        calls, _ = entry = self._calls[tick]
        while calls:  # one may remove another
            call = calls.pop()
            try:
                call()
            except Exception:
                log.exception("deadline failed")
        if self._calls.get(tick) is entry:
            del self._calls[tick]
