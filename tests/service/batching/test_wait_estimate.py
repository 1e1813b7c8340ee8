"""How long a request would wait: what is held, at what images cost by warm-up and under load."""

from collections.abc import Callable
from random import Random

import numpy as np
import pytest

from service.batch_costs import best_batch_size
from service.batching.wait_estimate import BatchSizes, WaitEstimate, interpolate
from service.ipc.reports import ModelReport
from service.ipc.shared_state import SharedState
from service.policy import TRIAL_INTERVAL, TRIALS


def measured(*latency_ms: tuple[int, float], model: int = 0) -> ModelReport:
    return ModelReport(model, "ready", batch_latency_ms=latency_ms)


def test_what_batches_take_under_load_corrects_the_estimate() -> None:
    estimate = WaitEstimate(0, SharedState(1, 1), models=2)
    estimate.worker_up(0, [measured((1, 40.0), (2, 60.0), (4, 80.0)), measured((1, 500.0), model=1)])
    estimate.add(0, 50)
    assert estimate.wait_s(0) == pytest.approx(50 * 0.020)
    for _ in range(100):
        estimate.observe(0, 3, 140_000_000)  # 70 ms at warm-up, between two sizes: twice as slow now
        estimate.observe(1, 1, 500_000_000)
    estimate.add(1, 2)
    assert estimate.wait_s(0) == pytest.approx(50 * 0.040 + 2 * 0.5, rel=0.01)


def test_one_batch_that_was_held_up_does_not_have_requests_refused() -> None:
    estimate = WaitEstimate(0, SharedState(1, 1), models=1)
    estimate.worker_up(0, [measured((1, 1.0))])
    estimate.add(0, 100)
    estimate.observe(0, 1, 10_000_000_000)
    assert estimate.wait_s(0) < 0.2
    for _ in range(40):
        estimate.observe(0, 1, 10_000_000_000)
    estimate.add(0, 1)
    assert estimate.wait_s(0) > 100  # but a machine that has become slow is


def test_a_model_waits_for_its_turns_and_not_for_all_that_another_has_queued() -> None:
    estimate = WaitEstimate(0, SharedState(1, 1), models=2)
    estimate.worker_up(0, [measured((1, 10.0)), measured((1, 10.0), model=1)])
    for model in (0, 1):
        estimate.note_demand(model)
    estimate.add(0, 900)
    estimate.add(1, 100)
    assert estimate.wait_s(0) == pytest.approx(10.0)  # in the end it waits for all
    assert estimate.wait_s(1) == pytest.approx(2.0)  # its own second, in turn with the other
    assert estimate.due(1, 256) == 0  # the other holds more than it is due
    assert estimate.due(0, 256) == 156


def test_between_the_sizes_that_were_measured_lie_straight_lines() -> None:
    sizes, ms = (1, 2, 8, 13), (3.0, 5.0, 6.5, 20.0)
    expected = np.interp(range(1, 14), sizes, ms) * 1e6
    assert interpolate(list(zip(sizes, ms, strict=True))) == pytest.approx(expected)
    assert interpolate([]) == []


def test_a_worker_that_cannot_load_a_model_tells_nothing_of_its_cost() -> None:
    estimate = WaitEstimate(0, SharedState(2, 1), models=1)
    estimate.worker_up(0, [measured((1, 40.0))])
    estimate.worker_up(1, [ModelReport(0, "failed", reason="why")])
    estimate.add(0, 10)
    assert estimate.wait_s(0) == pytest.approx(0.2)


def test_a_model_that_is_not_asked_for_is_due_nothing() -> None:
    estimate = WaitEstimate(0, SharedState(1, 1), models=3)
    estimate.note_demand(0)
    estimate.note_demand(1)
    assert (estimate.demand, estimate.due(0, 256)) == (2, 256)


def test_a_worker_that_has_a_model_no_more_tells_nothing_of_its_cost() -> None:
    estimate = WaitEstimate(0, SharedState(1, 1), models=1)
    estimate.worker_up(0, [measured((1, 40.0))])
    estimate.add(0, 10)
    estimate.learn(ModelReport(0, "unloaded"))
    assert estimate.wait_s(0) == 0.0
    estimate.observe(0, 1, 80_000_000)  # of a batch that it ran before
    estimate.learn(measured((1, 40.0)))
    assert estimate.wait_s(0) == pytest.approx(0.4)


