"""Interleaved rounds: in each, every server is started alone and left idle; then all stand, and are loaded in turn.

A server that has no turn is stopped (SIGSTOP), and so takes no CPU time. What is compared was so measured within
seconds: a machine that others use, too, changes by a fifth within minutes. A disturbance of the machine shows as CPU
time that was used by others.
"""

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.serving import wrk
from benchmarks.serving.floor import BATCHES, FloorSample, measure_floor
from benchmarks.serving.processes import Memory, Meter, Usage
from benchmarks.serving.ratios import BOUND
from benchmarks.serving.servers import START_S, Running, ServerError, ServerSpec, started
from benchmarks.serving.workloads import Workload

METHOD = (
    "all servers stand, stopped (SIGSTOP) but for their turns; those of one turn under the same load are a pair, also "
    "where a start has several turns; the ratio is the median of the pairs' ratios; " + BOUND
)
WARM_UP_CONNECTIONS, WARM_UP_S = 32, 1
DISTURBED_CORES = 0.2  # that others use, from which a round is repeated
SETTLE_S = 1.0  # time between load and the look at an idle server

Load = Callable[[int, int], wrk.WrkResult]
"""Connections and seconds to what wrk saw."""

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
            "wrk_us": 1e6 * load.cpu_s / max(1, load.requests),
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

    @property
    def others_cores(self) -> float:
        """Cores that neither the server nor the load generator used, at the most under any load."""
        return max((sample.usage.others_cores for sample in self.samples), default=0.0)


@dataclass(frozen=True, slots=True)
class Plan:
    """How often and how long."""

    rounds: int
    turns: int
    """Of each server in a round, with all numbers of connections."""
    load_s: int
    idle_s: float
    connections: Sequence[int]
    floor: bool
    """Whether each turn ends with bare loops."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Every visit, and of each turn that has them its bare loops, by batch size; rounds that were repeated apart."""

    visits: list[Visit]
    floors: list[list[FloorSample]]
    disturbed: list[Visit]


def run_rounds(
    workload: Workload, servers: Sequence[ServerSpec], plan: Plan, folder: Path, tell: Callable[[str], None]
) -> Measured:
    """Visit the servers in turn, as often as the plan says, telling what each visit showed; `folder` takes files."""
    measured = Measured([], [], [])
    repeats = plan.rounds  # at most so many in all
    number = 0
    while number < plan.rounds:
        visits, floors = _visit_all(workload, servers, number, plan, folder)
        for line in (*map(str, visits), *map(_floor_line, floors)):
            tell(f"round {number + 1}  {line}")
        if repeats and any(visit.others_cores > DISTURBED_CORES for visit in visits):
            repeats -= 1
            measured.disturbed.extend(visits)
            tell(f"round {number + 1}  again: something else ran beside it")
            continue
        measured.visits.extend(visits)
        measured.floors.extend(floors)
        number += 1
    return measured


@dataclass(slots=True)
class _Standing:
    """A server that stands beside others, and what it has shown; it runs in its turns alone."""

    running: Running
    load: Load
    samples: list[LoadSample] = field(default_factory=list)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Let it run meanwhile."""
        with self.running.explained():
            self.running.session.resume()
            yield
            self.running.session.stop()


@dataclass(frozen=True, slots=True)
class _Alone:
    """A server without another beside it: what it answers, and what it costs without load."""

    answer: str
    cold_start_s: float
    idle_cores: float
    memory: Memory


def _visit_all(
    workload: Workload, servers: Sequence[ServerSpec], number: int, plan: Plan, folder: Path
) -> tuple[list[Visit], list[list[FloorSample]]]:
    """One round, and its bare loops; ServerError if the servers do not answer the same."""
    alone = [_visit_alone(workload, server, plan, folder) for server in servers]
    answers = {server.name: it.answer for server, it in zip(servers, alone, strict=True)}
    if len(set(answers.values())) > 1:
        raise ServerError(f"the servers do not do the same job: they answer {answers}")
    with contextlib.ExitStack() as stack:
        standing = [_stand(stack.enter_context(started(server, workload, folder))[0], folder) for server in servers]
        floors = _load_in_turn(
            standing,
            number,
            plan,
            lambda: [measure_floor(workload, batch, plan.load_s, folder) for batch in BATCHES],
        )
    visits = [
        Visit(server.name, number, it.cold_start_s, it.idle_cores, it.memory, tuple(one.samples))
        for server, it, one in zip(servers, alone, standing, strict=True)
    ]
    return visits, floors


def _visit_alone(workload: Workload, server: ServerSpec, plan: Plan, folder: Path) -> _Alone:
    """Start a server, load it for a moment, after which its memory is looked at, leave it idle, and end it."""
    with started(server, workload, folder) as (running, cold_start_s):
        _load(running, folder)(WARM_UP_CONNECTIONS, WARM_UP_S)
        memory = running.session.memory()
        answer = running.await_answer(START_S)  # some go on with requests whose clients have left
        time.sleep(SETTLE_S)
        began, before = time.perf_counter(), running.session.cpu_s()
        time.sleep(plan.idle_s)
        idle_cores = (running.session.cpu_s() - before) / (time.perf_counter() - began)
        return _Alone(answer, cold_start_s, idle_cores, memory)


def _stand(running: Running, folder: Path) -> _Standing:
    """Load a server for a moment, and stop it until its first turn."""
    one = _Standing(running, _load(running, folder))
    with one.turn():
        one.load(WARM_UP_CONNECTIONS, WARM_UP_S)
    return one


def _load_in_turn(
    standing: Sequence[_Standing], number: int, plan: Plan, measure_floors: Callable[[], list[FloorSample]]
) -> list[list[FloorSample]]:
    """Load all servers with each number of connections before the next, in every other turn the last of them first."""
    floors = []
    for turn in range(number, number + plan.turns):
        for connections in plan.connections:
            for one in standing[::-1] if turn % 2 else standing:
                with one.turn():
                    one.samples.append(_sample(one.running, connections, plan.load_s, one.load))
        if plan.floor:
            floors.append(measure_floors())
    return floors


def _floor_line(samples: Sequence[FloorSample]) -> str:
    rates = (f"batch {sample.batch}: {sample.images_per_s:,.0f}/s" for sample in samples)
    return f"{'floor':<16}{', '.join(rates)}"


def _load(running: Running, folder: Path) -> Load:
    """What sends the workload's traffic to a server, or its one image again and again."""
    if running.workload.traffic:
        messages = running.messages()
        return lambda connections, seconds: wrk.replay(running.url, messages, connections, seconds, folder)
    upload = running.upload()
    return lambda connections, seconds: wrk.drive(running.url, upload, connections, seconds, folder)


def _sample(running: Running, connections: int, seconds: int, load: Load) -> LoadSample:
    running.await_answer(START_S)  # which comes behind what the load before has left in the queues
    batches = _batches(running)
    meter = Meter(running.session)
    result = load(connections, seconds)
    usage = meter.read()
    if batches is not None:
        batches = {bound: count - batches[bound] for bound, count in (_batches(running) or {}).items()}
    return LoadSample(running.server.name, connections, result, usage, batches)


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
