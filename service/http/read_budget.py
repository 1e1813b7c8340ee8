"""A bound on the time that one turn of the event loop spends on reading, however much arrives in it."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import structlog

from service.policy import NEWEST_PER_LATE, TURN_NS, WAITING_BYTES

log = structlog.get_logger()


class _Waiting(NamedTuple):
    """Data for another turn of the loop."""

    transport: asyncio.Transport
    take: Callable[[bytes], None]
    data: bytes
    arrived_ns: int
    is_paused: bool


class ReadBudget:
    """Which data is taken in this turn of the event loop, and which waits for one of the next.

    Predictions are decoded, and many of them answered, as their data is read. Among a thousand clients some always have
    more to read, and libuv reads on: up to 48 times 1,024 sockets in one turn. Everything that needs a turn's end would
    wait for seconds: timers, new connections, probes.

    What waits is taken in its order, until that comes too late: if all has lain for longer than its clients wait, each
    is read in vain. So behind one that was refused for that, the newest come first, which are in time.
    """

    def __init__(self, count_late: Callable[[], int]) -> None:
        """`count_late`: how many requests have been refused up to now because they had lain for too long."""
        self._loop = asyncio.get_running_loop()
        self._ends_ns = 0  # 0 before the first data of a turn
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._count_late = count_late
        self._newest_due = 0  # how many of the newest come before the oldest
        self.arrived_ns = 0
        """When the data arrived that is being taken, ns of the monotonic clock."""

    def note_arrival(self) -> bool:
        """Data has just arrived: whether this turn takes it."""
        self.arrived_ns = now_ns = time.monotonic_ns()
        if not self._ends_ns:
            self._begin(now_ns)
        return now_ns < self._ends_ns and not self._waiting

    @property
    def has_time(self) -> bool:
        """Whether this turn goes on."""
        return time.monotonic_ns() < self._ends_ns

    def defer(
        self, transport: asyncio.Transport, take: Callable[[bytes], None], data: bytes, *, pause: bool = False
    ) -> None:
        """Have `take` called with what has just arrived, in its order; with `pause` nothing is read until then."""
        if pause:
            transport.pause_reading()
        self._waiting.append(_Waiting(transport, take, data, self.arrived_ns, pause))
        self._waiting_bytes += len(data)
        while self._waiting_bytes > WAITING_BYTES:
            self._take_next()

    def put_back(self, transport: asyncio.Transport, take: Callable[[bytes], None], rest: bytes) -> None:
        """Have `take` called with the rest of what is being taken, or was held back till now, before all that waits."""
        if not self._ends_ns:
            self.arrived_ns = time.monotonic_ns()
            self._begin(self.arrived_ns)
        self._waiting.appendleft(_Waiting(transport, take, rest, self.arrived_ns, is_paused=False))
        self._waiting_bytes += len(rest)

    def _begin(self, now_ns: int) -> None:
        self._ends_ns = now_ns + TURN_NS
        self._loop.call_soon(self._end)

    def _end(self) -> None:
        """The next turn begins, with what waits."""
        self._ends_ns = 0
        if self._waiting:
            self._begin(time.monotonic_ns())
        while self._waiting and time.monotonic_ns() < self._ends_ns:
            self._take_next()

    def _take_next(self) -> None:
        """Take the oldest data or the newest; as in the loop itself, what fails costs its own connection alone."""
        late = self._count_late()
        # Where reading has paused, older data of the connection may wait.
        takes_newest = self._newest_due > 0 and not self._waiting[-1].is_paused
        self._newest_due -= takes_newest
        waiting = self._waiting.pop() if takes_newest else self._waiting.popleft()
        transport, take, data, self.arrived_ns, is_paused = waiting
        self._waiting_bytes -= len(data)
        if transport.is_closing():
            return
        if is_paused:
            transport.resume_reading()
        try:
            take(data)
        except Exception:
            log.exception("connection failed")
            transport.abort()
        if not takes_newest and self._count_late() > late:
            self._newest_due = NEWEST_PER_LATE
