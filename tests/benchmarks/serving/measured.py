"""Measurements made up for tests."""

from benchmarks.serving.overload import KEPT, Overload
from benchmarks.serving.processes import Memory, Usage
from benchmarks.serving.rounds import LoadSample, Visit
from benchmarks.serving.wrk import WrkResult

CONNECTIONS = 32


def visit(
    server: str,
    number: int,
    per_s: float,
    *,
    p50_ms: float = 1.0,
    failed: int = 0,
    cold_start_s: float = 2.0,
    batches: dict[str, int] | None = None,
) -> Visit:
    """One server in one round, loaded for a second over 32 connections."""
    load = WrkResult(int(per_s) + failed, 1.0, p50_ms, 2 * p50_ms, 3 * p50_ms, 4 * p50_ms, failed, 0.1)
    sample = LoadSample(server, CONNECTIONS, load, Usage(1.0, 0.05), batches)
    return Visit(server, number, cold_start_s, 0.002, Memory(3, 300.0, 200.0), (sample,))


def overload(
    number: int,
    good_per_s: float,
    *,
    server: str = "ours",
    factor: float = 2.0,
    connections: str = KEPT,
    admitted_p99_ms: float = 900.0,
    refused_without_retry_after: int = 0,
    statuses: dict[str, int] | None = None,
) -> Overload:
    """One round in which a server whose peak is 1,000/s was asked for more."""
    return Overload(
        server,
        number,
        factor,
        connections,
        1000.0,
        offered_per_s=1000 * factor,
        good_per_s=good_per_s,
        admitted=900,
        admitted_p50_ms=500.0,
        admitted_p99_ms=admitted_p99_ms,
        refused=100,
        refused_without_retry_after=refused_without_retry_after,
        refused_p50_ms=2.0,
        statuses=statuses or {"200": 900, "503": 100},
        late_p99_ms=1.0,
        sender_cores=0.1,
        others_cores=0.0,
        probes={},
    )
