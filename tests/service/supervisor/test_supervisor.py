"""The supervisor, with children that are real processes, made by the test."""

import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

from models.artifact.artifact import read_artifact
from service.catalog.catalog import Catalog
from service.config.settings import Settings
from service.ipc.channels import Channels
from service.ipc.pipe import Pipe
from service.metrics.metered_model import MeteredModel
from service.metrics.metrics import Metrics
from service.policy import FIRST_STARTS
from service.pools.model_set import ModelSet
from service.pools.placement import Placement
from service.supervisor.model_source import ModelSource
from service.supervisor.supervisor import Supervisor
from tests.service.served import DEADLINE_S

FORK = multiprocessing.get_context("fork")


class Played:
    """A launcher whose workers do what the test says; its API processes wait for the end."""

    def __init__(self, work: Callable[[int], None], births: Path) -> None:
        self._work, self._births = work, births

    def launch_worker(self, seat: int, models: ModelSet, wanted: frozenset[int] | None) -> BaseProcess:
        del models, wanted
        with self._births.open("a") as births:
            births.write("one\n")
        return start(self._work, seat)

    def launch_api(self, index: int, control: Pipe, models: ModelSet) -> BaseProcess:
        del index, models
        return start(wait_for_the_end, control)

    def close_listener(self) -> None:
        pass


def start(target: Callable[..., None], *arguments: object) -> BaseProcess:
    process = FORK.Process(target=target, args=arguments)
    process.start()
    return process


def wait_for_the_end(control: Pipe) -> None:
    os.set_blocking(control.reader, True)
    received = b""
    while b'"drain"' not in received:
        received += os.read(control.reader, 1 << 16)


def supervise(work: Callable[[int], None], repository: Path, births: Path) -> None:
    """Run a supervisor of one worker to its end."""
    supervise_with(Played(work, births), repository)


def supervise_with(launcher: Played, repository: Path) -> None:
    """Run a supervisor with this launcher to its end."""
    artifact = read_artifact(repository / "plain" / "2")
    channels = Channels(1, 1, 2, 64, 10)
    metrics = Metrics([MeteredModel.of(artifact, 1000)], ["/predict"], 1, 1)
    metrics.attach(metrics.supervisor_row)
    models, settings = ModelSet.of(Catalog((artifact,), {}, 0), {}), Settings(_cli_parse_args=False)
    source = ModelSource(settings, channels, metrics, Placement.of(settings, 1))
    sys.exit(Supervisor(launcher, channels, models, source, frozenset(), metrics, settings).run())


def die(worker: int) -> None:
    os._exit(10 + worker)


def test_workers_that_never_come_up_end_the_server(repository: Path, tmp_path: Path) -> None:
    births = tmp_path / "births"
    supervisor = start(supervise, die, repository, births)
    supervisor.join(DEADLINE_S)
    assert supervisor.exitcode == 1
    assert len(births.read_text().splitlines()) == FIRST_STARTS
