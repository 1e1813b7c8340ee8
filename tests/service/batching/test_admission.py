"""Which requests are admitted: slots all or none, bytes counted to the last, none that would be late."""

import tracemalloc

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from service.batching.admission import Admission, IncomingBody
from service.batching.decode_estimate import DecodeEstimate
from service.batching.decode_memory import DecodeMemory
from service.batching.wait_estimate import WaitEstimate
from service.errors import DeadlineExceeded, ServiceError, TooLarge, Unavailable
from service.ipc.reports import ModelReport
from service.ipc.shared_state import SharedState
from service.policy import WAIT_SHARE

SLOTS, BYTES = 5, 100
LEFT_S = 10.0


def closed_admission(max_bytes: int = BYTES, estimate: WaitEstimate | None = None) -> Admission:
    estimate = estimate or WaitEstimate(0, SharedState(1, 1), models=1)
    return Admission(range(SLOTS), max_bytes, estimate, DecodeEstimate(1, DecodeMemory(0)))


def open_admission() -> Admission:
    admission = closed_admission()
    admission.open = True
    return admission


def reason(admission: Admission) -> str:
    with pytest.raises(Unavailable) as error:
        admission.check(0, LEFT_S)
    return error.value.reason


def test_a_refusal_says_why() -> None:
    admission = closed_admission()
    assert reason(admission) == "loading"
    admission.open = True
    admission.check(0, LEFT_S)
    slots = admission.acquire(SLOTS, 0, LEFT_S)
    assert reason(admission) == "full"
    admission.release((slots[0],))
    admission.check(0, LEFT_S)
    admission.draining = True
    assert reason(admission) == "draining"


def test_without_a_worker_clients_are_told_what_a_start_takes() -> None:
    admission = open_admission()
    admission.restart_s = 6.2
    with pytest.raises(Unavailable) as error:
        admission.check(0, LEFT_S)
    assert (error.value.reason, error.value.retry_after_s) == ("worker_lost", 7)
    admission.restart_s = None
    admission.check(0, LEFT_S)


def test_what_came_to_the_event_loop_too_late_is_counted_and_nothing_else() -> None:
    estimate = WaitEstimate(0, SharedState(1, 1), models=1)
    admission = closed_admission(estimate=estimate)
    with pytest.raises(DeadlineExceeded):
        admission.check(0, left_s=0.0, late_s=1.0)
    admission.open = True
    with pytest.raises(Unavailable):
        admission.check(0, left_s=1.0, late_s=0.99)
    assert admission.late == 2
    estimate.worker_up(0, [measured((1, 1000.0))])
    admission.acquire(4, 0, LEFT_S)
    with pytest.raises(Unavailable):
        admission.check(0, left_s=1.0, late_s=0.01)  # it would have to wait for others
    assert admission.late == 2


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
        admission.check(0, left_s)
    with pytest.raises(Unavailable):
        admission.acquire(1, 0, left_s)
    return error.value


def test_a_request_that_cannot_be_answered_in_time_is_refused_and_told_when_to_come_again() -> None:
    estimate = WaitEstimate(0, SharedState(1, 1), models=1)
    admission = closed_admission(estimate=estimate)
    admission.open = True
    estimate.worker_up(0, [measured((1, 1000.0))])
    slots = admission.acquire(4, 0, LEFT_S)  # four seconds of work
    admission.check(0, 4 / WAIT_SHARE)
    error = refused(admission, 1.0)
    assert (error.reason, error.retry_after_s) == ("full", 4)
    estimate.worker_up(1, [measured((1, 1000.0))])  # two workers: two seconds
    admission.check(0, 2 / WAIT_SHARE)
    estimate.worker_down(1)
    refused(admission, 2 / WAIT_SHARE)
    for slot in slots[:3]:
        admission.release((slot,))
    admission.check(0, 1 / WAIT_SHARE)


def test_an_empty_server_tries_however_short_the_time() -> None:
    shared_state = SharedState(1, 2)
    estimates = [WaitEstimate(api, shared_state, models=1) for api in range(2)]
    busy, idle = (closed_admission(estimate=estimate) for estimate in estimates)
    for estimate, admission in zip(estimates, (busy, idle), strict=True):
        estimate.worker_up(0, [measured((1, 1000.0))])
        admission.open = True
    idle.check(0, 0.001)
    busy.acquire(3, 0, LEFT_S)
    idle.check(0, 0.001)
    idle.acquire(1, 0, LEFT_S)
    refused(idle, 3.9)  # it shares the worker with the other: both count


def test_what_lay_here_for_too_long_is_refused_though_the_workers_have_nothing_to_do() -> None:
    """The event loop is behind: what arrives meanwhile will lie here for as long."""
    admission = open_admission()
    admission.check(0, left_s=1.0, late_s=WAIT_SHARE - 0.01)
    with pytest.raises(Unavailable) as error:
        admission.check(0, left_s=1.0, late_s=WAIT_SHARE + 0.01)
    assert (error.value.reason, error.value.retry_after_s) == ("full", 1)


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


