"""What two overloaded models cost a third: its latency beside them, as a multiple of its latency alone.

    python -m benchmarks.fairness [--rounds 3] [--seconds 8]

Each of three models is the third once: it gets a fifth of what it can do at a time when it is alone, as a Poisson
process, first without the others and then while 32 connections in a closed loop keep each of them busy.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import copytree

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.result_file import write_result
from benchmarks.serving import open_loop, wrk
from benchmarks.serving.open_loop import OK, Arrivals
from benchmarks.serving.photo import photo_jpeg
from benchmarks.serving.ratios import Spread, medians_of
from benchmarks.serving.servers import Running, ServerSpec, started
from benchmarks.serving.untrained import release_untrained
from benchmarks.serving.workloads import Upload, Workload, digit_png, raw
from benchmarks.surroundings import serving_surroundings
from models.artifact.artifact import highest_version, read_artifact
from service.catalog.repository import ZOO

SHARE = 0.2  # of its capacity, that the third model is asked for
PEAK_S, BUSY_CONNECTIONS = 3, 32
CONNECTIONS = 512  # of the third model
RAMP_S, GRACE_S = 1.0, 15.0
DIGITS, PHOTOS = "mnist-residual", ("resnet18", "resnet34")
OURS = ServerSpec("ours", "service", ("--default-model", DIGITS), "/predict", raw)


@dataclass(frozen=True, slots=True)
class Third:
    """One model in one round, alone and beside the other two."""

    model: str
    per_s: float
    alone_p50_ms: float
    alone_p99_ms: float
    beside_p50_ms: float
    beside_p99_ms: float
    failed: int


def make_repository(folder: Path) -> Workload:
    """A network for digits and two untrained ones for photographs, some two hundred and four hundred times as dear."""
    newest = highest_version(ZOO, DIGITS)
    copytree(ZOO / DIGITS / str(newest), folder / DIGITS / str(newest))
    for architecture in PHOTOS:
        release_untrained(architecture, folder)
    artifact = read_artifact(folder / DIGITS / str(newest))
    return Workload("fairness", digit_png(), "image/png", folder, artifact, top_k=3, connections=(), load_s=PEAK_S)


class Models:
    """The three models of a running server."""

    def __init__(self, running: Running, scratch: Path) -> None:
        self._running, self._scratch = running, scratch
        digit, photo = Upload(running.workload.image, "image/png"), Upload(photo_jpeg(), "image/jpeg")
        self.uploads = {DIGITS: digit} | dict.fromkeys(PHOTOS, photo)

    def capacity(self, model: str) -> float:
        """Requests a second in a closed loop."""
        return self._drive(model, PEAK_S).per_second

    def ask(self, model: str, per_s: float, seconds: float, seed: int) -> open_loop.Ledger:
        """An open loop of so many requests a second, without its ramp."""
        upload = self.uploads[model]
        headers = {"Content-Type": upload.content_type}
        message = open_loop.http_message("POST", f"/models/{model}/predict", headers, upload.body)
        due = open_loop.poisson_times(per_s, RAMP_S + seconds, seed)
        return open_loop.run(self._running.port, Arrivals([message], due, CONNECTIONS), (), GRACE_S).load

    @contextmanager
    def busy(self, models: Sequence[str], seconds: float) -> Iterator[None]:
        """Closed loops for each of these models, for so long at the least."""
        with ThreadPoolExecutor(len(models)) as pool:
            loads = [pool.submit(self._drive, model, int(seconds) + 1) for model in models]
            yield
            for load in loads:
                load.result()

    def _drive(self, model: str, seconds: int) -> wrk.WrkResult:
        folder = self._scratch / model
        folder.mkdir(exist_ok=True)
        url = f"http://127.0.0.1:{self._running.port}/models/{model}/predict"
        return wrk.drive(url, self.uploads[model], BUSY_CONNECTIONS, seconds, folder)


def measure(models: Models, third: str, seconds: float, seed: int) -> Third:
    """One model, alone and beside the other two."""
    per_s = SHARE * models.capacity(third)
    alone = models.ask(third, per_s, seconds, seed)
    with models.busy([model for model in models.uploads if model != third], RAMP_S + seconds):
        beside = models.ask(third, per_s, seconds, seed)
    percentiles = [_percentiles_ms(ledger) for ledger in (alone, beside)]
    failed = sum(int((ledger.status != OK).sum()) for ledger in (alone, beside))
    return Third(third, per_s, *percentiles[0], *percentiles[1], failed)


def _percentiles_ms(ledger: open_loop.Ledger) -> tuple[float, float]:
    counted = (ledger.due >= RAMP_S) & (ledger.status == OK)
    p50, p99 = np.percentile(ledger.latency[counted], [50, 99]) * 1e3
    return float(p50), float(p99)


def main() -> None:
    """Measure each model as the third in each round, print the medians, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0)
    options = parser.parse_args()
    found: list[Third] = []
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder) / "scratch"
        scratch.mkdir()
        workload = make_repository(Path(folder) / "repository")
        for seed in range(options.rounds):
            with started(OURS, workload, scratch) as (running, _):
                models = Models(running, scratch)
                found += [measure(models, third, options.seconds, seed) for third in models.uploads]
    table = Table("third model", "requests/s", "alone p50, ms", "p99", "beside p50, ms", "p99", "p99, ratio", "failed")
    for name in dict.fromkeys(one.model for one in found):
        thirds = [one for one in found if one.model == name]
        ratio = Spread.of([one.beside_p99_ms / one.alone_p99_ms for one in thirds]).median
        figures = ("per_s", "alone_p50_ms", "alone_p99_ms", "beside_p50_ms", "beside_p99_ms")
        medians = medians_of(thirds, figures)
        table.add_row(name, *(f"{value:.1f}" for value in (*medians, ratio)), str(sum(one.failed for one in thirds)))
    Console().print(table)
    document = {**serving_surroundings("benchmarks.fairness"), "thirds": [asdict(one) for one in found]}
    write_result("fairness", document)


if __name__ == "__main__":
    main()
