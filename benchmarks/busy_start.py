"""What a start on a busy machine costs for life: throughput after it, as a multiple of that after a quiet start.

    python -m benchmarks.busy_start [--job digit|photo] [--rounds 5] [--windows 4]

In each round the server starts once on a quiet machine and once beside programs that keep every core busy several times
over, which end once it is ready. Then it is loaded for a few windows of time. What warm-up found and what the batches
were at last stand in the result.
"""

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.result_file import write_result
from benchmarks.serving import wrk
from benchmarks.serving.photo import photo_jpeg
from benchmarks.serving.ratios import METHOD, Ratio, Spread
from benchmarks.serving.servers import SERVERS, Running, started
from benchmarks.serving.workloads import Workload, mnist_workload, photo_workload
from benchmarks.surroundings import serving_surroundings
from service.catalog.repository import ZOO

OTHERS_PER_CORE = 4
CONNECTIONS, WINDOW_S = 64, 4
_BATCHES = re.compile(r"^resnet_batch_size_(sum|count)\{[^}]*\} (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Life:
    """One start and the load after it.

    `largest` and `warm_ms` are what warm-up found; `per_second` and `batch` the requests a second and the mean images
    of a batch in each window.
    """

    busy: bool
    largest: int
    warm_ms: dict[str, float]
    per_second: list[float]
    batch: list[float]


@contextlib.contextmanager
def busy_machine() -> Iterator[None]:
    """Programs that compute without end."""
    others = [
        subprocess.Popen([sys.executable, "-c", "while True: sum(range(10_000))"])
        for _ in range(OTHERS_PER_CORE * len(os.sched_getaffinity(0)))
    ]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def live(workload: Workload, windows: int, folder: Path, *, busy: bool) -> Life:
    """Start the server, on a busy machine or a quiet one, then load it."""
    with contextlib.ExitStack() as stack:
        others = stack.enter_context(contextlib.ExitStack())
        if busy:
            others.enter_context(busy_machine())
        running, _ = stack.enter_context(started(SERVERS["ours"], workload, folder))
        others.close()
        found = json.loads(running.get(f"/models/{workload.artifact.name}"))
        per_second, batch = [], []
        for _ in range(windows):
            before = _batches(running)
            per_second.append(_drive(running, workload, folder))
            images, batches = (after - then for after, then in zip(_batches(running), before, strict=True))
            batch.append(images / batches)
        return Life(busy, found["max_batch_size"], found["batch_latency_ms"], per_second, batch)


def _drive(running: Running, workload: Workload, folder: Path) -> float:
    if workload.traffic:
        return wrk.replay(running.url, running.messages(), CONNECTIONS, WINDOW_S, folder).per_second
    return wrk.drive(running.url, running.upload(), CONNECTIONS, WINDOW_S, folder).per_second


def _batches(running: Running) -> tuple[float, float]:
    """Images and batches that have run."""
    found = dict(_BATCHES.findall(running.get("/metrics")))
    return float(found["sum"]), float(found["count"])


def main() -> None:
    """Measure the pairs, print the ratios, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", choices=("digit", "photo"), default="digit")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--windows", type=int, default=4)
    options = parser.parse_args()
    pairs: list[tuple[Life, Life]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        is_digit = options.job == "digit"
        workload = mnist_workload(ZOO, folder) if is_digit else photo_workload(photo_jpeg(), folder)
        for _ in range(options.rounds):
            busy, quiet = (live(workload, options.windows, folder, busy=busy) for busy in (True, False))
            pairs.append((busy, quiet))
    table = Table("start", "largest at warm-up", "mean batch, by window", "requests/s, by window")
    for life in (life for pair in pairs for life in pair):
        figures = (" ".join(f"{value:.0f}" for value in values) for values in (life.batch, life.per_second))
        table.add_row("busy" if life.busy else "quiet", str(life.largest), *figures)
    ratios = [
        Ratio.of([(busy.per_second[window], quiet.per_second[window]) for busy, quiet in pairs])
        for window in range(options.windows)
    ]
    Console().print(table, "ratio by window:", *(f"{ratio.median:.3f}" for ratio in ratios))
    document = {
        **serving_surroundings("benchmarks.busy_start"),
        "method": METHOD,
        "ratio": [asdict(ratio) for ratio in ratios],
        "quiet_per_second": asdict(Spread.of([quiet.per_second[-1] for _, quiet in pairs])),
        "lives": [asdict(life) for pair in pairs for life in pair],
    }
    write_result(f"busy_start-{options.job}", document)


if __name__ == "__main__":
    main()
