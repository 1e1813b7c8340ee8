"""Half an hour of good, bad and leaving clients: does the server keep what it should let go?

    python -m benchmarks.soak [--minutes 30] [--output benchmarks/results/soak.json]

Every window of ten seconds gives one row: resident memory and file descriptors of all processes, and the 99th
percentile of good predictions relative to that of `/livez` asked in between, which takes the machine's own noise out.
A slope counts as real when its 95 % confidence interval leaves zero out; the first quarter, in which pools and
allocators fill, is left out. Exit code 1 if a slope is real and upwards, or if any answer was not provoked.
"""

import argparse
import json
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.conditions import ROOT, conditions
from benchmarks.serving.processes import Session

WINDOW_S = 10.0
GOOD_CLIENTS, TIMEOUT_S = 6, 30.0
Z = 1.96  # two-sided 95 % of the normal distribution


@dataclass(frozen=True, slots=True)
class Window:
    """Ten seconds."""

    at_s: float
    rss_mib: float
    descriptors: int
    p99_ms: float
    livez_p99_ms: float
    answered: int

    @property
    def p99_ratio(self) -> float:
        """How many times slower the slowest good predictions are than the slowest probes."""
        return self.p99_ms / self.livez_p99_ms


@dataclass(frozen=True, slots=True)
class Slope:
    """Change per hour, relative to the mean, with the half width of its 95 % confidence interval."""

    per_hour: float
    half_width: float

    @property
    def grows(self) -> bool:
        """Whether the quantity grows beyond doubt."""
        return self.per_hour - self.half_width > 0


def slope(at_s: list[float], values: list[float]) -> Slope:
    """Least squares; the interval from the residuals' spread."""
    x, y = np.asarray(at_s) / 3600, np.asarray(values) / statistics.fmean(values)
    spread = ((x - x.mean()) ** 2).sum()
    gradient = ((x - x.mean()) * (y - y.mean())).sum() / spread
    residuals = y - y.mean() - gradient * (x - x.mean())
    error = np.sqrt((residuals**2).sum() / max(1, len(x) - 2) / spread)
    return Slope(float(gradient), float(Z * error))


class Clients:
    """Threads that send until told to stop, and what they got."""

    def __init__(self, url: str) -> None:
        self._url, self._ending = url, threading.Event()
        self._lock = threading.Lock()
        self.good_s: list[float] = []
        self.livez_s: list[float] = []
        self.statuses: Counter[str] = Counter()
        targets = [self._good] * GOOD_CLIENTS + [self._probe, self._bad, self._leaving]
        self._threads = [threading.Thread(target=target, args=(i,), daemon=True) for i, target in enumerate(targets)]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End."""
        self._ending.set()
        for thread in self._threads:
            thread.join(2 * TIMEOUT_S)

    def take(self) -> tuple[list[float], list[float]]:
        """Latencies since the last call: good predictions and probes, in seconds."""
        with self._lock:
            taken = self.good_s, self.livez_s
            self.good_s, self.livez_s = [], []
        return taken

    def _good(self, seed: int) -> None:
        body = digit(seed)
        with httpx.Client(timeout=TIMEOUT_S) as client:
            while not self._ending.is_set():
                self._ask(client, "good", "POST", "/predict", body)

    def _probe(self, _: int) -> None:
        with httpx.Client(timeout=TIMEOUT_S) as client:
            while not self._ending.wait(0.005):
                self._ask(client, "livez", "GET", "/livez", None)

    def _bad(self, seed: int) -> None:
        rng, body = random.Random(seed), digit(seed)
        with httpx.Client(timeout=TIMEOUT_S) as client:
            while not self._ending.wait(0.02):
                damaged = body[: rng.randrange(1, len(body) - 12)]
                self._ask(client, "bad", "POST", "/predict", damaged)

    def _leaving(self, seed: int) -> None:
        parts, body = urlsplit(self._url), digit(seed)
        head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        while not self._ending.wait(0.02):
            with socket.create_connection((str(parts.hostname), int(parts.port or 80)), timeout=TIMEOUT_S) as wire:
                wire.sendall((head + body)[: random.randrange(len(head) + len(body) + 1)])

    def _ask(self, client: httpx.Client, kind: str, method: str, path: str, body: bytes | None) -> None:
        began = time.perf_counter()
        try:
            status = str(client.request(method, self._url + path, content=body).status_code)
        except httpx.HTTPError as error:
            status = type(error).__name__
        with self._lock:
            self.statuses[f"{kind} {status}"] += 1
            if kind == "good":
                self.good_s.append(time.perf_counter() - began)
            elif kind == "livez":
                self.livez_s.append(time.perf_counter() - began)


def digit(seed: int) -> bytes:
    """A PNG of the network's size with a stroke in it."""
    pixels = np.zeros((28, 28), np.uint8)
    pixels[4:24, 8 + seed % 12 : 11 + seed % 12] = 255
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def p99_ms(seconds: list[float]) -> float:
    """The 99th percentile, in milliseconds."""
    return float(np.percentile(seconds, 99)) * 1e3


