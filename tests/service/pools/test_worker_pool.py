"""What the supervisor makes of a worker's death, with real processes and pipes; the budget is real, too."""

import os
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
from service.pools.model_set import ModelSet
from service.pools.process_pool import PoolContext
from service.pools.reactor import Reactor
from service.pools.worker_pool import WorkerPool
from service.routes.routes import ROUTES
from tests.artifacts import LABELS, SHAPE, make_artifact
from tests.service.served import DEADLINE_S
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
