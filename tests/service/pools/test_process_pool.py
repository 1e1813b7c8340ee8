"""What the supervisor does when a process cannot be made, and while it drains; which deaths were for want of memory."""

import errno
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from service.ipc.pipe import Pipe
from service.policy import FIRST_STARTS
from service.pools import process_pool
from service.pools.model_set import ModelSet
from service.pools.process_pool import OomKills
from service.pools.reactor import Reactor
from tests.service.served import DEADLINE_S
from tests.service.supervisor.test_supervisor import Played, die, start, supervise_with, wait_for_the_end

DRAIN_S = 5.0


class Broken(Played):
    """Its second worker cannot be made, for a reason that no second try can mend."""

    launched = 0

    def launch_worker(
        self, seat: int, models: ModelSet, wanted: frozenset[int] | None
    ) -> multiprocessing.process.BaseProcess:
        self.launched += 1
        if self.launched > 1:
            raise LookupError("a fault of our own")
        return super().launch_worker(seat, models, wanted)


def test_what_the_supervisor_cannot_handle_ends_every_process(repository: Path, tmp_path: Path) -> None:
    supervisor = start(supervise_with, Broken(die, tmp_path / "births"), repository)
    supervisor.join(DEADLINE_S)
    assert supervisor.exitcode == 1


class Lingering(Played):
    """An API process that takes its time to drain."""

    def launch_api(self, index: int, control: Pipe, models: ModelSet) -> multiprocessing.process.BaseProcess:
        del index, models
        return start(linger, control)


def linger(control: Pipe) -> None:
    wait_for_the_end(control)
    time.sleep(DRAIN_S)


def test_a_restart_that_is_due_does_not_keep_the_supervisor_busy_while_it_drains(
    repository: Path, tmp_path: Path
) -> None:
    births, before = tmp_path / "births", cpu_s()
    supervisor = start(supervise_with, Lingering(die, births), repository)  # gives up, and so drains
    supervisor.join(DEADLINE_S)
    assert supervisor.exitcode == 1
    assert len(births.read_text().splitlines()) == FIRST_STARTS
    assert cpu_s() - before < DRAIN_S / 2


def cpu_s() -> float:
    """CPU time of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Listening(Played):
    """What an API process is told is there before the process is."""

    def launch_api(self, index: int, control: Pipe, models: ModelSet) -> multiprocessing.process.BaseProcess:
        os.set_blocking(control.reader, False)
        self._births.with_name("told").write_bytes(os.read(control.reader, 1 << 16))
        return super().launch_api(index, control, models)


def test_a_failure_to_tell_an_api_process_leaves_none_that_nobody_knows(repository: Path, tmp_path: Path) -> None:
    supervisor = start(supervise_with, Listening(die, tmp_path / "births"), repository)
    supervisor.join(DEADLINE_S)
    assert b'"begin"' in (tmp_path / "told").read_bytes()


class Short(Played):
    """There is no room for a process, at first."""

    launched = 0

    def launch_worker(
        self, seat: int, models: ModelSet, wanted: frozenset[int] | None
    ) -> multiprocessing.process.BaseProcess:
        self.launched += 1
        if self.launched == 1:
            raise BlockingIOError(os.EX_OSERR, "no room")
        return super().launch_worker(seat, models, wanted)


def test_a_start_that_fails_counts_as_a_death(repository: Path, tmp_path: Path) -> None:
    births = tmp_path / "births"
    supervisor = start(supervise_with, Short(die, births), repository)
    supervisor.join(DEADLINE_S)
    assert supervisor.exitcode == 1
    assert len(births.read_text().splitlines()) == 2


def test_a_process_whose_end_could_not_be_noticed_is_ended_and_counts_as_a_death(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel watches no more for this user for a moment (fs.epoll.max_user_watches)."""
    births, watch, launched = tmp_path / "births", Reactor.watch, list[int]()

    def watch_later(reactor: Reactor, fd: int, callback: Callable[[], object]) -> None:
        if births.exists() and not launched:
            launched.append(fd)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        watch(reactor, fd, callback)

    monkeypatch.setattr(Reactor, "watch", watch_later)
    supervisor = start(supervise_with, Played(pause_once(births), births), repository)
    supervisor.join(DEADLINE_S)
    assert supervisor.exitcode == 1
    assert len(births.read_text().splitlines()) == FIRST_STARTS


def pause_once(births: Path) -> Callable[[int], None]:
    """The first worker would live on for ever."""

    def work(worker: int) -> None:
        if len(births.read_text().splitlines()) == 1:
            signal.pause()
        die(worker)

    return work


def test_a_process_that_has_closed_the_pipe_of_its_end_and_lives_is_ended(repository: Path, tmp_path: Path) -> None:
    births = tmp_path / "births"
    supervisor = start(supervise_with, Played(live_on_unseen, births), repository)
    supervisor.join(DEADLINE_S)
    assert supervisor.exitcode == 1
    assert len(births.read_text().splitlines()) == FIRST_STARTS


def live_on_unseen(worker: int) -> None:
    del worker
    os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    signal.pause()


def test_each_kill_for_memory_is_the_reason_of_one_death(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers may be killed at once, before the supervisor looks at either."""
    kills = 3
    monkeypatch.setattr(process_pool, "count_oom_kills", lambda: kills)
    oom_kills = OomKills()
    kills += 2
    codes = [-signal.SIGKILL, 1, -signal.SIGTERM, -signal.SIGKILL, -signal.SIGKILL]
    assert list(map(oom_kills.explain, codes)) == [True, False, False, True, False]


def test_a_kill_of_another_process_is_not_laid_to_a_later_death(monkeypatch: pytest.MonkeyPatch) -> None:
    kills = 0
    monkeypatch.setattr(process_pool, "count_oom_kills", lambda: kills)
    oom_kills = OomKills()
    kills += 2
    assert oom_kills.explain(-signal.SIGKILL)
    monkeypatch.setattr(process_pool, "OOM_KILL_KEPT_S", 0.0)
    assert not oom_kills.explain(-signal.SIGKILL)
