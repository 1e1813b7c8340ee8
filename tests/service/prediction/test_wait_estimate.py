"""How long a request would wait: what is held, at what images cost by warm-up and under load."""

import pytest

from service.ipc.reports import ModelReport
from service.ipc.shared_state import SharedState
from service.prediction.wait_estimate import WaitEstimate


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
