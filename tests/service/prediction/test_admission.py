"""Who is let in: slots all or none, bytes counted to the last, and nobody whom the workers cannot serve in time."""

import tracemalloc

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from service.errors import ServiceError, TooLarge, Unavailable
from service.ipc.reports import ModelReport
from service.ipc.shared_state import SharedState
from service.policy import PATIENCE
from service.prediction.admission import Admission, IncomingBody
from service.prediction.wait_estimate import WaitEstimate

SLOTS, BYTES = 5, 100
LEFT_S = 10.0


def shut_admission() -> Admission:
    return Admission(range(SLOTS), BYTES, WaitEstimate(0, SharedState(1, 1), models=1))


def open_admission() -> Admission:
    admission = shut_admission()
    admission.open = True
    return admission


def reason(admission: Admission) -> str:
    with pytest.raises(Unavailable) as error:
        admission.check(LEFT_S)
    return error.value.reason


def test_the_door_says_why_it_is_shut() -> None:
    admission = shut_admission()
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


def test_who_cannot_be_served_in_time_is_refused_and_told_when_to_come_again() -> None:
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


def test_a_declared_body_is_refused_at_its_headers() -> None:
    admission = open_admission()
    with pytest.raises(TooLarge):
        IncomingBody(admission, max_bytes=10, content_length=11)
    arrival = IncomingBody(admission, max_bytes=BYTES, content_length=BYTES)
    arrival.feed(bytes(BYTES))
    with pytest.raises(Unavailable, match="bytes"):
        IncomingBody(admission, max_bytes=10, content_length=1)
    arrival.close()
    IncomingBody(admission, max_bytes=10, content_length=1)


def test_what_is_only_declared_keeps_no_other_out() -> None:
    admission = open_admission()
    silent = [IncomingBody(admission, max_bytes=BYTES, content_length=BYTES) for _ in range(16)]
    arrival = IncomingBody(admission, max_bytes=BYTES, content_length=BYTES)
    arrival.feed(bytes(BYTES))
    assert (arrival.missing_bytes, silent[0].missing_bytes) == (0, BYTES)
    with pytest.raises(Unavailable, match="bytes"):
        silent[0].feed(b"x")


def test_a_chunked_body_is_refused_when_it_grows_too_large() -> None:
    admission = open_admission()
    arrival = IncomingBody(admission, max_bytes=10, content_length=None)
    arrival.feed(b"12345")
    arrival.feed(b"67890")
    assert arrival.content == b"1234567890"
    with pytest.raises(TooLarge):
        arrival.feed(b"!")
    arrival.close()
    IncomingBody(admission, max_bytes=BYTES, content_length=BYTES)


def test_a_body_of_tiny_chunks_takes_no_more_than_its_size() -> None:
    count = 1 << 18
    admission = Admission(range(SLOTS), 4 * count, WaitEstimate(0, SharedState(1, 1), models=1))
    arrival = IncomingBody(admission, max_bytes=4 * count, content_length=None)
    tracemalloc.start()
    try:
        for number in range(count):
            arrival.feed(number.to_bytes(4, "big"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * 4 * count
    assert arrival.content == b"".join(number.to_bytes(4, "big") for number in range(count))
    arrival.close()
    assert admission.bytes_left == 4 * count


class Bodies(RuleBasedStateMachine):
    """Bodies that arrive in pieces, and a count of the bytes they may hold."""

    def __init__(self) -> None:
        super().__init__()
        self.admission = open_admission()
        self.arrivals: list[IncomingBody] = []

    @property
    def left(self) -> int:
        return BYTES - sum(len(arrival.content) for arrival in self.arrivals)

    @rule(length=st.none() | st.integers(0, BYTES + 10))
    def begin(self, length: int | None) -> None:
        try:
            self.arrivals.append(IncomingBody(self.admission, BYTES, length))
        except ServiceError:
            assert length is not None
            assert length > self.left
        else:
            assert (length or 0) <= self.left

    @rule(which=st.integers(0, 9), size=st.integers(0, 40))
    def feed(self, which: int, size: int) -> None:
        if which < len(self.arrivals):
            left = self.left
            try:
                self.arrivals[which].feed(bytes(size))
            except ServiceError:
                assert size > left
                self.close(which)
            else:
                assert size <= left

    @rule(which=st.integers(0, 9))
    def close(self, which: int) -> None:
        if which < len(self.arrivals):
            self.arrivals.pop(which).close()

    @invariant()
    def what_is_left_can_be_had_and_no_more(self) -> None:
        left = self.left
        self.admission.reserve_bytes(left)
        with pytest.raises(Unavailable):
            self.admission.reserve_bytes(1)
        self.admission.return_bytes(left)


TestBodies = Bodies.TestCase
TestBodies.settings = settings(derandomize=True, deadline=None, max_examples=50)
