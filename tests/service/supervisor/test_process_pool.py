"""What the supervisor does when a start fails in a way that it cannot handle."""

import multiprocessing
import os
from pathlib import Path

from tests.service.served import DEADLINE_S
from tests.service.supervisor.test_supervisor import Played, die, start, supervise_with


class Broken(Played):
    """Its second worker cannot be made, for a reason that no second try can mend."""

    launched = 0

    def launch_worker(self, worker: int) -> multiprocessing.process.BaseProcess:
        self.launched += 1
        if self.launched > 1:
            raise LookupError("a fault of our own")
        return super().launch_worker(worker)


def test_what_the_supervisor_cannot_handle_ends_every_process(repository: Path, tmp_path: Path) -> None:
    supervisor = start(supervise_with, Broken(die, tmp_path / "births"), repository)
    supervisor.join(DEADLINE_S)
    assert supervisor.exitcode == 1


class Short(Played):
    """There is no room for a process, at first."""

    launched = 0

    def launch_worker(self, worker: int) -> multiprocessing.process.BaseProcess:
        self.launched += 1
        if self.launched == 1:
            raise BlockingIOError(os.EX_OSERR, "no room")
        return super().launch_worker(worker)


def test_a_start_that_fails_counts_as_a_death(repository: Path, tmp_path: Path) -> None:
    births = tmp_path / "births"
    supervisor = start(supervise_with, Short(die, births), repository)
    supervisor.join(DEADLINE_S)
    assert supervisor.exitcode == 1
    assert len(births.read_text().splitlines()) == 2