def test_the_workers_time_is_shared_by_all_api_processes() -> None:
    state = SharedState(2, 2)
    one, other = (WaitEstimate(api, state, models=1) for api in range(2))
    for estimate in (one, other):
        estimate.worker_up(0, [])
        estimate.worker_up(1, [])
    one.add(0, 100)  # before it is known what they cost
    one.learn(measured((1, 10.0)))
    assert (one.total_s, other.total_s, other.wait_s(0)) == pytest.approx((0.5, 0.5, 0.5))  # two workers


def test_models_that_take_the_place_of_others_are_estimated_anew() -> None:
    """Numbers are used again, and what is held of the models before still counts."""
    estimate = WaitEstimate(0, SharedState(1, 1), models=1)
    estimate.worker_up(0, [measured((1, 10.0))])
    for _ in range(100):
        estimate.observe(0, 1, 30_000_000)
    estimate.note_demand(0)
    estimate.add(0, 10)
    estimate.begin_models(range(1, 3))
    assert (estimate.images(2), estimate.images(3), estimate.holds_none_but(range(1, 3))) == (0, 0, False)
    estimate.learn(measured((1, 20.0), model=1))
    estimate.learn(measured((1, 20.0), model=2))
    assert estimate.due(2, 256) == 0  # neither of the others is asked for
    estimate.note_demand(2)
    assert estimate.demand == 1
    estimate.add(2, 10)
    assert estimate.total_s == pytest.approx(10 * 0.030 + 10 * 0.020, rel=0.01)
    estimate.add(0, -10)
    assert estimate.holds_none_but(range(1, 3))
    estimate.begin_models(range(1))
    assert not estimate.holds_none_but(range(1))
    estimate.learn(measured((1, 10.0)))
    estimate.add(0, 1)
    assert estimate.total_s == pytest.approx(0.010 + 10 * 0.020)  # not as slow as the one that had this number


# Batch sizes

NETWORKS: dict[str, Callable[[int], float]] = {
    "a small one": lambda size: 0.1 + 0.05 * size,
    "a slow one": lambda size: 5 + 60 * size,
    "a slow one whose images become a little cheaper": lambda size: 100 + 60 * size,
    "one whose images fall out of the cache": lambda size: 1 + size * (2 if size <= 8 else 4),
}
"""Milliseconds of a batch by its size, on a machine that does nothing else."""


def report(latency_ms: dict[int, float], most: int = 64) -> ModelReport:
    """Of a warm-up that found this."""
    latency_ns = {size: int(ms * 1e6) for size, ms in latency_ms.items()}
    best = best_batch_size(latency_ns)
    latencies = tuple(latency_ms.items())
    return ModelReport(0, "ready", max_batch_size=best, most_images=most, batch_latency_ms=latencies)


def under_load(sizes: BatchSizes, network: Callable[[int], float], batches: int, waiting: int = 1000) -> list[int]:
    """The sizes of so many batches: as many as wait run together, and every third batch is interrupted."""
    random, ran = Random(0), []
    for _ in range(batches):
        size = min(sizes.limit, waiting)
        interruption_ms = random.choice((0, 0, 20 * random.random()))
        sizes.observe(size, int((network(size) + interruption_ms) * 1e6))
        ran.append(size)
    return ran


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())
def test_a_start_on_a_busy_machine_is_mended_under_load(network: Callable[[int], float]) -> None:
    quiet, busy = BatchSizes(), BatchSizes()
    measured = {size: network(size) for size in (1, 2, 4, 8, 16, 32, 64)}
    quiet.learn(report(measured))
    busy.learn(report({1: network(1), 2: 9 * network(2)}))
    usual = quiet.limit
    assert busy.limit == 1 != usual
    under_load(busy, network, 6 * 2 * (TRIALS + 1) * TRIAL_INTERVAL)
    assert max(set(ran := under_load(busy, network, TRIAL_INTERVAL)), key=ran.count) == usual
    assert busy.paying(0) == quiet.paying(0)


