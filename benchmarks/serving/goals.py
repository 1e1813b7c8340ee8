"""What the server sets out to reach, and whether a run shows it: a ratio counts when its lower bound holds it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.serving.overload import DEADLINE_S, KEPT, Overload
from benchmarks.serving.ratios import Ratio
from benchmarks.serving.results import OURS, Results

STOCK, MOSEC = "litserve", "mosec"
_OF_MOSEC = {"requests_per_s": 1.2, "p99_ms": 1.0, "cpu_s_per_1000": 1 / 0.75}
IDLE_PERCENT, COLD_START_S, LONE_P50_MS = 0.3, 3.0, 0.8
REFUSED_P50_MS, PROBE_P99_MS = 50, 100
FLAT = 0.9  # share of the peak rate that must remain from 32 connections on


@dataclass(frozen=True, slots=True)
class Goal:
    """A goal, what was measured, and whether that is enough."""

    text: str
    measured: str
    met: bool


def goals_of(results: Results) -> list[Goal]:
    """All goals that this run could show."""
    if OURS not in results.servers:
        return []
    found = [*_against_stock(results), *_against_mosec(results), *_alone(results)]
    if results.floor() and results.workload.name == "photo":
        found += [_ratio_goal(f"of the floor at {n}", results.of_floor(n), 0.90) for n in results.plan.connections]
    return found


def goals_of_overloads(overloads: Sequence[Overload], least_goodput: float) -> list[Goal]:
    """What overload over kept connections must not do to us, in the worst of all rounds; goodput in the median one."""
    found = []
    over = [one for one in overloads if one.server == OURS and one.factor > 1 and one.connections == KEPT]
    for factor in dict.fromkeys(overload.factor for overload in over):
        ours = [overload for overload in over if overload.factor == factor]
        goodput = median(overload.of_peak for overload in ours)
        text = f"{factor:g} x: goodput, of the peak: >= {least_goodput}"
        found.append(Goal(text, f"{goodput:.2f}", goodput >= least_goodput))
        for text, worst, limit in (
            ("p99 of the admitted, ms", max(overload.admitted_p99_ms for overload in ours), 1e3 * DEADLINE_S),
            ("median of the refused, ms", max(overload.refused_p50_ms for overload in ours), REFUSED_P50_MS),
            ("refused without Retry-After", max(overload.refused_without_retry_after for overload in ours), 0),
            ("neither 200 nor 503", max(overload.neither_done_nor_refused for overload in ours), 0),
            ("probes failed", max(overload.probes_failed for overload in ours), 0),
            ("p99 of the probes, ms", max(overload.probes_p99_ms for overload in ours), PROBE_P99_MS),
        ):
            found.append(_limit_goal(f"{factor:g} x: {text}", worst, limit))
    return found


def _against_stock(results: Results) -> Iterator[Goal]:
    if results.workload.name != "mnist" or STOCK not in results.servers:
        return
    for connections in {32, 128}.intersection(results.plan.connections):
        text = f"requests_per_s at {connections}, times better than stock LitServe"
        yield _ratio_goal(text, results.ratio(STOCK, connections, "requests_per_s"), 12.0)


def _against_mosec(results: Results) -> Iterator[Goal]:
    settings = [server for server in results.servers if server.startswith(MOSEC)]
    for connections in [n for n in results.plan.connections if n >= 32] if settings else ():
        better = max(settings, key=lambda server: results.spread(server, connections, "requests_per_s").median)
        for figure, least in _OF_MOSEC.items():
            text = f"{figure} at {connections}, times better than {better}, mosec's better setting"
            yield _ratio_goal(text, results.ratio(better, connections, figure), least)


def _alone(results: Results) -> Iterator[Goal]:
    unloaded = results.unloaded(OURS)
    yield _limit_goal("cold start to first 200, s", unloaded["cold_start_s"].median, COLD_START_S)
    yield _limit_goal("idle, % of a core", unloaded["idle_percent_of_a_core"].median, IDLE_PERCENT)
    if results.workload.name == "mnist" and 1 in results.plan.connections:
        yield _limit_goal("a lone request's p50, ms", results.spread(OURS, 1, "p50_ms").median, LONE_P50_MS)
    failed = sum(sample.load.failed for n in results.plan.connections for sample in results.samples(OURS, n))
    yield Goal("no request fails", f"{failed} failed", not failed)
    rates = {n: results.spread(OURS, n, "requests_per_s").median for n in results.plan.connections}
    crowded = [rate for n, rate in rates.items() if n >= 32]
    if len(crowded) > 1:
        part = min(crowded) / max(rates.values())
        yield Goal(f"requests/s from 32 connections on, of the peak: >= {FLAT}", f"{part:.2f}", part >= FLAT)


def _ratio_goal(text: str, ratio: Ratio, least: float) -> Goal:
    bound = "too few rounds for a bound" if ratio.lower is None else f"lower bound {ratio.lower:.2f}"
    met = ratio.lower is not None and ratio.lower >= least
    return Goal(f"{text}: >= {least:g}", f"{ratio.median:.2f}, {bound}", met)


def _limit_goal(text: str, value: float, limit: float) -> Goal:
    return Goal(f"{text}: <= {limit:g}", f"{value:.2f}", value <= limit)
