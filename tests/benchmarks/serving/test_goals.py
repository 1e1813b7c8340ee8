from dataclasses import replace

from benchmarks.serving.goals import Goal, goals_of, goals_of_overloads
from benchmarks.serving.overload import NEW
from benchmarks.serving.results import Results
from benchmarks.serving.rounds import Measured, Plan
from benchmarks.serving.workloads import Workload
from tests.benchmarks.serving.measured import CONNECTIONS, overload, visit

STOCK = f"requests_per_s at {CONNECTIONS}, times better than stock LitServe: >= 12"


def goals(workload: Workload, ours: list[float], *, failed: int = 0, cold_start_s: float = 2.0) -> dict[str, Goal]:
    """Beside LitServe's 100 requests a second, by their texts."""
    plan = Plan(len(ours), turns=1, load_s=1, idle_s=1.0, connections=(CONNECTIONS,), floor=False)
    visits = [visit("ours", n, rate, failed=failed, cold_start_s=cold_start_s) for n, rate in enumerate(ours)]
    visits += [visit("litserve", n, 100.0) for n in range(len(ours))]
    digit = replace(workload, name="mnist")
    return {goal.text: goal for goal in goals_of(Results(digit, plan, Measured(visits, [], [])))}


def test_a_ratio_is_reached_when_its_lower_bound_is(workload: Workload):
    assert goals(workload, [900, 1200, 1200, 1200, 1200, 1200, 1200])[STOCK].met  # the bound is the second smallest
    missed = goals(workload, [900, 900, 1200, 1200, 1200, 1200, 1200])[STOCK]
    assert (missed.measured, missed.met) == ("12.00, lower bound 9.00", False)


def test_too_few_rounds_show_nothing(workload: Workload):
    found = goals(workload, [2000, 2000, 2000])[STOCK]
    assert (found.measured, found.met) == ("20.00, too few rounds for a bound", False)


def test_a_limit_is_reached_by_the_median(workload: Workload):
    assert goals(workload, [1000] * 3, cold_start_s=3.0)["cold start to first 200, s: <= 3"].met
    assert not goals(workload, [1000] * 3, cold_start_s=3.1)["cold start to first 200, s: <= 3"].met


def test_one_failure_is_too_many(workload: Workload):
    assert goals(workload, [1000])["no request fails"].met
    assert goals(workload, [1000, 1000], failed=1)["no request fails"] == Goal("no request fails", "2 failed", False)


def test_in_overload_the_worst_round_counts_and_goodput_in_the_median_one():
    rounds = [
        overload(0, 960.0),
        overload(1, 400.0, admitted_p99_ms=2001.0),
        overload(2, 970.0, refused_without_retry_after=1, statuses={"200": 900, "503": 99, "500": 1}),
        overload(0, 100.0, server="litserve"),
        overload(0, 100.0, connections=NEW),
    ]
    met = {goal.text.removeprefix("2 x: "): goal.met for goal in goals_of_overloads(rounds, 0.9)}
    assert met == {
        "goodput, of the peak: >= 0.9": True,
        "p99 of the admitted, ms: <= 2000": False,
        "median of the refused, ms: <= 50": True,
        "refused without Retry-After: <= 0": False,
        "neither 200 nor 503: <= 0": False,
        "probes failed: <= 0": True,
        "p99 of the probes, ms: <= 100": True,
    }
