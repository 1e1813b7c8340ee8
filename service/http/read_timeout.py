"""The time that a client has for something."""

import asyncio
from collections.abc import Callable

from service.policy import GRACE_LOOK_S


class ReadTimeout:
    """Calls back when the time is over and the event loop has read what had come by then.

    A turn of the loop looks at its timers before it reads. After a long turn, or when the process stood still, data
    that came in time would count as late.
    """

    __slots__ = ("_loop", "_timer", "runs")

    def __init__(self) -> None:
        self.runs = False
        """Whether there is a time that is not over yet."""
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def start(self, seconds: float, on_end: Callable[[], None]) -> None:
        """Call `on_end` after so long, unless stopped or started anew before."""
        self.stop()
        self.runs = True
        self._timer = self._loop.call_later(seconds, self._look, on_end)

    def stop(self) -> None:
        """Forget it."""
        self.runs = False
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _look(self, on_end: Callable[[], None]) -> None:
        self._timer = self._loop.call_later(GRACE_LOOK_S, self._end, on_end)

    def _end(self, on_end: Callable[[], None]) -> None:
        self.stop()
        on_end()
