"""More load than a server can bear, open loop: what gets through, what is refused and how, and who still answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.serving import open_loop, wrk
from benchmarks.serving.open_loop import BROKEN, NOT_SENT, OK, REFUSED, UNANSWERED, Arrivals, Ledger, Outcome
from benchmarks.serving.processes import Meter
from benchmarks.serving.servers import START_S, Running, ServerSpec, started
from benchmarks.serving.workloads import Workload

DEADLINE_S = 2.0  # time a client waits; ours is told, the other servers know no deadlines
RAMP_S = 2.0  # time at the start that does not count
KEPT, NEW = "kept", "new"
CONNECTIONS = 2048
"""At a time, twice what our queue holds; KEPT for the whole load, or NEW for each request."""
PROBES = ("/livez", "/readyz", "/metrics")
_GRACE_S = 5.0
_NAMES = {BROKEN: "broken", UNANSWERED: "unanswered", NOT_SENT: "not sent"}


@dataclass(frozen=True, slots=True)
class Probe:
    """How a route for machines fared meanwhile."""

    asked: int
    failed: int
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Overload:
    """One server under one multiple of its capacity in one round."""

    server: str
    round: int
    factor: float
    connections: str
    """KEPT or NEW."""
    peak_per_s: float
    """Requests a second of a closed loop, just before."""
    offered_per_s: float
    good_per_s: float
    """Requests a second that were answered 200 within the deadline."""
    admitted: int
    """Requests that were not refused: answered otherwise, or not at all."""
    admitted_p50_ms: float
    admitted_p99_ms: float
    """Percentiles of the admitted requests that were answered."""
    refused: int
    refused_without_retry_after: int
    refused_p50_ms: float
    """From when they were sent."""
    statuses: dict[str, int]
    late_p99_ms: float
    """How far the generator was behind its schedule."""
    sender_cores: float
    """Cores that sending took."""
    others_cores: float
    """Cores used by neither the server nor the generator."""
    probes: dict[str, Probe]

    @property
    def of_peak(self) -> float:
        """Goodput as a part of the peak."""
        return self.good_per_s / self.peak_per_s

    @property
    def neither_done_nor_refused(self) -> int:
        """Requests that ended otherwise than with 200 or a refusal, of those that were sent."""
        fair = {str(OK), *map(str, REFUSED), _NAMES[NOT_SENT]}
        return sum(count for status, count in self.statuses.items() if status not in fair)

    @property
    def probes_failed(self) -> int:
        """Probes that were not answered 200."""
        return sum(probe.failed for probe in self.probes.values())

    @property
    def probes_p99_ms(self) -> float:
        """Of the route that fared worst."""
        return max((probe.p99_ms for probe in self.probes.values()), default=0.0)


@dataclass(frozen=True, slots=True)
class OverloadPlan:
    """How often, how long, and how much too much."""

    rounds: int
    peak_s: int
    load_s: float
    factors: Sequence[float]
    peak_connections: int = 32
    connections: Sequence[str] = (KEPT,)


def run_overloads(
    workload: Workload, servers: Sequence[ServerSpec], plan: OverloadPlan, folder: Path, tell: Callable[[str], None]
) -> list[Overload]:
    """Overload each server in turn, each time a fresh one, by each factor; `folder` takes files."""
    found = []
    for number, factor, connections, server in product(range(plan.rounds), plan.factors, plan.connections, servers):
        with started(server, workload, folder) as (running, _):
            found.append(_overload(running, number, factor, connections, plan, folder))
            running.await_answer(START_S)  # it must come back, or this raises
        of_peak = f"{factor:g} x, {connections} connections: goodput {found[-1].of_peak:.2f} of the peak"
        tell(f"round {number + 1}  {server.name:<16}{of_peak}")
    return found


def _overload(
    running: Running, number: int, factor: float, connections: str, plan: OverloadPlan, folder: Path
) -> Overload:
    server, messages = running.server, [with_deadline(message) for message in running.messages()]
    peak = wrk.replay(running.url, messages, plan.peak_connections, plan.peak_s, folder).per_second
    due = open_loop.poisson_times(factor * peak, RAMP_S + plan.load_s, seed=number)
    load = Arrivals(messages, due, CONNECTIONS, is_kept=connections == KEPT)
    meter = Meter(running.session)
    outcome = open_loop.run(running.port, load, PROBES if server.is_ours else (), DEADLINE_S + _GRACE_S)
    return summarise(server.name, number, factor, connections, peak, outcome, meter.read().others_cores)


def with_deadline(message: bytes) -> bytes:
    """The same request with the time that its client waits."""
    return message.replace(b"\r\n", b"\r\nX-Request-Timeout-Ms: %d\r\n" % (1000 * DEADLINE_S), 1)


def summarise(
    server: str, number: int, factor: float, connections: str, peak: float, outcome: Outcome, others_cores: float
) -> Overload:
    """What a ledger says, without its ramp."""
    ledger = outcome.load
    counted = ledger.due >= RAMP_S
    seconds = float(ledger.due[-1]) - RAMP_S
    refused = counted & np.isin(ledger.status, REFUSED)
    admitted = counted & ~refused & (ledger.status != NOT_SENT)
    good = counted & (ledger.status == OK) & (ledger.latency <= DEADLINE_S)
    answered = admitted & ~np.isin(ledger.status, (BROKEN, UNANSWERED))
    return Overload(
        server,
        number,
        factor,
        connections,
        peak,
        offered_per_s=float(counted.sum()) / seconds,
        good_per_s=float(good.sum()) / seconds,
        admitted=int(admitted.sum()),
        admitted_p50_ms=_percentile_ms(ledger.latency[answered], 50),
        admitted_p99_ms=_percentile_ms(ledger.latency[answered], 99),
        refused=int(refused.sum()),
        refused_without_retry_after=int((refused & ~ledger.retry_after).sum()),
        refused_p50_ms=_percentile_ms((ledger.done - ledger.sent)[refused], 50),
        statuses=_statuses(ledger.status[counted]),
        late_p99_ms=_percentile_ms((ledger.sent - ledger.due)[counted & ~np.isnan(ledger.sent)], 99),
        sender_cores=outcome.sender_cpu_s / float(ledger.due[-1]),
        others_cores=others_cores,
        probes={path: _probe(asked) for path, asked in outcome.probes.items()},
    )


def _statuses(status: NDArray[np.int64]) -> dict[str, int]:
    values, counts = np.unique(status, return_counts=True)
    return {_NAMES.get(int(value), str(value)): int(count) for value, count in zip(values, counts, strict=True)}


def _probe(ledger: Ledger) -> Probe:
    answered = ledger.status == OK
    return Probe(len(answered), int((~answered).sum()), _percentile_ms(ledger.latency[answered], 99))


def _percentile_ms(seconds: NDArray[np.float64], percent: float) -> float:
    return float(np.percentile(seconds, percent)) * 1e3 if len(seconds) else 0.0
