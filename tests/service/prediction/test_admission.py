"""Which requests are admitted: slots all or none, bytes counted to the last, none that would be late."""

import pytest

from service.errors import TooLarge, Unavailable
from service.ipc.reports import ModelReport
from service.ipc.shared_state import SharedState
from service.policy import PATIENCE
from service.prediction.admission import Admission
from service.prediction.wait_estimate import WaitEstimate

SLOTS, BYTES = 5, 100
LEFT_S = 10.0


def closed_admission() -> Admission:
    return Admission(range(SLOTS), BYTES, WaitEstimate(0, SharedState(1, 1), models=1))


def open_admission() -> Admission:
    admission = closed_admission()
    admission.open = True
    return admission


def reason(admission: Admission) -> str:
    with pytest.raises(Unavailable) as error:
        admission.check(LEFT_S)
    return error.value.reason


def test_a_refusal_says_why() -> None:
    admission = closed_admission()
    assert reason(admission) == "loading"
    admission.open = True
    admission.check(LEFT_S)
    slots = admission.acquire(SLOTS, 0, LEFT_S)
    assert reason(admission) == "full"
    admission.release((slots[0],))
    admission.check(LEFT_S)
    admission.draining = True
    assert reason(admission) == "draining"


def test_slots_are_given_all_or_none() -> None:
    admission = open_admission()
    first = admission.acquire(3, 0, LEFT_S)
    with pytest.raises(Unavailable):
        admission.acquire(3, 0, LEFT_S)
    rest = admission.acquire(2, 0, LEFT_S)
    assert sorted(first + rest) == list(range(SLOTS))
    with pytest.raises(TooLarge):
        admission.acquire(SLOTS + 1, 0, LEFT_S)  # waiting would not help


def test_few_requests_touch_few_slots() -> None:
    admission = open_admission()
    for _ in range(100):
        (slot,) = admission.acquire(1, 0, LEFT_S)
        assert slot == 0
        admission.release((slot,))


def measured(*latency_ms: tuple[int, float], model: int = 0) -> ModelReport:
    return ModelReport(model, "ready", batch_latency_ms=latency_ms)


def refused(admission: Admission, left_s: float) -> Unavailable:
    with pytest.raises(Unavailable) as error:
        admission.check(left_s)
    with pytest.raises(Unavailable):
        admission.acquire(1, 0, left_s)
    return error.value


def test_a_request_that_cannot_be_answered_in_time_is_refused_and_told_when_to_come_again() -> None:
    estimate = WaitEstimate(0, SharedState(1, 1), models=1)
    admission = Admission(range(SLOTS), BYTES, estimate)
    admission.open = True
    estimate.worker_up(0, [measured((1, 1000.0))])
    slots = admission.acquire(4, 0, LEFT_S)  # four seconds of work
    admission.check(4 / PATIENCE)
    error = refused(admission, 1.0)
    assert (error.reason, error.retry_after_s) == ("full", 4)
    estimate.worker_up(1, [measured((1, 1000.0))])  # two workers: two seconds
    admission.check(2 / PATIENCE)
    estimate.worker_down(1)
    refused(admission, 2 / PATIENCE)
    for slot in slots[:3]:
        admission.release((slot,))
    admission.check(1 / PATIENCE)


def test_an_empty_server_tries_however_short_the_time() -> None:
    shared_state = SharedState(1, 2)
    estimates = [WaitEstimate(api, shared_state, models=1) for api in range(2)]
    busy, idle = (Admission(range(SLOTS), BYTES, estimate) for estimate in estimates)
    for estimate, admission in zip(estimates, (busy, idle), strict=True):
        estimate.worker_up(0, [measured((1, 1000.0))])
        admission.open = True
    idle.check(0.001)
    busy.acquire(3, 0, LEFT_S)
    idle.check(0.001)
    idle.acquire(1, 0, LEFT_S)
    refused(idle, 3.9)  # it shares the worker with the other: both count
