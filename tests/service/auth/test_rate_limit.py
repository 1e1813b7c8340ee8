"""Token buckets against a model of them, in one process and in several."""

import fcntl
import multiprocessing
import os
import random
import signal
from fractions import Fraction

import pytest

from service.auth.rate_limit import GROUP_SIZE, GROUPS, RateLimit
from tests.service.served import DEADLINE_S


class Clock:
    """Time as the test says."""

    def __init__(self) -> None:
        self.ns = 10**12

    def __call__(self) -> int:
        return self.ns


class Bucket:
    """A token bucket as textbooks have it, in exact numbers."""

    def __init__(self, per_s: int, burst: int) -> None:
        self.per_s, self.burst, self.tokens, self.at_ns = per_s, burst, Fraction(burst), 0

    def take(self, now_ns: int) -> Fraction:
        grown = self.tokens + Fraction(now_ns - self.at_ns, 10**9) * self.per_s
        self.tokens, self.at_ns = min(Fraction(self.burst), grown), now_ns
        if self.tokens < 1:
            return (1 - self.tokens) / self.per_s
        self.tokens -= 1
        return Fraction(0)


def test_it_takes_what_a_token_bucket_takes_and_tells_when_there_is_more() -> None:
    for per_s, burst in ((1, 1), (10, 1), (5, 20), (1000, 3)):
        clock, random_ = Clock(), random.Random(per_s)
        limit, bucket = RateLimit(per_s, burst, shared=False, clock_ns=clock), Bucket(per_s, burst)
        bucket.at_ns = clock.ns
        refused = 0
        for _ in range(500):
            clock.ns += int(random_.expovariate(2 * per_s) * 1e9)
            expected = float(bucket.take(clock.ns))
            assert abs(limit.take("one") - expected) < 1e-6
            refused += expected > 0
        assert 0 < refused < 500


def test_who_waits_as_long_as_told_gets_a_token() -> None:
    clock = Clock()
    limit = RateLimit(3, 2, shared=False, clock_ns=clock)
    assert [limit.take("one"), limit.take("one")] == [0, 0]
    for _ in range(20):
        wait_s = limit.take("one")
        assert wait_s > 0
        clock.ns += int(wait_s * 1e9) - 1000
        assert limit.take("one") > 0  # not before
        clock.ns += 1001
        assert limit.take("one") == 0


def test_owners_do_not_share_a_bucket() -> None:
    limit = RateLimit(1, 1, shared=False, clock_ns=Clock())
    assert all(limit.take(f"owner {i}") == 0 for i in range(1000))
    assert all(limit.take(f"owner {i}") > 0 for i in range(1000))


def test_more_owners_than_there_is_room_for_cost_no_memory_and_the_busiest_stay_limited() -> None:
    clock = Clock()
    limit = RateLimit(1, 10, shared=False, clock_ns=clock)
    while limit.take("busy") == 0:
        pass
    for i in range(2 * GROUPS * GROUP_SIZE):
        limit.take(f"passing {i}")
    assert limit.take("busy") > 0


def test_processes_together_take_exactly_what_one_may() -> None:
    limit, burst = RateLimit(1e-6, 2000), 2000  # no token comes back meanwhile
    context = multiprocessing.get_context("fork")
    taken = context.Queue()
    start = context.Barrier(4)

    def take() -> None:
        start.wait()
        taken.put(sum(limit.take("one") == 0 for _ in range(1500)))

    processes = [context.Process(target=take) for _ in range(4)]
    for process in processes:
        process.start()
    counts = [taken.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert sum(counts) == burst
    assert sum(count > 0 for count in counts) > 1


@pytest.mark.parametrize("end", [signal.SIGSTOP, signal.SIGKILL])
def test_a_process_that_stops_or_dies_while_it_takes_holds_up_no_other(end: signal.Signals) -> None:
    limit, context = RateLimit(1, 1), multiprocessing.get_context("fork")
    has_it = context.Event()

    def hold() -> None:
        fcntl.lockf(limit._memory.fd, fcntl.LOCK_EX)  # every group
        has_it.set()
        os.kill(os.getpid(), end)

    holder, taker = context.Process(target=hold), context.Process(target=limit.take, args=("one",))
    holder.start()
    assert has_it.wait(DEADLINE_S)
    taker.start()
    taker.join(DEADLINE_S)
    try:
        assert taker.exitcode == 0
    finally:
        for process in (holder, taker):
            process.kill()
            process.join()
    assert limit.take("one") > 0
