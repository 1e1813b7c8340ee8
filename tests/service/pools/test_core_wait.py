"""How long a process waits for cores, as the kernel tells it."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from service.pools.core_wait import CoreWait
from tests.service.served import until

PID = 7
PROGRAM = "a (strange) R name"


def tell(proc: Path, state: str, ran_s: float, waited_s: float) -> None:
    """Have the kernel tell this of the process."""
    folder = proc / str(PID) / "task" / str(PID)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stat").write_text(f"{PID} ({PROGRAM}) {state} 1 7 7 0\n")
    (folder / "schedstat").write_text(f"{int(ran_s * 1e9)} {int(waited_s * 1e9)} 3\n")


def test_what_has_been_waited_since_the_last_look_counts(tmp_path: Path) -> None:
    core_wait = CoreWait(tmp_path)
    tell(tmp_path, "R", 1.0, 100.0)
    assert core_wait.look(PID, 0.5) == 0  # what was before
    tell(tmp_path, "R", 1.1, 100.25)
    assert core_wait.look(PID, 0.5) == pytest.approx(0.25)
    tell(tmp_path, "S", 1.1, 100.25)
    assert core_wait.look(PID, 0.5) == 0


def test_a_wait_that_lasts_counts_before_the_kernel_counts_it_and_then_no_more_than_time_has_passed(
    tmp_path: Path,
) -> None:
    core_wait = CoreWait(tmp_path)
    tell(tmp_path, "R", 1.0, 0.0)
    core_wait.look(PID, 0.5)
    assert [core_wait.look(PID, 0.5) for _ in range(3)] == [0.5] * 3
    tell(tmp_path, "R", 1.01, 1.99)
    assert core_wait.look(PID, 0.5) == 0.5


def test_nothing_is_known_of_a_process_that_has_ended_or_of_a_kernel_that_tells_nothing(tmp_path: Path) -> None:
    core_wait = CoreWait(tmp_path)
    assert core_wait.look(PID, 1.0) == core_wait.look(PID, 1.0) == 0
    tell(tmp_path, "R", 1.0, 0.0)
    (tmp_path / str(PID) / "task" / str(PID) / "schedstat").unlink()
    assert core_wait.look(PID, 1.0) == core_wait.look(PID, 1.0) == 0


def test_of_two_busy_programs_on_one_core_each_waits_for_it_until_one_is_stopped() -> None:
    core = [min(os.sched_getaffinity(0))]
    programs = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(2)]
    core_wait = CoreWait()
    try:
        for program in programs:
            os.sched_setaffinity(program.pid, core)
        until(lambda: core_wait.look(programs[0].pid, 10.0) > 0.01, "a wait")
        programs[0].send_signal(signal.SIGSTOP)
        until(lambda: core_wait.look(programs[0].pid, 10.0) == 0, "no wait any more")
    finally:
        for program in programs:
            program.kill()
            program.wait()
