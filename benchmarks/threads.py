"""Do the workers' threads fit the cores? ResNet-18 served by 1, 2 and 4 workers, in interleaved rounds.

    python -m benchmarks.threads [--rounds 7] [--seconds 15] [--quick]

Linux counts for each thread how long it ran, and how long it was ready to run and had no core (its `schedstat`). A
thread that ran for a twentieth of the time or more computes; how many of those are runnable is looked at every 20 ms.
More of them than cores, and the workers would wait for each other: throughput falls, CPU time a request rises.
"""

import argparse
import contextlib
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.result_file import write_result
from benchmarks.serving import wrk
from benchmarks.serving.photo import photo_jpeg
from benchmarks.serving.processes import Meter
from benchmarks.serving.ratios import Spread, medians_of
from benchmarks.serving.servers import Running, ServerSpec, started
from benchmarks.serving.workloads import Workload, photo_workload, raw
from benchmarks.surroundings import serving_surroundings
from models.machine.cores import usable_cores

WORKERS = (1, 2, 4)
CONNECTIONS, WARM_UP_S = 32, 2
LOOK_EVERY_S = 0.02
COMPUTES = 0.05  # share of the time that a thread must run to count as computing
PATIENT = ("--request-timeout", "60")  # no request expires, on a busy machine neither
WIDTH = 120  # columns, where the output is no terminal

Task = Path  # /proc/PID/task/TID


@dataclass(frozen=True, slots=True)
class Ran:
    """One thread: seconds on a core, and seconds ready without one."""

    cpu_s: float
    waited_s: float


@dataclass(frozen=True, slots=True)
class ThreadSample:
    """One number of workers in one round."""

    workers: int
    computing: int
    """Threads of all workers that compute."""
    runnable: float
    """How many of the workers' threads could run, on average."""
    waited: float
    """Share of their runnable time that the workers' threads waited for a core."""
    per_s: float
    failed: int
    cpu_s_per_1000: float
    cores: float
    """Cores used by the whole server."""
    others_cores: float


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.threads", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=15, help="of load, for each number of workers and round")
    parser.add_argument("--quick", action="store_true", help="one round of 5 s each; nothing is written")
    options = parser.parse_args()
    rounds, seconds = (1, 5) if options.quick else (options.rounds, options.seconds)
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    with tempfile.TemporaryDirectory(prefix="resnet-serve-threads-") as name:
        workload = photo_workload(photo_jpeg(), Path(name))
        samples = [measure(workload, workers, seconds, Path(name)) for _ in range(rounds) for workers in WORKERS]
    show(console, samples)
    if not options.quick:
        document = serving_surroundings("benchmarks.threads") | {"connections": CONNECTIONS, "seconds": seconds}
        write_result("threads", document | {"samples": list(map(asdict, samples))})


def measure(workload: Workload, workers: int, seconds: int, folder: Path) -> ThreadSample:
    """Start a server with so many workers, load it, and end it."""
    server = ServerSpec(f"{workers}-workers", "service", ("--workers", str(workers), *PATIENT), "/predict", raw)
    with started(server, workload, folder) as (running, _):
        wrk.drive(running.url, running.upload(), CONNECTIONS, WARM_UP_S, folder)
        tasks = tasks_of(workers_of(running, folder))
        before, meter, began = ran(tasks), Meter(running.session), time.perf_counter()
        with looking(tasks) as runnable:
            load = wrk.drive(running.url, running.upload(), CONNECTIONS, seconds, folder)
        usage, took_s = meter.read(), time.perf_counter() - began
        after = ran(tasks)
    cpu_s = [after[task].cpu_s - before[task].cpu_s for task in tasks]
    waited_s = sum(after[task].waited_s - before[task].waited_s for task in tasks)
    return ThreadSample(
        workers,
        sum(one >= COMPUTES * took_s for one in cpu_s),
        sum(runnable) / len(runnable),
        waited_s / (waited_s + sum(cpu_s)),
        load.per_second,
        load.failed,
        1000 * usage.cpu_s / max(1, load.requests - load.failed),
        usage.cpu_s / took_s,
        usage.others_cores,
    )


def workers_of(running: Running, folder: Path) -> list[int]:
    """Its workers' process ids, from its log."""
    lines = (folder / f"{running.server.name}.log").read_text().splitlines()
    records = (json.loads(line) for line in lines if line.startswith("{"))
    return [record["pid"] for record in records if record["event"] == "worker started"]


def tasks_of(pids: Sequence[int]) -> list[Task]:
    """All threads of these processes."""
    return [task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]


def ran(tasks: Sequence[Task]) -> dict[Task, Ran]:
    """How long each thread has run and waited so far."""
    found = {}
    for task in tasks:
        cpu_ns, waited_ns, _ = (task / "schedstat").read_text().split()
        found[task] = Ran(int(cpu_ns) / 1e9, int(waited_ns) / 1e9)
    return found


@contextlib.contextmanager
def looking(tasks: Sequence[Task]) -> Iterator[list[int]]:
    """How many of these threads could run, each LOOK_EVERY_S seconds while the block lasts."""
    seen: list[int] = []
    ending = threading.Event()

    def look() -> None:
        while not ending.wait(LOOK_EVERY_S):
            seen.append(sum((task / "stat").read_text().rpartition(")")[2].split()[0] == "R" for task in tasks))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        ending.set()
        thread.join()


def show(console: Console, samples: Sequence[ThreadSample]) -> None:
    """Print the medians of each number of workers, with the least and greatest throughput."""
    counted = ("computing", "a worker", "runnable", "waited")
    rated = ("requests/s", "min", "max", "failed", "CPU s/1,000", "cores", "others")
    table = Table("workers", *counted, *rated, title=f"ResNet-18 on {usable_cores()} cores, {CONNECTIONS} connections")
    for workers in WORKERS:
        of_these = [sample for sample in samples if sample.workers == workers]
        rate = Spread.of([sample.per_s for sample in of_these])
        figures = ("computing", "runnable", "waited", "cpu_s_per_1000", "cores", "others_cores")
        computing, runnable, waited, cpu_s, cores, others = medians_of(of_these, figures)
        counts = (f"{computing:g}", f"{computing / workers:g}", f"{runnable:.2f}", f"{waited:.0%}")
        failed = str(sum(sample.failed for sample in of_these))
        rates = (f"{rate.median:.1f}", f"{rate.min:.1f}", f"{rate.max:.1f}", failed)
        table.add_row(str(workers), *counts, *rates, f"{cpu_s:.1f}", f"{cores:.2f}", f"{others:.2f}")
    console.print(table)


if __name__ == "__main__":
    main()