def test_what_a_body_may_become_counts_until_the_images_are_found_and_these_until_its_end() -> None:
    admission = open_admission()
    arrival = IncomingBody(admission, BYTES, content_length=10)
    arrival.feed(bytes(10))
    arrival.reserve(60)
    assert admission.bytes_left == BYTES - 70
    with pytest.raises(Unavailable, match="bytes"):
        arrival.reserve(BYTES - 69)
    arrival.replace(25)
    assert (admission.bytes_left, arrival.content) == (BYTES - 25, b"")
    arrival.close()
    assert admission.bytes_left == BYTES


def test_a_body_that_came_in_parts_is_held_once() -> None:
    admission = closed_admission(1 << 24)
    arrival = IncomingBody(admission, max_bytes=1 << 24, content_length=1 << 22)
    tracemalloc.start()
    try:
        for _ in range(4):
            arrival.feed(bytes(1 << 20))
        content = arrival.content
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert content == bytes(1 << 22)
    assert held < 1.5 * (1 << 22)
    arrival.close()


def test_a_body_of_tiny_chunks_takes_no_more_than_its_size() -> None:
    count = 1 << 18
    admission = closed_admission(4 * count)
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
TestBodies.settings = settings(max_examples=50)


def test_a_model_in_demand_finds_places_although_another_takes_all_it_can_get() -> None:
    estimate = WaitEstimate(0, SharedState(1, 1), models=2)
    admission = Admission(range(100), BYTES, estimate, DecodeEstimate(1, DecodeMemory(0)))
    admission.open = True
    admission.check(1, LEFT_S)
    admission.check(0, LEFT_S)
    for _ in range(75):
        admission.acquire(1, 0, LEFT_S)
    with pytest.raises(Unavailable, match="75 of 100 places are taken"):
        admission.acquire(1, 0, LEFT_S)
    assert len(admission.acquire(25, 1, LEFT_S)) == 25


def test_a_place_that_is_passed_on_counts_for_the_other_model_until_it_is_free() -> None:
    estimate = WaitEstimate(0, SharedState(1, 1), models=2)
    admission = Admission(range(SLOTS), BYTES, estimate, DecodeEstimate(1, DecodeMemory(0)))
    slots = admission.acquire(3, 0, LEFT_S)
    admission.pass_on(slots[0], 1)
    assert [estimate.images(model) for model in (0, 1)] == [2, 1]
    admission.release(slots)
    assert [estimate.images(model) for model in (0, 1)] == [0, 0]


def test_half_is_free_until_more_than_half_is_taken() -> None:
    for slots, most in ((4, 2), (5, 2)):
        estimate = WaitEstimate(0, SharedState(1, 1), 1)
        admission = Admission(range(slots), BYTES, estimate, DecodeEstimate(1, DecodeMemory(0)))
        assert admission.half_is_free
        admission.acquire(most, 0, LEFT_S)
        assert admission.half_is_free
        admission.acquire(1, 0, LEFT_S)
        assert not admission.half_is_free


def test_a_refusal_tells_milliseconds_for_deadlines_may_be_as_short() -> None:
    estimate = WaitEstimate(0, SharedState(1, 1), 1)
    admission = Admission(range(SLOTS), BYTES, estimate, DecodeEstimate(1, DecodeMemory(0)), target_latency_s=0.02)
    admission.open = True
    admission.acquire(1, 0, LEFT_S)
    with pytest.raises(Unavailable, match=r"takes 0\.041 s; this request can wait 0\.020 s at most"):
        admission.check(0, LEFT_S, late_s=0.041)


def test_pictures_that_wait_for_a_decoder_count_and_a_target_below_the_deadline_holds() -> None:
    decoders = DecodeEstimate(2, DecodeMemory(0))
    picture = b"\xff\xd8\xff" + bytes(100_000)
    for _ in range(50):
        decoders.observe(picture, 20_000_000)
    admission = Admission(range(SLOTS), BYTES, WaitEstimate(0, SharedState(1, 1), 1), decoders, target_latency_s=0.5)
    admission.open = True
    admission.acquire(1, 0, LEFT_S)
    costs = [decoders.add(picture) for _ in range(40)]
    assert decoders.wait_s == pytest.approx(0.4, rel=0.01)
    admission.check(0, LEFT_S)
    costs += [decoders.add(picture) for _ in range(20)]
    with pytest.raises(Unavailable, match=r"takes 0\.6\d\d s; this request can wait 0\.500 s at most"):
        admission.check(0, LEFT_S)
    with pytest.raises(
        Unavailable, match=r"takes 0\.6\d\d s; .* 0\.000 s at most, for its images take 20\.000 s to decode"
    ):
        admission.acquire(1, 0, LEFT_S, decoding_s=20.0)
    with pytest.raises(Unavailable):
        admission.acquire(1, 0, LEFT_S, decoding_s=0.001)
    admission.check(0, LEFT_S, needs_decoder=False)
    admission.acquire(1, 0, LEFT_S)
    for cost in costs:
        decoders.remove(cost)
    assert decoders.wait_s == 0
    admission.check(0, LEFT_S)
