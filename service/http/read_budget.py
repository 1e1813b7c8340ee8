"""A turn of the event loop that ends in time, however much arrives in it."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

import structlog

log = structlog.get_logger()

MOST_NS = 50_000_000  # of the time between two turns, for taking data
MOST_BYTES = 16 << 20  # that wait; beyond it turns are longer


class Turn:
    """What data is taken in this turn of the event loop, and what waits for one of the next.

    Predictions are decoded, and many of them answered, as their data is read. Among a thousand clients there are then
    always some with more to read, and libuv reads on: up to 48 times 1,024 sockets in one turn. Whatever needs a turn's
    end would wait for seconds: timers, newcomers, probes.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ends_ns = 0  # 0 before the first data of a turn
        self._waiting: deque[tuple[asyncio.Transport, Callable[[bytes], None], bytes, int]] = deque()
        self._waiting_bytes = 0
        self.arrived_ns = 0
        """When the data arrived that is being taken, ns of the monotonic clock."""

    def note_arrival(self) -> None:
        """Data has just arrived."""
        self.arrived_ns = time.monotonic_ns()
        if not self._ends_ns:
            self._begin(self.arrived_ns)

    @property
    def has_time(self) -> bool:
        """Whether this turn takes what has just arrived."""
        return self.arrived_ns < self._ends_ns and not self._waiting

    def put_off(self, transport: asyncio.Transport, take: Callable[[bytes], None], data: bytes) -> None:
        """Have `take` called with what has just arrived, in its order; until then nothing is read behind it."""
        transport.pause_reading()
        self._waiting.append((transport, take, data, self.arrived_ns))
        self._waiting_bytes += len(data)
        while self._waiting_bytes > MOST_BYTES:
            self._take_first()

    def _begin(self, now_ns: int) -> None:
        self._ends_ns = now_ns + MOST_NS
        self._loop.call_soon(self._end)

    def _end(self) -> None:
        """The next turn begins, with what waits."""
        self._ends_ns = 0
        if self._waiting:
            self._begin(time.monotonic_ns())
        while self._waiting and time.monotonic_ns() < self._ends_ns:
            self._take_first()

    def _take_first(self) -> None:
        """As the loop does it: what fails costs its own connection, and nobody else's."""
        transport, take, data, self.arrived_ns = self._waiting.popleft()
        self._waiting_bytes -= len(data)
        if transport.is_closing():
            return
        transport.resume_reading()
        try:
            take(data)
        except Exception:
            log.exception("connection failed")
            transport.abort()
