"""Good, bad and leaving clients for half an hour: does the server leak, or slow down?

    python -m benchmarks.soak [--minutes 30] [--output FOLDER]

First wrk sends every kind of request at once, as fast as the server answers, so that pools, threads and heaps stand as
high as they ever will: under a lighter load the highest that they have stood creeps up for hours. The time after that
is cut into sixteen parts. Of each come the mean resident memory and file descriptors of all processes, and the 99th
percentile of good requests relative to that of `/livez`, asked in between, which takes out the machine's own noise. The
first quarter does not count. Exit code 1 if something grows beyond doubt (95 %), or if anything went wrong that was not
provoked. Memory grows if it would by one small object kept for each of the rarest requests.
"""

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.serving import wrk
from benchmarks.serving.processes import Session
from benchmarks.serving.servers import SERVERS, Running, started
from benchmarks.serving.workloads import Upload, mnist_workload
from benchmarks.soak.clients import Ask, Clients
from benchmarks.soak.trend import Trend, trend
from benchmarks.surroundings import RESULTS, serving_surroundings
from service.catalog.repository import ZOO

PARTS, WARM_PARTS = 16, 12
"""Trends are drawn through the last twelve: few and long, so that neighbours do not resemble each other."""
SAMPLE_EVERY_S = 1.0
LEAST_LEAK_BYTES = 32  # size of a small Python object
FILLING = 1 / 15  # share of --minutes, spent before they begin
FILLING_CONNECTIONS = 16  # connections for each kind of request
CALM_S = 10.0  # time for the server to notice that the last client has left
INFLIGHT = "resnet_inflight_requests"
FAILURES = (
    'outcome="shed"',
    'outcome="expired"',
    'outcome="server_error"',
    "resnet_worker_restarts_total",
    "resnet_api_restarts_total",
    "resnet_requests_lost_total",
    INFLIGHT,
)


@dataclass(frozen=True, slots=True)
class Part:
    """A sixteenth of the time."""

    at_s: float
    rss_mib: float
    descriptors: float
    p99_ms: float
    probe_p99_ms: float
    answered: int

    @property
    def p99_ratio(self) -> float:
        """How many times slower the slowest good requests are than the slowest probes."""
        return self.p99_ms / self.probe_p99_ms


@dataclass(frozen=True, slots=True)
class Soak:
    """The results of a run."""

    parts: list[Part]
    trends: dict[str, Trend]
    filling: int
    """Requests before the first part."""
    provoked: dict[str, int]
    unprovoked: dict[str, int]


