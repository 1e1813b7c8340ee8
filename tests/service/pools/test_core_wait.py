"""How long a process waits for cores, as the kernel tells it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.pools.core_wait import CoreWait
from tests.service.served import until

PID = 7
needs_schedstat = pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="this kernel tells no waits")


def set_waits(proc: Path, **waits_s: float) -> None:
    """Have the process's threads of these numbers have waited for so long."""
    for thread, waited_s in waits_s.items():
        folder = proc / str(PID) / "task" / thread.removeprefix("t")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "schedstat").write_text(f"500 {int(waited_s * 1e9)} 3\n")


def test_the_thread_that_has_waited_most_since_the_last_look_counts(tmp_path: Path) -> None:
    core_wait = CoreWait(tmp_path)
    set_waits(tmp_path, t7=100.0, t8=3.0)
    assert core_wait.look(PID) == 0  # what was before
    set_waits(tmp_path, t7=100.25, t8=4.5, t9=50.0)  # the last one is new
    assert core_wait.look(PID) == pytest.approx(1.5)
    assert core_wait.look(PID) == 0
    set_waits(tmp_path, t7=200.0)
    core_wait.forget()
    assert core_wait.look(PID) == 0


def test_nothing_is_known_of_a_process_that_has_ended_or_of_a_kernel_that_tells_nothing(tmp_path: Path) -> None:
    core_wait = CoreWait(tmp_path)
    assert core_wait.look(None) == core_wait.look(PID) == 0
    set_waits(tmp_path, t7=1.0)
    (tmp_path / str(PID) / "task" / "7" / "schedstat").unlink()
    assert core_wait.look(PID) == 0


@needs_schedstat
def test_two_busy_programs_on_one_core_wait_for_it() -> None:
    core = [min(os.sched_getaffinity(0))]
    programs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        for program in programs:
            os.sched_setaffinity(program.pid, core)
        core_wait = CoreWait()
        until(lambda: core_wait.look(programs[0].pid) > 0, "a wait")
    finally:
        for program in programs:
            program.kill()
            program.wait()
