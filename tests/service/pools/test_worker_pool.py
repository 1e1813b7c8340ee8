"""What the supervisor makes of a worker's reports and death, with real processes and pipes; the budget is real, too."""

import os
import time
from collections.abc import Iterator
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest

from service.catalog.repository import Repository
from service.ipc.channels import Channels
from service.ipc.control import ControlMessage
from service.ipc.messages import BatchMessage, ModelCommand
from service.ipc.reports import ModelReport, WorkerReport
from service.metrics.metered_model import metered_models
from service.metrics.metrics import Metrics
from service.policy import FIRST_STARTS
from service.pools.model_set import ModelSet
from service.pools.process_pool import PoolContext
from service.pools.reactor import Reactor
from service.pools.worker_pool import WorkerPool
from service.routes.routes import ROUTES
from tests.artifacts import LABELS, SHAPE, make_artifact
from tests.service.served import DEADLINE_S
from tests.service.supervisor.test_model_changes import LOAD, playing
from tests.service.supervisor.test_supervisor import Played, start

DEFAULT, B = range(2)


class LastFirst(Reactor):
    """What can be read is told in no order that anyone promises: here the newest descriptor's comes first."""

    def wait(self, patience_s: float) -> None:
        ready = self._selector.select(patience_s)
        for key, _ in sorted(ready, key=lambda one: -one[0].fd):
            key.data()


class Lives(Played):
    """A worker that loads what it is told, and dies then; its successors load the default model, and die of the next.

    Attributes:
        wanted: what each has been started with.

    """

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        self.wanted: list[set[int]] = []

    def launch_worker(self, seat: int, models: ModelSet, wanted: frozenset[int] | None) -> BaseProcess:
        del models
        assert wanted is not None
        self.wanted.append(set(wanted))
        if len(self.wanted) == 1:
            return start(obey_once, self._channels, seat)
        process = start(die_of_next, self._channels, seat)
        process.join(DEADLINE_S)  # so that it has ended before its report is read
        return process


def report(channels: Channels, seat: int, model: int) -> None:
    epoch = int(channels.shared_state.epochs[seat])
    line = WorkerReport(epoch, ModelReport(model, "ready", memory_bytes=1)).to_line()
    channels.reports[seat].write(line)


def die_of_next(channels: Channels, seat: int) -> None:
    report(channels, seat, DEFAULT)
    channels.shared_state.loading[seat] = B + 1


def obey_once(channels: Channels, seat: int) -> None:
    report(channels, seat, DEFAULT)
    command = ModelCommand.of(BatchMessage.unpack(os.read(channels.requests[seat].reader, 1 << 12)))
    assert command is not None
    report(channels, seat, command.model)


@pytest.fixture
def channels() -> Iterator[Channels]:
    channels = Channels(1, 1, 8, int(np.prod(SHAPE)), len(LABELS))
    yield channels
    channels.close()


def test_a_worker_that_dies_is_heard_to_the_end_before_a_model_is_blamed(channels: Channels, tmp_path: Path) -> None:
    for name in "ab":
        make_artifact(tmp_path, name)
    catalog = Repository(tmp_path).read("a")
    metrics = Metrics(list(metered_models(catalog, 1000).values()), ROUTES, workers=1, api_processes=1)
    metrics.attach(metrics.supervisor_row)
    lives, reactor, models = Lives(channels), LastFirst(), ModelSet.of(catalog, {})

    def tell(_message: ControlMessage) -> int:
        return 1

    context = PoolContext(lives, channels, metrics, reactor, pytest.fail)
    pool = WorkerPool(context, models, DEADLINE_S, tell, memory_budget=100)
    pool.start_all()
    reactor.wait(DEADLINE_S)  # it is up, and told to load the other model
    while len(lives.wanted) < 4:
        (worker,) = [child.process for child in pool.children if child.process]
        wait([worker.sentinel], DEADLINE_S)
        reactor.wait(DEADLINE_S)
        pool.start_due(pool.restart_at_s)
    assert lives.wanted == [{DEFAULT}, {DEFAULT, B}, {DEFAULT, B}, {DEFAULT}]
    models.close()


def test_models_are_served_once_every_worker_has_them(tmp_path: Path) -> None:
    """Else a worker that is still loading would be all that there is once the others have died or are retired."""
    with playing(tmp_path, workers=2) as scene:
        scene.until(lambda: len(list(scene.workers.ups())) == 2)
        make_artifact(tmp_path, "a", 2)
        scene.launcher.hanging = {("a", 2)}
        scene.ask(LOAD)
        scene.until(lambda: scene.processes == 4)
        first, second = [worker for worker in scene.workers.children if not worker.up]
        assert first.models
        assert first.models is second.models
        scene.launcher.report(first.index, first.models.catalog.default)
        scene.until(lambda: first.up)
        assert scene.served == [1, 1]
        assert {worker.worker for worker in scene.workers.ups()}.isdisjoint({first.index, second.index})
        scene.launcher.report(second.index, second.models.catalog.default)
        scene.until(lambda: scene.served == [2, 1])
        known = [(worker.worker, worker.retired) for worker in scene.workers.ups()]
        assert sorted(known[:2]) == [(seat, True) for seat in range(4) if seat not in (first.index, second.index)]
        assert sorted(known[2:]) == sorted([(first.index, False), (second.index, False)])
        scene.take(released=True)


def test_a_worker_that_has_died_is_told_to_no_api_process_that_starts(tmp_path: Path) -> None:
    with playing(tmp_path) as scene:
        scene.until(lambda: bool(list(scene.workers.ups())))
        scene.workers.kill_all()
        scene.until(lambda: scene.processes == 0)
        assert list(scene.workers.ups()) == []
        assert scene.workers.deaths == 1


def test_models_whose_worker_dies_as_often_as_the_first_may_are_given_up(tmp_path: Path) -> None:
    with playing(tmp_path) as scene:
        make_artifact(tmp_path, "a", 2)
        scene.launcher.hanging = {("a", 2)}
        scene.ask(LOAD)
        for death in range(1, FIRST_STARTS + 1):
            scene.until(lambda: scene.processes == 2)
            (tried,) = [worker for worker in scene.workers.children if worker.models is not scene.workers.models]
            assert tried.process
            tried.process.kill()
            scene.until(lambda: scene.processes == 1)
            assert len(scene.answers) == death // FIRST_STARTS
            scene.workers.start_due(time.monotonic() + 60)
        assert scene.answers == [("the worker that loaded it ended with exit code -9", False)]
        assert (scene.processes, scene.workers.deaths, scene.workers.has_free_seats) == (1, 0, True)
