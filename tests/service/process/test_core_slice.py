import os
import threading
from concurrent.futures import ThreadPoolExecutor

from service.process.core_slice import set_core_slice
from tests.service.core_slices import Scheduled, needs_core_slices

NICENESS, SLICE_NS = 3, 40_000_000


@needs_core_slices
def test_thread_and_those_that_it_begins_have_the_slice_and_keep_their_niceness() -> None:
    def within() -> tuple[Scheduled, Scheduled]:
        os.nice(NICENESS)
        set_core_slice(SLICE_NS)
        with ThreadPoolExecutor(1) as begun:
            return Scheduled.of(threading.get_native_id()), begun.submit(Scheduled.of, 0).result()

    before = Scheduled.of(0)
    with ThreadPoolExecutor(1) as pool:
        own, begun = pool.submit(within).result()
    assert own == begun == Scheduled(os.SCHED_OTHER, before.niceness + NICENESS, SLICE_NS)
    assert Scheduled.of(0) == before


def test_another_scheduler_stays() -> None:
    def within() -> int:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        set_core_slice(SLICE_NS)
        return os.sched_getscheduler(0)

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(within).result() == os.SCHED_BATCH
