"""Who is let in: slots all or none, bytes counted to the last."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from service.admission import Admission, Arrival
from service.errors import ServiceError, TooLarge, Unavailable

SLOTS, BYTES = 5, 100


def open_admission() -> Admission:
    admission = Admission(SLOTS, BYTES)
    admission.open = True
    return admission


def reason(admission: Admission) -> str:
    with pytest.raises(Unavailable) as error:
        admission.check()
    return error.value.reason


def test_the_door_says_why_it_is_shut() -> None:
    admission = Admission(SLOTS, BYTES)
    assert reason(admission) == "loading"
    admission.open = True
    admission.check()
    slots = admission.acquire(SLOTS)
    assert reason(admission) == "full"
    admission.release(slots[0])
    admission.check()
    admission.draining = True
    assert reason(admission) == "draining"


def test_slots_are_given_all_or_none() -> None:
    admission = open_admission()
    first = admission.acquire(3)
    with pytest.raises(Unavailable):
        admission.acquire(3)
    rest = admission.acquire(2)
    assert sorted(first + rest) == list(range(SLOTS))
    with pytest.raises(TooLarge):
        admission.acquire(SLOTS + 1)  # waiting would not help


def test_few_requests_touch_few_slots() -> None:
    admission = open_admission()
    for _ in range(100):
        (slot,) = admission.acquire(1)
        assert slot == 0
        admission.release(slot)


def test_a_declared_body_is_refused_at_its_headers() -> None:
    admission = open_admission()
    with pytest.raises(TooLarge):
        Arrival(admission, max_bytes=10, content_length=11)
    arrival = Arrival(admission, max_bytes=BYTES, content_length=BYTES)
    with pytest.raises(Unavailable, match="bytes"):
        Arrival(admission, max_bytes=10, content_length=1)
    arrival.close()
    Arrival(admission, max_bytes=10, content_length=1)


def test_a_chunked_body_is_refused_when_it_grows_too_large() -> None:
    admission = open_admission()
    arrival = Arrival(admission, max_bytes=10, content_length=None)
    arrival.feed(b"12345")
    arrival.feed(b"67890")
    assert arrival.body == b"1234567890"
    with pytest.raises(TooLarge):
        arrival.feed(b"!")
    arrival.close()
    Arrival(admission, max_bytes=BYTES, content_length=BYTES)


class Bodies(RuleBasedStateMachine):
    """Bodies that arrive in pieces, and a count of the bytes they may hold."""

    def __init__(self) -> None:
        super().__init__()
        self.admission = open_admission()
        self.arrivals: list[tuple[Arrival, int]] = []  # with the bytes that each has been promised

    @rule(length=st.none() | st.integers(0, BYTES + 10))
    def begin(self, length: int | None) -> None:
        left = BYTES - sum(promised for _, promised in self.arrivals)
        try:
            self.arrivals.append((Arrival(self.admission, BYTES, length), length or 0))
        except ServiceError:
            assert length is not None
            assert length > left
        else:
            assert (length or 0) <= left

    @rule(which=st.integers(0, 9), size=st.integers(0, 40))
    def feed(self, which: int, size: int) -> None:
        if which < len(self.arrivals):
            arrival, promised = self.arrivals[which]
            needed = max(promised, len(arrival.body) + size)
            left = BYTES - sum(other for _, other in self.arrivals) + promised
            try:
                arrival.feed(bytes(size))
            except ServiceError:
                assert needed > left
                self.close(which)
            else:
                self.arrivals[which] = arrival, needed

    @rule(which=st.integers(0, 9))
    def close(self, which: int) -> None:
        if which < len(self.arrivals):
            self.arrivals.pop(which)[0].close()

    @invariant()
    def what_is_left_can_be_had_and_no_more(self) -> None:
        left = BYTES - sum(promised for _, promised in self.arrivals)
        self.admission.reserve_bytes(left)
        with pytest.raises(Unavailable):
            self.admission.reserve_bytes(1)
        self.admission.return_bytes(left)


TestBodies = Bodies.TestCase
TestBodies.settings = settings(derandomize=True, deadline=None, max_examples=50)
