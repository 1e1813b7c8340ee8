"""The time of a thread that works, and of one that waits."""

import threading
import time

from service.batching.loop_time import LoopTime


def test_the_time_of_a_thread_that_works_and_of_one_that_waits() -> None:
    loop_time = LoopTime()
    began_ns = time.thread_time_ns()
    while time.thread_time_ns() - began_ns < 20_000_000:
        pass
    worked = loop_time()
    threading.Event().wait(0.2)
    assert 0 <= loop_time() < worked
