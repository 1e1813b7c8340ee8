"""Open-loop load: requests are sent when a Poisson process says so, however slowly the server answers.

A closed loop waits for answers before it asks again, and so goes easy on a server that is slow. Here each latency
counts from the moment that its request was due. The sender is `open_loop.c`, which takes a tenth of the CPU time that
one in Python takes from the server beside it. Bounded in number and in time, and for 127.0.0.1 only.
"""

import atexit
import resource
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HOST = "127.0.0.1"
MAX_REQUESTS = 2_000_000
BROKEN, UNANSWERED, NOT_SENT = 1, 2, 3  # values of `status` without an HTTP status; open_loop.c has the same
OK, REFUSED = 200, (503, 429)  # mosec refuses with 429
PROBE_EVERY_S = 0.2
PROBE_CONNECTIONS = 32  # for each path: a probe does not wait behind another

_ENTRY = np.dtype([("sent", "f8"), ("done", "f8"), ("status", "i4"), ("retry_after", "i4")])


@dataclass(frozen=True, slots=True)
class Ledger:
    """What became of each request; times in seconds from the first moment of the load, nan where there is none."""

    due: NDArray[np.float64]
    sent: NDArray[np.float64]
    done: NDArray[np.float64]
    status: NDArray[np.int64]
    """HTTP status, BROKEN, UNANSWERED (when time was up), NOT_SENT (half a second late: no connection was free)."""
    retry_after: NDArray[np.bool_]

    @property
    def latency(self) -> NDArray[np.float64]:
        """From when a request was due until its answer was complete."""
        return self.done - self.due


@dataclass(frozen=True, slots=True)
class Outcome:
    """The ledger of the load, for each probe its path with the ledger of its requests, and what sending them took."""

    load: Ledger
    probes: dict[str, Ledger]
    sender_cpu_s: float


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What is sent in turn, when, in seconds, and over how many connections of its own.

    `is_kept`: they are open from the start, and carry one request after the other; else each carries one, and there
    are so many at a time at the most.
    """

    messages: Sequence[bytes]
    due: NDArray[np.float64]
    connections: int
    is_kept: bool = True

    def pack(self) -> bytes:
        """A stream of the plan that open_loop.c reads."""
        header = struct.pack("=4q", len(self.due), len(self.messages), self.connections, self.is_kept)
        sizes = np.array([len(message) for message in self.messages], np.int64)
        return b"".join([header, self.due.astype(np.float64).tobytes(), sizes.tobytes(), *self.messages])


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
    ticks = np.arange(0.0, float(load.due[-1]), PROBE_EVERY_S)
    probes = [Arrivals([http_message("GET", path, {})], ticks, PROBE_CONNECTIONS) for path in probe_paths]
    streams = [load, *probes]
    plan = b"".join(stream.pack() for stream in streams)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    written = subprocess.run([_sender(), str(port), str(grace_s)], input=plan, stdout=subprocess.PIPE, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    ends = np.cumsum([len(stream.due) for stream in streams])
    parts = np.split(np.frombuffer(written.stdout, _ENTRY), ends[:-1])
    first, *others = [
        Ledger(stream.due, part["sent"], part["done"], part["status"].astype(np.int64), part["retry_after"] > 0)
        for stream, part in zip(streams, parts, strict=True)
    ]
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Outcome(first, dict(zip(probe_paths, others, strict=True)), cpu_s)


@cache
def _sender() -> Path:
    """The program that sends, built by the C compiler that is there."""
    folder = tempfile.TemporaryDirectory(prefix="resnet-serve-open-loop-")
    atexit.register(folder.cleanup)
    program = Path(folder.name) / "open_loop"
    subprocess.run(["cc", "-O2", "-o", program, Path(__file__).with_suffix(".c"), "-lm"], check=True)
    return program
