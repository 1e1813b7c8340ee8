"""How long `/livez` is silent while a body as large as is taken arrives and is worked on.

    python -m benchmarks.silence [--rounds 5] [--only WORD]

A process of its own asks for `/livez` each 5 ms on a kept connection: first while nothing else is asked, then while one
body after the other is sent. The waits of a busy machine are long whatever the server does; so for each the CPU time is
told, too, that all threads of the API process took meanwhile: on a quiet one it would not be longer.
"""

import argparse
import contextlib
import multiprocessing
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.large_bodies import bodies
from benchmarks.result_file import write_result
from benchmarks.serving.ratios import medians_of
from benchmarks.serving.servers import SERVERS, Running, started
from benchmarks.serving.workloads import mnist_workload
from benchmarks.surroundings import serving_surroundings
from service.catalog.repository import ZOO

PERIOD_S, IDLE_S = 0.005, 2.0
TIMEOUT_S = 120.0
PROBE = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"


class Wait(NamedTuple):
    """One answer of `/livez`: how long it took, and the CPU time of the API process meanwhile, which is no more."""

    ms: float
    cpu_ms: float


def poll(port: int, api_process: int, done: Connection) -> None:
    """Ask until told to end; send all waits."""
    found: list[Wait] = []
    cpu_clock = (~api_process << 3) | 2  # clock_getcpuclockid(3) makes it so
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(TIMEOUT_S)
        while not done.poll():
            cpu_s, began_s = time.clock_gettime(cpu_clock), time.perf_counter()
            connection.sendall(PROBE)
            answer = b""
            while not answer.endswith(b"ok\n"):
                answer += connection.recv(1 << 16)
            ms, cpu_ms = 1e3 * (time.perf_counter() - began_s), 1e3 * (time.clock_gettime(cpu_clock) - cpu_s)
            found.append(Wait(ms, min(ms, cpu_ms)))
            time.sleep(PERIOD_S)
    done.send(found)


@contextlib.contextmanager
def polled(running: Running) -> Iterator[list[Wait]]:
    """The waits of the time inside; they are there once it is over."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    api_process = next(pid for pid in running.session.pids() if comm(pid).startswith("api-"))
    poller = context.Process(target=poll, args=(running.port, api_process, theirs))
    poller.start()
    found: list[Wait] = []
    yield found
    ours.send(None)
    found += ours.recv()
    poller.join()


def comm(pid: int) -> str:
    """What `ps` shows of a process."""
    return Path(f"/proc/{pid}/comm").read_text().strip()


def ask(port: int, message: bytes) -> int:
    """Send a request; its status. Of a refusal the answer comes while the rest is still sent."""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
        connection.sendall(message)
        return int(connection.recv(1 << 16).split()[1])


@dataclass(frozen=True, slots=True)
class Silence:
    """What was seen of one body in one round."""

    body: str
    status: int
    seconds: float
    longest_ms: float
    p99_ms: float
    longest_cpu_ms: float


def measure(running: Running, name: str, message: bytes | None) -> Silence:
    """The waits while one body is sent and answered; without one, of an idle server."""
    status = 200
    with polled(running) as waits:
        began = time.perf_counter()
        if message is None:
            time.sleep(IDLE_S)
        else:
            time.sleep(20 * PERIOD_S)
            status = ask(running.port, message)
        seconds = time.perf_counter() - began
    ms = [wait.ms for wait in waits]
    return Silence(name, status, seconds, max(ms), float(np.percentile(ms, 99)), max(wait.cpu_ms for wait in waits))


def main() -> None:
    """Measure each body in each round, print the medians, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="bodies whose names have this in them; nothing is written then")
    options = parser.parse_args()
    chosen = {name: make for name, make in bodies().items() if options.only in name}
    found: list[Silence] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        running, _ = stack.enter_context(started(SERVERS["ours"], mnist_workload(ZOO, folder), folder))
        found += [measure(running, "none", None) for _ in range(options.rounds)]
        for name, make in chosen.items():
            message = make().message()
            found += [measure(running, name, message) for _ in range(options.rounds)]
    table = Table("body", "status", "s", "longest wait, ms", "p99", "CPU in a wait, ms")
    for name in ("none", *chosen):
        rounds = [one for one in found if one.body == name]
        figures = ("seconds", "longest_ms", "p99_ms", "longest_cpu_ms")
        medians = medians_of(rounds, figures)
        table.add_row(name, " ".join({str(one.status) for one in rounds}), *(f"{value:.1f}" for value in medians))
    Console().print(table)
    if not options.only:
        document = {**serving_surroundings("benchmarks.silence"), "waits": [asdict(one) for one in found]}
        write_result("silence", document)


if __name__ == "__main__":
    main()