def watch(session: Session, clients: Clients, minutes: float, console: Console) -> list[Window]:
    """One row every ten seconds."""
    began, windows = time.monotonic(), []
    while (at := time.monotonic() - began) < minutes * 60:
        time.sleep(WINDOW_S)
        good, livez = clients.take()
        descriptors = sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in session.pids())
        windows.append(Window(at, session.memory().rss_mib, descriptors, p99_ms(good), p99_ms(livez), len(good)))
        console.print(windows[-1])
    return windows


def judge(windows: list[Window]) -> dict[str, Slope]:
    """Slopes of what must not grow, once the server is warm."""
    warm = windows[len(windows) // 4 :]
    at = [window.at_s for window in warm]
    return {
        "resident memory": slope(at, [window.rss_mib for window in warm]),
        "file descriptors": slope(at, [float(window.descriptors) for window in warm]),
        "p99 over /livez p99": slope(at, [window.p99_ratio for window in warm]),
    }


def start(log: Path) -> tuple[subprocess.Popen[bytes], str]:
    """A server of the zoo on a free port, and its address once it is ready."""
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "service", "--port", "0"], cwd=ROOT, stderr=stream, start_new_session=True
        )
    end = time.monotonic() + 60
    while time.monotonic() < end:
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        for line in lines:
            if line["event"] == "listening":
                try:
                    if httpx.get(f"{line['url']}/readyz").status_code == httpx.codes.OK:
                        return process, line["url"]
                except httpx.TransportError:
                    break
        time.sleep(0.1)
    raise SystemExit(f"the server did not start:\n{log.read_text()}")


def main() -> int:
    """Run the soak; 1 if something grows or was not provoked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "soak.json")
    options = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        process, url = start(Path(folder) / "log")
        clients = Clients(url)
        clients.start()
        try:
            windows = watch(Session(process.pid), clients, options.minutes, console)
        finally:
            clients.stop()
            process.terminate()
            code = process.wait(30)
    slopes = judge(windows)
    unprovoked = {kind: n for kind, n in clients.statuses.items() if kind not in {"good 200", "livez 200", "bad 422"}}
    report(console, slopes, clients.statuses)
    results: dict[str, Any] = conditions("benchmarks.soak") | {
        "minutes": options.minutes,
        "windows": len(windows),
        "exit_code": code,
        "statuses": dict(clients.statuses),
        "slopes_per_hour": {name: asdict(one) for name, one in slopes.items()},
        "first": asdict(windows[len(windows) // 4]),
        "last": asdict(windows[-1]),
    }
    options.output.parent.mkdir(exist_ok=True)
    options.output.write_text(json.dumps(results, indent=2) + "\n")
    return int(bool(unprovoked) or code != 0 or any(one.grows for one in slopes.values()))


def report(console: Console, slopes: dict[str, Slope], statuses: Counter[str]) -> None:
    """Print slopes and counts."""
    table = Table("quantity", "change an hour", "95 % interval", "grows")
    for name, one in slopes.items():
        low, high = one.per_hour - one.half_width, one.per_hour + one.half_width
        table.add_row(name, f"{one.per_hour:+.2%}", f"{low:+.2%} to {high:+.2%}", "yes" if one.grows else "no")
    console.print(table)
    console.print(dict(statuses))


if __name__ == "__main__":
    sys.exit(main())
