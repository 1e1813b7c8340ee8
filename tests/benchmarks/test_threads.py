import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from benchmarks.threads import Task, looking, ran, tasks_of
from tests.service.served import until

LOOKS = 20
LAG_S = 0.05  # the kernel brings a running thread's times up to date a few hundred times a second
# One thread burns, one sleeps.
PROGRAM = """
import threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
print("ready", flush=True)
while True: pass
"""


@pytest.fixture
def tasks() -> Iterator[list[Task]]:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield sorted(tasks_of([process.pid]), key=lambda task: int(task.name))
        process.kill()


def test_the_thread_that_burns_is_runnable_and_the_one_that_sleeps_is_not(tasks: list[Task]):
    for task, least, most in zip(tasks, (0.9, 0.0), (1.0, 0.1), strict=True):
        with looking([task]) as seen:
            until(lambda seen=seen: len(seen) >= LOOKS, "some looks")
        assert least <= sum(seen) / len(seen) <= most


def test_time_on_a_core_and_time_without_one_are_all_that_a_burning_thread_has(tasks: list[Task]):
    burns, sleeps = tasks
    outer = time.perf_counter()
    before = ran(tasks)
    inner = time.perf_counter()
    until(lambda: ran([burns])[burns].cpu_s - before[burns].cpu_s > 0.5, "some burning")
    inner = time.perf_counter() - inner
    after = ran(tasks)
    outer = time.perf_counter() - outer
    ran_s, waited_s = after[burns].cpu_s - before[burns].cpu_s, after[burns].waited_s - before[burns].waited_s
    assert inner - LAG_S <= ran_s + waited_s <= outer + LAG_S
    assert after[sleeps].cpu_s - before[sleeps].cpu_s < LAG_S
