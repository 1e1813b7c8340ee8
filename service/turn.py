"""A turn of the event loop that ends in time, however much arrives in it."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

import structlog

log = structlog.get_logger()

MOST = 512  # pieces of data taken in a turn


class Turn:
    """What data is taken in this turn of the event loop, and what waits for one of the next.

    Predictions are decoded, and many of them answered, as their data is read. Among a thousand clients there are then
    always some with more to read, and libuv reads on: up to 48 times 1,024 sockets in one turn. Whatever needs a turn's
    end would wait for seconds: timers, newcomers, probes.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._taken = 0
        self._waiting: deque[tuple[asyncio.Transport, Callable[[bytes], None], bytes, int]] = deque()
        self.arrived_ns = 0
        """When the data arrived that is being taken, ns of the monotonic clock."""

    def has_room(self) -> bool:
        """Whether this turn takes what has just arrived; asked once for each piece of data."""
        self.arrived_ns = time.monotonic_ns()
        if not self._taken:
            self._loop.call_soon(self._end)
        self._taken += 1
        return self._taken <= MOST

    def put_off(self, transport: asyncio.Transport, take: Callable[[bytes], None], data: bytes) -> None:
        """Have `take` called with what has just arrived, in its order; until then nothing is read behind it."""
        transport.pause_reading()
        self._waiting.append((transport, take, data, self.arrived_ns))

    def _end(self) -> None:
        """The next turn begins, with what waits."""
        self._taken = min(MOST, len(self._waiting))
        if self._taken:
            self._loop.call_soon(self._end)
        for _ in range(self._taken):
            transport, take, data, self.arrived_ns = self._waiting.popleft()
            if not transport.is_closing():
                transport.resume_reading()
                _take(transport, take, data)


def _take(transport: asyncio.Transport, take: Callable[[bytes], None], data: bytes) -> None:
    """As the loop does it: what fails costs its own connection, and nobody else's."""
    try:
        take(data)
    except Exception:
        log.exception("connection failed")
        transport.abort()
