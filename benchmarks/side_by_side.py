"""Servers of this project that stand beside each other and answer bursts in turn, through `mnist-residual`.

A machine that others use, too, changes within minutes by more than what a setting costs: bursts that are to be compared
follow each other within seconds.
"""

import contextlib
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Self, TypeVar
from urllib.request import urlopen

from rich.console import Console
from rich.table import Table

from benchmarks.compiled import python_path
from benchmarks.result_file import write_result
from benchmarks.serving.photo import photo_jpeg
from benchmarks.serving.processes import Meter, Session, running_session
from benchmarks.serving.ratios import BOUND, Ratio, Spread
from benchmarks.serving.traffic import behind_nginx
from benchmarks.serving.workloads import Upload, digit_pngs
from benchmarks.serving.wrk import replay
from benchmarks.surroundings import serving_surroundings

START_S, LOOK_S = 60.0, 0.1
PATH = "/predict?top_k=3"
PHOTOS = 64  # messages, of one photograph
TRAFFIC = {
    "digit": lambda: behind_nginx([Upload(image, "image/png") for image in digit_pngs()], PATH),
    "photo": lambda: behind_nginx([Upload(photo_jpeg(), "image/jpeg")] * PHOTOS, PATH),
}
"""Requests as they come through a proxy: each digit is another, and each request has its own ids."""

METHOD = (
    "both servers stand, and bursts of seconds follow each other, in changing order: two neighbours are a pair; in "
    "each round both are started anew; the ratio is the median of the pairs' ratios; " + BOUND
)
COPIES = re.compile(r'^resnet_shadow_images_total{.*outcome="(\w+)".*} (.+)$', re.MULTILINE)
WARM_S = 2  # in which also the last worker becomes ready

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Side:
    """A checkout, the flags that its server gets, and the module that is run, with what stands before them."""

    home: Path
    flags: tuple[str, ...] = ()
    program: tuple[str, ...] = ("service",)


@dataclass(frozen=True, slots=True)
class Burst:
    """Requests that come for some seconds.

    Attributes:
        messages: what they send in turn, whole HTTP messages.
        connections: how many send the next one once the last is answered.
        seconds: for how long.
        pause_ms: what each connection waits before each request.

    """

    messages: Sequence[bytes]
    connections: int
    seconds: int
    pause_ms: int = 0


@dataclass(frozen=True, slots=True)
class BurstResult:
    """What became of a burst: good answers a second, latency, the server's CPU time for each, and what failed."""

    per_second: float
    p99_ms: float
    cpu_us: float
    failed: int


Pair = tuple[BurstResult, BurstResult]
"""What became of the same burst, or of slots beside each other: this, and what it is compared with."""


class StandingServer:
    """A server that is ready."""

    def __init__(self, url: str, session: Session, scratch: Path) -> None:
        self._url, self._session, self._scratch = url, session, scratch

    def serve(self, burst: Burst) -> BurstResult:
        """Have it answer a burst."""
        meter = Meter(self._session)
        told = replay(
            self._url, burst.messages, burst.connections, burst.seconds, self._scratch, pause_ms=burst.pause_ms
        )
        cpu_us = meter.read().cpu_s / max(1, told.requests) * 1e6
        return BurstResult(told.per_second, told.p99_ms, cpu_us, told.failed)

    def copies(self) -> Counter[str]:
        """Images of its shadow by what became of them."""
        text = urlopen(f"{self._url}/metrics", timeout=START_S).read().decode()
        return Counter({outcome: int(float(n)) for outcome, n in COPIES.findall(text)})


@contextlib.contextmanager
def standing(side: Side, messages: Sequence[bytes], scratch: Path) -> Iterator[StandingServer]:
    """The server of this side, ready and warm, with its log and what a burst needs in `scratch`."""
    command = [sys.executable, "-P", "-m", *side.program, "--port", "0", "--log-format", "json", *side.flags]
    scratch.mkdir(exist_ok=True)
    log = scratch / "log"
    with running_session(command, {"PYTHONPATH": python_path(side.home)}, side.home, log) as session:
        server = StandingServer(_url_once_ready(log), session, scratch)
        server.serve(Burst(messages, connections=8, seconds=WARM_S))
        yield server


def _url_once_ready(log: Path) -> str:
    for _ in range(int(START_S / LOOK_S)):
        events = (json.loads(line) for line in log.read_text().splitlines(keepends=True) if line.endswith("}\n"))
        url = next((str(event["url"]) for event in events if "url" in event), "")
        with contextlib.suppress(OSError, ValueError):  # there is none yet
            if urlopen(f"{url}/readyz", timeout=START_S).status == HTTPStatus.OK:
                return url
        time.sleep(LOOK_S)
    raise SystemExit(f"the server does not become ready:\n{log.read_text()}")


def in_turn(servers: Mapping[Key, StandingServer], burst: Burst, turns: int) -> Iterator[dict[Key, BurstResult]]:
    """Have each server answer the burst once in each turn, in the other order than in the turn before."""
    for turn in range(turns):
        order: Sequence[Key] = list(servers) if turn % 2 else list(servers)[::-1]
        yield {key: servers[key].serve(burst) for key in order}


@dataclass(frozen=True, slots=True)
class BurstRatios:
    """One server beside another under the same bursts; ratios of the first to the second.

    Attributes:
        per_second: good answers a second.
        p99: latency.
        cpu: CPU time for a request.
        failed: requests of the first that failed.

    """

    this_per_second: Spread
    other_per_second: Spread
    per_second: Ratio
    p99: Ratio
    cpu: Ratio
    failed: int

    @classmethod
    def of(cls, pairs: Sequence[Pair]) -> Self:
        """What at least one pair shows."""
        return cls(
            Spread.of([this.per_second for this, _ in pairs]),
            Spread.of([other.per_second for _, other in pairs]),
            Ratio.of([(this.per_second, other.per_second) for this, other in pairs]),
            Ratio.of([(this.p99_ms, other.p99_ms) for this, other in pairs]),
            Ratio.of([(this.cpu_us, other.cpu_us) for this, other in pairs]),
            sum(this.failed for this, _ in pairs),
        )


def report(module: str, pairs: Mapping[int, Sequence[Pair]], other: str, result: str, **told: object) -> None:
    """Print the ratios by connections, and write them as this result with what else is to be told of it."""
    found = {count: BurstRatios.of(of_all) for count, of_all in pairs.items()}
    table = Table("connections", "requests/s", other, "ratio", "at least", "p99, ratio", "CPU, ratio", "failed")
    for count, one in found.items():
        speeds = one.this_per_second.median, one.other_per_second.median
        ratios = one.per_second.median, one.per_second.lower or 0.0, one.p99.median, one.cpu.median
        table.add_row(str(count), *[f"{it:.0f}" for it in speeds], *[f"{it:.3f}" for it in ratios], str(one.failed))
    Console().print(table)
    document: dict[str, object] = serving_surroundings(module) | told
    document |= {f"connections {count}": asdict(one) for count, one in found.items()}
    write_result(result, document)
