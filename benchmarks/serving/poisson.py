"""Open-loop load: requests are sent when a Poisson process says so, however slowly the server answers.

A closed loop waits for answers before it asks again, and so goes easy on a server that is slow. Here each latency
counts from the moment that its request was due. Bounded in number and in time, and for 127.0.0.1 only.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import httptools
import numpy as np
import uvloop
from numpy.typing import NDArray

HOST = "127.0.0.1"
MAX_REQUESTS = 2_000_000
MAX_CONNECTIONS = 8_192
BROKEN, UNANSWERED, NOT_SENT = 1, 2, 3  # values of `status` without an HTTP status
OK, REFUSED = 200, (503, 429)  # mosec refuses with 429
PROBE_EVERY_S = 0.2
MAX_LATE_S = 1.0  # a request that cannot be sent within this time is not sent at all


@dataclass(frozen=True, slots=True)
class Ledger:
    """What became of each request; times in seconds from the first moment of the load, nan where there is none."""

    due: NDArray[np.float64]
    sent: NDArray[np.float64]
    done: NDArray[np.float64]
    status: NDArray[np.int64]
    """HTTP status, or BROKEN, UNANSWERED (when time was up), NOT_SENT (no connection to be had, or far too late)."""
    retry_after: NDArray[np.bool_]

    @property
    def latency(self) -> NDArray[np.float64]:
        """From when a request was due until its answer was complete."""
        return self.done - self.due


@dataclass(frozen=True, slots=True)
class Outcome:
    """The ledger of the load, and for each probe its path with the ledger of its requests."""

    load: Ledger
    probes: dict[str, Ledger]


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What is sent, and when, in seconds."""

    message: bytes
    due: NDArray[np.float64]


def poisson_times(rate: float, seconds: float, seed: int) -> NDArray[np.float64]:
    """Moments of a Poisson process of so many events a second."""
    if rate * seconds > MAX_REQUESTS:
        raise ValueError(f"{rate:.0f} requests/s for {seconds:.0f} s are over {MAX_REQUESTS} requests")
    random = np.random.default_rng(seed)
    expected = rate * seconds
    gaps = random.exponential(1 / rate, size=int(expected + 6 * expected**0.5 + 10))
    times = np.cumsum(gaps)
    return times[times < seconds]


def http_message(method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """A whole HTTP/1.1 request."""
    fields = {"Host": HOST, **headers, "Content-Length": str(len(body))}
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return head.encode() + b"\r\n" + body


def run(port: int, load: Arrivals, probe_paths: Sequence[str], grace_s: float) -> Outcome:
    """Send a load, and meanwhile GET each probe path now and then; wait at most `grace_s` for the last answers."""
    end = float(load.due[-1])
    ticks = np.arange(0.0, end, PROBE_EVERY_S)
    schedules = [load, *(Arrivals(http_message("GET", path, {}), ticks) for path in probe_paths)]

    async def all_of_them() -> list[Ledger]:
        began = time.perf_counter()
        senders = [Sender(port, schedule, began) for schedule in schedules]
        return await asyncio.gather(*(sender.run(end + grace_s) for sender in senders))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        ledger, *probes = runner.run(all_of_them())
    return Outcome(ledger, dict(zip(probe_paths, probes, strict=True)))


class Sender:
    """Keeps one schedule; takes an idle connection for each request, or opens one."""

    def __init__(self, port: int, schedule: Arrivals, began: float) -> None:
        self._port, self._schedule, self._began = port, schedule, began
        self._loop = asyncio.get_running_loop()
        n = len(schedule.due)
        self._sent, self._done = np.full(n, np.nan), np.full(n, np.nan)
        self._status, self._retry_after = np.full(n, UNANSWERED), np.zeros(n, bool)
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._left = n
        self._all_ended = asyncio.Event()

    async def run(self, until_s: float) -> Ledger:
        """Send everything when it is due, and wait for the answers until then."""
        due = self._schedule.due
        for index in range(len(due)):
            while (wait := due[index] - self._now()) > 0:
                await asyncio.sleep(wait)
            if wait > -MAX_LATE_S:
                self._send(index)
            else:
                self.ended(index, NOT_SENT)
            if index % 64 == 63:
                await asyncio.sleep(0)  # let answers in, also when late
        remaining = until_s - self._now()
        with contextlib.suppress(TimeoutError):  # what is left stays UNANSWERED
            await asyncio.wait_for(self._all_ended.wait(), max(0.0, remaining))
        for connection in list(self._open):
            connection.close()
        return Ledger(due, self._sent, self._done, self._status, self._retry_after)

    def _now(self) -> float:
        """Seconds of the load; the loop's own clock counts whole milliseconds."""
        return time.perf_counter() - self._began

    def _send(self, index: int) -> None:
        self._sent[index] = self._now()
        if self._idle:
            self._idle.pop().ask(index, self._schedule.message)
        elif len(self._open) + len(self._connecting) < MAX_CONNECTIONS:
            task = self._loop.create_task(self._connect(index))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)
        else:
            self.ended(index, NOT_SENT)

    async def _connect(self, index: int) -> None:
        try:
            _, connection = await self._loop.create_connection(lambda: Connection(self), HOST, self._port)
        except OSError:
            self.ended(index, BROKEN)
            return
        self._open.add(connection)
        connection.ask(index, self._schedule.message)

    def ended(self, index: int, status: int, *, retry_after: bool = False) -> None:
        """A request has its answer, or will never have one."""
        self._status[index], self._retry_after[index] = status, retry_after
        self._done[index] = self._now()
        self._left -= 1
        if not self._left:
            self._all_ended.set()

    def reusable(self, connection: "Connection") -> None:
        """A connection can take another request."""
        self._idle.append(connection)

    def lost(self, connection: "Connection") -> None:
        """A connection is gone."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request on its way."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._index: int | None = None
        self._retry_after = False
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)

    def ask(self, index: int, message: bytes) -> None:
        """Send a request."""
        assert self._transport is not None
        self._index, self._retry_after = index, False
        self._transport.write(message)

    def close(self) -> None:
        """Drop the connection; what is on its way stays without an answer."""
        self._index = None
        assert self._transport is not None
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class does not inherit

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        del value
        if name.lower() == b"retry-after":
            self._retry_after = True

    def on_message_complete(self) -> None:
        """Called by the parser."""
        index, self._index = self._index, None
        if index is None:
            return
        self._sender.ended(index, self._parser.get_status_code(), retry_after=self._retry_after)
        if self._parser.should_keep_alive():
            self._parser = httptools.HttpResponseParser(self)
            self._sender.reusable(self)
        else:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        del exc
        self._sender.lost(self)
        if self._index is not None:
            self._sender.ended(self._index, BROKEN)