def main() -> int:
    """Run the soak; 1 if something grows or was not provoked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--minutes", type=float, default=30, help="less only shows that it runs: pools fill for minutes"
    )
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for the results")
    options = parser.parse_args()
    console = Console()
    soaking_s = options.minutes * 60
    filling_s = max(1, int(soaking_s * FILLING))
    with tempfile.TemporaryDirectory(prefix="resnet-serve-soak-") as name:
        folder = Path(name)
        with started(SERVERS["ours"], mnist_workload(ZOO, folder), folder) as (running, _):
            before = failures(running)  # while it was loading
            clients = Clients(f"http://127.0.0.1:{running.port}", running.workload.image)
            clients.start()
            try:
                filling = fill(clients, filling_s, folder)
                clients.take()
                parts = watch(running.session, clients, soaking_s, console)
            finally:
                clients.stop()
            await_calm(running)
            unprovoked = clients.unprovoked + (failures(running) - before)
        unprovoked["errors in the log"] = errors_in(folder / f"{running.server.name}.log")
    rarest_an_hour = min(clients.provoked.values()) / (filling_s + soaking_s) * 3600
    trends = trends_of(parts, rarest_an_hour * LEAST_LEAK_BYTES / (1 << 20))
    soak = Soak(parts, trends, filling, dict(clients.provoked), dict(+unprovoked))
    show(console, soak)
    save(soak, options.minutes, options.output)
    return int(bool(soak.unprovoked) or any(one.grows for one in soak.trends.values()))


def fill(clients: Clients, seconds: int, folder: Path) -> int:
    """Have every kind of request sent as fast as it is answered; how many were."""

    def drive(ask: Ask, own: Path) -> int:
        own.mkdir()
        request = Upload(ask.body, ask.content_type)
        return wrk.drive(clients.url + ask.path, request, FILLING_CONNECTIONS, seconds, own).requests

    asks = [*clients.good, *clients.bad]
    with ThreadPoolExecutor(len(asks)) as pool:
        return sum(pool.map(drive, asks, [folder / f"filling-{number}" for number in range(len(asks))]))


def watch(session: Session, clients: Clients, seconds: float, console: Console) -> list[Part]:
    """One part after the other."""
    parts = []
    began, length_s = time.monotonic(), seconds / PARTS
    for number in range(PARTS):
        rss_mib, descriptors = sample(session, until=began + (number + 1) * length_s)
        good_s, probe_s = clients.take()
        middle_s = (number + 0.5) * length_s
        parts.append(Part(middle_s, rss_mib, descriptors, p99_ms(good_s), p99_ms(probe_s), len(good_s)))
        console.print(parts[-1], highlight=False)
    return parts


def sample(session: Session, until: float) -> tuple[float, float]:
    """Means of the resident memory (MiB) and of the file descriptors, until this time of the monotonic clock."""
    samples: list[tuple[float, int]] = []
    while not samples or time.monotonic() < until:
        samples.append((session.memory().rss_mib, descriptors_of(session)))
        time.sleep(max(0.0, min(SAMPLE_EVERY_S, until - time.monotonic())))
    rss_mib, descriptors = np.mean(samples, axis=0)
    return float(rss_mib), float(descriptors)


def descriptors_of(session: Session) -> int:
    """How many files, sockets and pipes its processes have open."""
    total = 0
    for pid in session.pids():
        with contextlib.suppress(OSError):  # it has ended meanwhile
            total += len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return total


def p99_ms(seconds: Sequence[float]) -> float:
    """The 99th percentile, in milliseconds."""
    return float(np.percentile(seconds, 99)) * 1e3


def trends_of(parts: Sequence[Part], least_leak_mib: float) -> dict[str, Trend]:
    """Of what must not grow, once the server is warm; `least_leak_mib` an hour is the least leak that there can be."""
    warm = parts[-WARM_PARTS:]
    at_s = [part.at_s for part in warm]
    rss_mib = [part.rss_mib for part in warm]
    return {
        "resident memory": trend(at_s, rss_mib, least_leak_mib / float(np.mean(rss_mib))),
        "file descriptors": trend(at_s, [part.descriptors for part in warm]),
        "p99 / p99 of /livez": trend(at_s, [part.p99_ratio for part in warm]),
    }


def await_calm(running: Running) -> None:
    """Give the server time to notice that the last client has left."""
    end = time.monotonic() + CALM_S
    while metrics(running)[INFLIGHT] and time.monotonic() < end:
        time.sleep(0.1)


def failures(running: Running) -> Counter[str]:
    """What the server itself has counted as failed, and the requests that it holds."""
    return Counter({name: int(n) for name, n in metrics(running).items() if any(mark in name for mark in FAILURES)})


def metrics(running: Running) -> dict[str, float]:
    """Every sample of /metrics by its series."""
    samples = (line.rsplit(" ", 1) for line in running.get("/metrics").splitlines() if not line.startswith("#"))
    return {series: float(value) for series, value in samples}


def errors_in(log: Path) -> int:
    """Lines of the level error."""
    return sum(json.loads(line)["level"] == "error" for line in log.read_text().splitlines() if line.startswith("{"))


def show(console: Console, soak: Soak) -> None:
    """Print trends and counts."""
    table = Table("quantity", "change an hour", "95 % interval", "negligible", "grows")
    for name, one in soak.trends.items():
        interval = f"{one.low:+.2%} to {one.high:+.2%}"
        table.add_row(name, f"{one.per_hour:+.2%}", interval, f"{one.negligible:.2%}", "yes" if one.grows else "no")
    console.print(table)
    console.print("requests while filling:", soak.filling)
    console.print("as they must:", soak.provoked)
    console.print("not provoked:", soak.unprovoked)


def save(soak: Soak, minutes: float, folder: Path) -> None:
    """Write everything to `soak.json` in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    document = serving_surroundings("benchmarks.soak") | {"minutes": minutes} | asdict(soak)
    (folder / "soak.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
