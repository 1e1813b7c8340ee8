import json

import pytest

from benchmarks.serving.floor import FloorSample
from benchmarks.serving.ratios import Spread
from benchmarks.serving.results import Results
from benchmarks.serving.rounds import Measured, Plan
from benchmarks.serving.servers import SERVERS
from benchmarks.serving.workloads import Workload
from tests.benchmarks.serving.measured import CONNECTIONS, visit

PLAN = Plan(rounds=3, turns=1, load_s=1, idle_s=1.0, connections=(CONNECTIONS,), floor=True)


@pytest.fixture
def results(workload: Workload) -> Results:
    """Three rounds of ours and of LitServe, and of bare loops."""
    ours = zip((600, 900, 400), (1.0, 3.0, 2.0), ({"1": 5, "8": 0}, {"1": 1, "8": 2}, {"1": 0, "8": 0}), strict=True)
    theirs = zip((100, 300, 50), (4.0, 6.0, 10.0), strict=True)
    visits = [visit("ours", n, rate, p50_ms=p50, batches=sizes) for n, (rate, p50, sizes) in enumerate(ours)]
    visits += [visit("litserve", n, rate, p50_ms=p50, failed=n) for n, (rate, p50) in enumerate(theirs)]
    floors = [
        [FloorSample(1, 2, one, 9.0), FloorSample(8, 2, eight, 5.0)]
        for one, eight in ((800, 1200), (900, 500), (1000, 800))
    ]
    return Results(workload, PLAN, Measured(visits, floors, []))


def test_more_requests_and_less_time_are_both_better(results: Results):
    assert results.ratio("litserve", CONNECTIONS, "requests_per_s").median == 6.0  # of 6, 3 and 8
    assert results.ratio("litserve", CONNECTIONS, "p50_ms").median == 4.0  # of 4, 2 and 5


def test_a_spread_is_over_the_rounds(results: Results):
    assert results.spread("litserve", CONNECTIONS, "requests_per_s") == Spread(100, 50, 300)
    assert results.unloaded("ours")["idle_percent_of_a_core"] == Spread(0.2, 0.2, 0.2)


def test_the_floor_is_the_best_batch_of_each_round(results: Results):
    assert results.of_floor(CONNECTIONS).median == 0.5  # of 600 / 1,200, 900 / 900 and 400 / 1,000
    assert results.floor()[8]["images_per_s"] == Spread(800, 500, 1200)


def test_batches_are_added_up_and_empty_buckets_left_out(results: Results):
    assert results.batches("ours", CONNECTIONS) == {"1": 6, "8": 2}
    assert results.batches("litserve", CONNECTIONS) == {}


def test_the_document_holds_what_was_measured(results: Results):
    document = json.loads(json.dumps(results.document([SERVERS["ours"], SERVERS["litserve"]])))
    assert document["job"] == {
        "name": "photo",
        "image_bytes": 9,
        "different_images": 1,
        "model": "animals",
        "model_sha256": results.workload.artifact.sha256,
    }
    assert {row["server"]: row["failed"] for row in document["loaded"]} == {"ours": 0, "litserve": 3}
    peers = [(row["peer"], row["figure"]) for row in document["ratios"]["times_better"]]
    assert peers == [("litserve", name) for name in ("requests_per_s", "p50_ms", "p99_ms", "cpu_s_per_1000")] + [
        ("floor", "requests_per_s")
    ]
    assert len(document["visits"]) == 6


def test_without_ours_nothing_is_compared(workload: Workload):
    results = Results(workload, PLAN, Measured([visit("litserve", 0, 10)], [], []))
    assert results.document([SERVERS["litserve"]])["ratios"]["times_better"] == []