def test_batches_that_have_become_too_large_are_halved() -> None:
    sizes = BatchSizes()
    sizes.learn(report({size: 1 + size for size in (1, 2, 4, 8, 16, 32)}))
    ran = under_load(sizes, NETWORKS["one whose images fall out of the cache"], 90 * TRIAL_INTERVAL)
    assert max(set(ran[-TRIAL_INTERVAL:]), key=ran[-TRIAL_INTERVAL:].count) == 8
    assert sizes.paying(0) == sizes.paying(1000) == 8


def test_one_interval_decides_nothing() -> None:
    sizes, network = BatchSizes(), NETWORKS["a small one"]
    sizes.learn(report({1: 1.0, 2: 9.0}))
    assert max(under_load(sizes, network, TRIALS * TRIAL_INTERVAL)) == 2
    assert max(under_load(sizes, network, 4 * TRIALS * TRIAL_INTERVAL)) >= 4


def test_where_too_few_wait_for_the_largest_nothing_is_compared_with_it() -> None:
    sizes = BatchSizes()
    sizes.learn(report({size: 10 + size for size in (1, 2, 4, 8)}))
    under_load(sizes, lambda size: size, 40 * TRIAL_INTERVAL, waiting=3)  # the smallest would be the best
    assert max(under_load(sizes, lambda size: 10 + size, 2 * TRIAL_INTERVAL)) >= 8


def test_nothing_larger_is_tried_than_waits_or_than_the_engine_runs() -> None:
    few, small = BatchSizes(), BatchSizes()
    few.learn(report({1: 1.0, 2: 9.0}))
    small.learn(report({1: 1.0, 2: 9.0}, most=4))
    assert max(under_load(few, NETWORKS["a small one"], 40 * TRIAL_INTERVAL, waiting=3)) == 3
    assert max(under_load(small, NETWORKS["a small one"], 40 * TRIAL_INTERVAL)) == 4


def test_every_size_below_the_largest_is_tried_in_its_turn() -> None:
    sizes = BatchSizes()
    sizes.learn(report({size: 10 + size for size in (1, 2, 4, 8, 16)}, most=32))
    ran = under_load(sizes, lambda size: 10 + size * (1 if size <= 16 else 4), 20 * TRIAL_INTERVAL)
    assert set(ran) == {1, 2, 4, 8, 16, 32}


def test_batches_under_load_change_the_size_of_the_next() -> None:
    estimate = WaitEstimate(0, SharedState(1, 1), models=1)
    estimate.worker_up(0, [report({1: 10.0, 2: 90.0})])
    sizes = estimate.latencies[0].sizes
    assert (sizes.limit, sizes.paying(0)) == (1, 1)
    batches = iter(range(6 * 2 * (TRIALS + 1) * TRIAL_INTERVAL))
    while sizes.limit < 8 and next(batches, None) is not None:
        estimate.observe(0, sizes.limit, 10_000_000)
    estimate.learn(ModelReport(0, "unloaded"))
    assert sizes.limit == 8


def test_a_size_that_was_set_stays() -> None:
    sizes = BatchSizes()
    sizes.learn(report({1: 1.0, 2: 1.5}, most=2))
    assert set(under_load(sizes, lambda size: 100.0 * size, 40 * TRIAL_INTERVAL)) == {2}


def test_none_is_larger_than_each_worker_can_run() -> None:
    sizes = BatchSizes()
    for most in (8, 4):
        sizes.learn(report({size: 1 + size for size in (1, 2, 4, 8) if size <= most}, most=most))
    assert max(under_load(sizes, NETWORKS["a small one"], 40 * TRIAL_INTERVAL)) == 4


def test_a_worker_that_starts_later_does_not_undo_what_was_found() -> None:
    sizes = BatchSizes()
    sizes.learn(report({1: 1.0, 2: 1.5}))
    sizes.learn(report({1: 1.0, 2: 9.0}))
    assert sizes.limit == 2
