"""Interleaved rounds: in each, every server is started, loaded with each number of connections, left idle, and ended.

What is compared was so measured within the same minutes; a disturbance of the machine hits all servers alike, and
shows as CPU time that was used by others.
"""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving import wrk
from benchmarks.serving.floor import BATCHES, FloorSample, measure_floor
from benchmarks.serving.processes import Memory, Meter, Usage
from benchmarks.serving.servers import START_S, Running, ServerError, ServerSpec, started
from benchmarks.serving.workloads import Workload

WARM_UP_CONNECTIONS, WARM_UP_S = 32, 1
SETTLE_S = 1.0  # time between load and the look at an idle server

_BATCHES = re.compile(r'^resnet_batch_size_bucket{le="([^"]+)",model="([^"]+)"} (\S+)$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class LoadSample:
    """One server under one number of connections in one round."""

    server: str
    connections: int
    load: wrk.WrkResult
    usage: Usage
    batches: dict[str, int] | None
    """How many batches fell into each bucket of the server's own histogram, by upper bound; None for peers."""

    def figures(self) -> dict[str, float]:
        """What is compared between servers."""
        load = self.load
        return {
            "requests_per_s": load.per_second,
            "p50_ms": load.p50_ms,
            "p99_ms": load.p99_ms,
            "cpu_s_per_1000": 1000 * self.usage.cpu_s / max(1, load.requests),
            "failed": load.failed,
            "others_cores": self.usage.others_cores,
        }


@dataclass(frozen=True, slots=True)
class Visit:
    """One server in one round: what it costs without load, and its samples under load."""

    server: str
    round: int
    cold_start_s: float
    idle_cores: float
    memory: Memory
    samples: tuple[LoadSample, ...]

    def __str__(self) -> str:
        rates = (f"{sample.connections}: {sample.load.per_second:,.0f}/s" for sample in self.samples)
        return f"{self.server:<16}{', '.join(rates)}"


@dataclass(frozen=True, slots=True)
class Plan:
    """How often and how long."""

    rounds: int
    load_s: int
    idle_s: float
    connections: Sequence[int]
    floor: bool
    """Whether each round ends with bare loops."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Every visit, and of each round that has them its bare loops, by batch size."""

    visits: list[Visit]
    floors: list[list[FloorSample]]


def run_rounds(
    workload: Workload, servers: Sequence[ServerSpec], plan: Plan, folder: Path, tell: Callable[[str], None]
) -> Measured:
    """Visit the servers in turn, as often as the plan says, telling what each visit showed; `folder` takes files."""
    measured = Measured([], [])
    answers: dict[str, str] = {}
    for number in range(plan.rounds):
        for server in servers:
            with started(server, workload, folder) as (running, cold_start_s):
                answers[server.name] = running.ask()
                visit = _visit(running, number, cold_start_s, plan, folder)
            measured.visits.append(visit)
            tell(f"round {number + 1}  {visit}")
        if len(set(answers.values())) > 1:
            raise ServerError(f"the servers do not do the same job: they answer {answers}")
        if plan.floor:
            measured.floors.append([measure_floor(workload, batch, plan.load_s, folder) for batch in BATCHES])
            rates = (f"batch {sample.batch}: {sample.images_per_s:,.0f}/s" for sample in measured.floors[-1])
            tell(f"round {number + 1}  {'floor':<16}{', '.join(rates)}")
    return measured


def _visit(running: Running, number: int, cold_start_s: float, plan: Plan, folder: Path) -> Visit:
    request = running.server.request(running.workload)
    wrk.drive(running.url, request, WARM_UP_CONNECTIONS, WARM_UP_S, folder)
    samples = tuple(_sample(running, connections, plan.load_s, folder) for connections in plan.connections)
    memory = running.session.memory()
    running.await_answer(START_S)  # some go on with requests whose clients have left
    time.sleep(SETTLE_S)
    began, before = time.perf_counter(), running.session.cpu_s()
    time.sleep(plan.idle_s)
    idle = (running.session.cpu_s() - before) / (time.perf_counter() - began)
    return Visit(running.server.name, number, cold_start_s, idle, memory, samples)


def _sample(running: Running, connections: int, seconds: int, folder: Path) -> LoadSample:
    running.await_answer(START_S)  # which comes behind what the load before has left in the queues
    batches = _batches(running)
    meter = Meter(running.session)
    load = wrk.drive(running.url, running.server.request(running.workload), connections, seconds, folder)
    usage = meter.read()
    if batches is not None:
        batches = {bound: count - batches[bound] for bound, count in (_batches(running) or {}).items()}
    return LoadSample(running.server.name, connections, load, usage, batches)


def _batches(running: Running) -> dict[str, int] | None:
    """How many batches our server has run so far, by the upper bound of the bucket."""
    if not running.server.is_ours:
        return None
    counts, below = {}, 0
    for bound, model, cumulative in _BATCHES.findall(running.get("/metrics")):
        if model == running.workload.artifact.name:
            counts[bound] = int(float(cumulative)) - below
            below = int(float(cumulative))
    return counts
