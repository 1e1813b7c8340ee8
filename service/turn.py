"""A turn of the event loop that ends in time, however much arrives in it."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

MOST_NS = 20_000_000


class Turn:
    """What data is taken in this turn of the event loop, and what waits for one of the next.

    Predictions are decoded, and many of them answered, as their data is read. Among a thousand clients there are then
    always some with more to read, and libuv reads on: up to 48 times 1,024 sockets in one turn. Whatever needs a turn's
    end would wait for seconds: timers, newcomers, probes.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ends_ns = 0  # of the monotonic clock; 0 between turns
        self._waiting: deque[tuple[asyncio.Transport, Callable[[bytes], None], bytes, int]] = deque()
        self.arrived_ns = 0
        """When the data arrived that is being taken, ns of the monotonic clock."""

    def has_time(self) -> bool:
        """Whether this turn takes what has just arrived."""
        self.arrived_ns = now = time.monotonic_ns()
        if not self._ends_ns:
            self._ends_ns = now + MOST_NS
            self._loop.call_soon(self._end)
        return now < self._ends_ns and not self._waiting

    def put_off(self, transport: asyncio.Transport, take: Callable[[bytes], None], data: bytes) -> None:
        """Have `take` called with what has just arrived, in its order; until then nothing is read behind it."""
        transport.pause_reading()
        self._waiting.append((transport, take, data, self.arrived_ns))

    def _end(self) -> None:
        """The next turn begins, with what waits."""
        self._ends_ns = 0
        if not self._waiting:
            return
        ends_ns = time.monotonic_ns() + MOST_NS
        while self._waiting and time.monotonic_ns() < ends_ns:
            transport, take, data, self.arrived_ns = self._waiting.popleft()
            if not transport.is_closing():
                transport.resume_reading()
                take(data)
        self._ends_ns = ends_ns
        self._loop.call_soon(self._end)
