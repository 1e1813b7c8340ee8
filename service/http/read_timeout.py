"""The time that a client has for something."""

import asyncio
from collections.abc import Callable

LOOK_S = 0.01  # from a time's end to the word that it is over


class Clock:
    """Runs once at a time, and calls back when the time is over and the event loop has read what had come by then.

    A turn of the loop looks at its timers before it reads. After one that was long, or a process that stood still, what
    came in time would be called late.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def runs(self) -> bool:
        """Whether the time is not over yet."""
        return self._timer is not None

    def start(self, seconds: float, on_end: Callable[[], None]) -> None:
        """Call `on_end` after so long, unless stopped or started anew before."""
        self.stop()
        self._timer = self._loop.call_later(seconds, self._look, on_end)

    def stop(self) -> None:
        """Forget it."""
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _look(self, on_end: Callable[[], None]) -> None:
        self._timer = self._loop.call_later(LOOK_S, self._end, on_end)

    def _end(self, on_end: Callable[[], None]) -> None:
        self._timer = None
        on_end()
