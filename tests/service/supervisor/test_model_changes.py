"""Changes of the models in their order; what they do to a real server is in `test_admin_api` and `test_swaps`."""

import math
import signal
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from service.catalog.catalog import Catalog
from service.catalog.repository import Repository
from service.config.settings import Settings
from service.ipc.channels import Channels
from service.ipc.control import ControlMessage, ControlReader, ControlWriter, ModelChange, ModelsTaken, NewModels
from service.ipc.pipe import Pipe
from service.ipc.reports import ModelReport, WorkerReport
from service.metrics.metered_model import metered_models
from service.metrics.metrics import Metrics
from service.policy import CHANGES_WAITING, RELEASE_MARGIN_S, WATCH_INTERVAL_S
from service.pools.api_pool import ApiPool
from service.pools.model_set import ModelSet
from service.pools.placement import Placement
from service.pools.process_pool import PoolContext
from service.pools.reactor import Reactor
from service.pools.worker_pool import WorkerPool
from service.routes.routes import ROUTES
from service.supervisor.model_changes import ModelChanges
from service.supervisor.model_source import ModelSource
from service.supervisor.repository_reader import RepositoryReader
from tests.artifacts import LABELS, SHAPE, make_artifact
from tests.service.served import DEADLINE_S
from tests.service.supervisor.test_supervisor import start

NOTHING: Any = None  # what a change that waits does not need
LOAD, REREAD = ModelChange("load", "a"), ModelChange("reread")
STOPPED = "the server is shutting down", False


def test_signals_and_a_look_at_the_folder_leave_room_for_what_clients_ask() -> None:
    changes = ModelChanges(NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, Settings(_cli_parse_args=False), NOTHING)
    refused: list[str] = []
    changes.ask(ModelChange("reread"), lambda reason, _: refused.append(reason), again=False)
    for _ in range(2 * CHANGES_WAITING):
        changes.ask(ModelChange("reread"))
    for _ in range(CHANGES_WAITING):  # each client has an answer of its own
        changes.ask(ModelChange("load", "plain"), lambda reason, _: refused.append(reason))
    assert refused == [f"{CHANGES_WAITING} changes wait already; try again later"]


class Loading:
    """A launcher whose workers report that they have loaded their models, but for those that the test names.

    Attributes:
        failing, hanging: models and versions that no worker loads, and of which it says so, or reports nothing.
        launched: the versions of the models with which each worker has begun.

    """

    def __init__(self, channels: Channels, failing: Collection[tuple[str, int]]) -> None:
        self._channels = channels
        self.failing: Collection[tuple[str, int]] = failing
        self.hanging: Collection[tuple[str, int]] = ()
        self.launched: list[list[int]] = []
        self._told: list[Catalog] = []

    def launch_worker(self, seat: int, models: ModelSet, wanted: frozenset[int] | None) -> BaseProcess:
        del wanted
        catalog, epoch = models.catalog, int(self._channels.shared_state.epochs[seat])
        found = {number: (catalog[number].name, catalog[number].version) for number in catalog.numbers}
        self.launched.append([version for _, version in found.values()])
        for number, one in found.items():
            failed = one in self.failing
            report = ModelReport(number, "failed" if failed else "ready", reason="no good" if failed else "")
            if one not in self.hanging:
                self._channels.reports[seat].write(WorkerReport(epoch, report).to_line())
        return start(signal.pause)

    def report(self, seat: int, number: int) -> None:
        """What was hanging is loaded."""
        report = WorkerReport(int(self._channels.shared_state.epochs[seat]), ModelReport(number, "ready"))
        self._channels.reports[seat].write(report.to_line())

    def launch_api(self, index: int, control: Pipe, models: ModelSet) -> BaseProcess:
        del index, models
        self._control = ControlReader(control, self._hear)
        return start(signal.pause)

    def _hear(self, message: ControlMessage) -> None:
        if isinstance(message, NewModels):
            self._told.append(Catalog.unpickle(message.catalog))

    def told(self) -> list[Catalog]:
        """What the API process has been told since the last time that it serves."""
        self._control.read()
        told, self._told = self._told, []
        return told

    def close_listener(self) -> None:
        pass


class Scene:
    """A supervisor's pools, source and reader, without its signals; workers that serve a/1 and b/1, and an API process.

    Attributes:
        answers: to what the test has asked, in their order.

    """

    def __init__(self, folder: Path, channels: Channels, failing: Collection[tuple[str, int]]) -> None:
        workers = channels.workers
        for name in "ab":
            make_artifact(folder, name)
        self.folder, self.is_copied = folder, False
        self.settings = Settings(_cli_parse_args=False, model_repository=folder, device="cpu", workers=workers)
        catalog = Repository(folder).read("a")
        self.metrics = Metrics(list(metered_models(catalog, 1000).values()), ROUTES, workers, api_processes=1)
        self.metrics.attach(self.metrics.supervisor_row)
        self._registry = CollectorRegistry()
        self._registry.register(self.metrics)
        self.launcher, self._reactor = Loading(channels, failing), Reactor()
        context = PoolContext(self.launcher, channels, self.metrics, self._reactor, pytest.fail)
        self.apis = ApiPool(context, lambda: self.workers, NOTHING)
        self.workers = WorkerPool(context, ModelSet.of(catalog, {}), DEADLINE_S, self.apis.tell, 0)
        source = ModelSource(self.settings, channels, self.metrics, Placement.of(self.settings, workers))
        reader = RepositoryReader(self._reactor, math.inf)
        self.changes = ModelChanges(
            reader, self.workers, self.apis, source, self.metrics, self.settings, lambda: self.is_copied
        )
        self._told = ControlWriter(channels.api_reports[0])
        self.answers: list[tuple[str, bool]] = []
        self.workers.start_all()
        self.apis.start_all()

    def ask(self, change: ModelChange) -> None:
        self.changes.ask(change, lambda refused, changed: self.answers.append((refused, changed)))

    def take(self, *, released: bool) -> None:
        """The API process has taken what is served, and with `released` needs no retired worker any more."""
        self._told.send(ModelsTaken(self.workers.models.number, released))
        (api,) = self.apis.children
        self.until(lambda: api.taken == self.workers.models.number and released == (api.released == api.taken))
        self.look()

    def look(self, in_s: float = 0.0) -> None:
        """As the supervisor does again and again in so many seconds; of a single long gap hardly any would count."""
        now_s = time.monotonic()
        for i in range(int(in_s / WATCH_INTERVAL_S)):
            self.changes.look(now_s + i * WATCH_INTERVAL_S)
        self.changes.look(now_s + in_s)

    def until(self, what: Callable[[], bool]) -> None:
        """Go on until this is so."""
        end_s = time.monotonic() + DEADLINE_S
        while not what():
            assert time.monotonic() < end_s
            self._reactor.wait(0.01)
            self.look()

    def until_answered(self, count: int = 1) -> None:
        self.until(lambda: len(self.answers) == count)

    @property
    def served(self) -> list[int]:
        """The versions of all that is served, in the order of the names."""
        return [artifact.version for artifact in self.workers.models.catalog.artifacts]

    @property
    def processes(self) -> int:
        """Workers that live."""
        return sum(child.process is not None for child in self.workers.children)

    def swaps(self) -> tuple[float, float]:
        """How many changes are counted as done and as refused."""
        samples = [sample for family in self._registry.collect() for sample in family.samples]
        counted = [sample for sample in samples if sample.name == "resnet_model_swaps_total"]
        counts = {sample.labels["outcome"]: sample.value for sample in counted}
        return counts["done"], counts["refused"]

    def close(self) -> None:
        self.changes.close()
        for pool in (self.workers, self.apis):
            pool.close()
            pool.kill_all()
        self.until(lambda: not (self.workers.alive or self.apis.alive))
        self.workers.models.close()


@contextmanager
def playing(folder: Path, failing: Collection[tuple[str, int]] = (), workers: int = 1) -> Iterator[Scene]:
    """A scene whose workers cannot load these."""
    channels = Channels(workers, 1, 8, int(np.prod(SHAPE)), len(LABELS))
    scene = Scene(folder, channels, failing)
    try:
        yield scene
    finally:
        scene.close()
        channels.close()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with playing(tmp_path) as scene:
        yield scene


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_change_is_answered_once_it_is_taken_and_the_old_worker_ends_once_it_is_released(scene: Scene) -> None:
    make_artifact(scene.folder, "a", 2)
    scene.ask(LOAD)
    scene.ask(ModelChange("load", "a", 1))
    scene.until(lambda: scene.served == [2, 1])
    assert (scene.answers, scene.processes, scene.swaps()) == ([], 2, (1, 0))
    old, (told,) = range(2), scene.launcher.told()
    assert set(old).isdisjoint(told.numbers)  # while both sets have workers
    assert [artifact.version for artifact in told.artifacts] == [2, 1]
    scene.take(released=False)
    assert (scene.answers, scene.processes) == ([("", True)], 2)
    scene.take(released=True)
    scene.until(lambda: scene.served == [1, 1])  # the next change has the seat that is free again
    scene.take(released=True)
    scene.until(lambda: scene.processes == 1)
    assert (scene.answers, scene.swaps()) == ([("", True)] * 2, (2, 0))
    assert scene.launcher.launched == [[1, 1], [2, 1], [1, 1]]
    assert not scene.changes.needs_repository


def test_old_workers_end_also_if_an_api_process_goes_on_to_need_them_for_longer_than_any_request_lasts(
    scene: Scene,
) -> None:
    make_artifact(scene.folder, "a", 2)
    scene.ask(LOAD)
    scene.until(lambda: scene.served == [2, 1])
    scene.look(in_s=scene.settings.max_request_timeout)
    assert (scene.answers, scene.processes) == ([], 2)
    scene.look(in_s=scene.settings.max_request_timeout + 2 * RELEASE_MARGIN_S)
    assert scene.answers == [("", True)]
    scene.until(lambda: scene.processes == 1)


def test_an_api_process_that_is_not_there_holds_up_no_change(scene: Scene) -> None:
    (api,) = scene.apis.children
    scene.apis.close()  # it has no successor
    scene.apis.kill_all()
    scene.until(lambda: not api.process)
    make_artifact(scene.folder, "a", 2)
    scene.ask(LOAD)
    scene.until_answered()
    assert (scene.answers, scene.served) == ([("", True)], [2, 1])


def test_what_workers_cannot_load_is_tried_once_unless_it_is_asked_for_again(scene: Scene) -> None:
    make_artifact(scene.folder, "a", 2)
    scene.launcher.failing = {("a", 2)}
    scene.ask(LOAD)
    scene.until_answered()
    assert scene.answers == [("no good", False)]
    scene.changes.ask(REREAD, lambda *answer: scene.answers.append(answer), again=False)
    scene.until_answered(2)
    assert (scene.served, scene.launcher.launched) == ([1, 1], [[1, 1], [2, 1]])
    (told,) = scene.launcher.told()
    assert told.failed == {("a", "2"): "no good"}
    scene.launcher.failing = ()
    scene.is_copied = True
    scene.changes.ask(REREAD, again=False)
    scene.changes.ask(REREAD)  # a signal: with the one that waits it is one change, and tries again
    scene.look()
    scene.is_copied = False
    scene.until(lambda: scene.served == [2, 1])
    assert scene.launcher.launched == [[1, 1], [2, 1], [2, 1]]


def test_a_change_whose_workers_fail_ends_before_the_next_begins(scene: Scene) -> None:
    make_artifact(scene.folder, "a", 2)
    scene.launcher.failing = {("a", 2)}
    scene.ask(LOAD)
    scene.ask(ModelChange("unload", "zebra"))
    scene.until_answered(2)
    assert scene.answers == [("no good", False), ("no model 'zebra' here; served are: a, b", False)]


def test_a_model_that_failed_at_the_start_is_told_to_who_asks_for_it_and_holds_up_no_other(tmp_path: Path) -> None:
    with playing(tmp_path, failing={("b", 1)}) as scene:
        scene.until(lambda: scene.workers.failures() == {1: "no good"})
        scene.ask(ModelChange("load", "b"))
        scene.ask(REREAD)
        scene.until_answered(2)
        assert (scene.answers, scene.launcher.launched) == ([("no good", False), ("", False)], [[1, 1]])
        make_artifact(scene.folder, "a", 2)
        scene.ask(LOAD)
        scene.until(lambda: scene.served == [2, 1])
        scene.take(released=True)
        assert scene.answers[2:] == [("", True)]
        scene.ask(ModelChange("unload", "b"))
        scene.until(lambda: scene.served == [2])


def test_no_change_leaves_a_descriptor(scene: Scene) -> None:
    """Of the files of models that were tried, refused, the same, or are served no more."""

    def ask(change: ModelChange) -> None:
        scene.answers.clear()
        scene.ask(change)
        scene.until(lambda: bool(scene.answers) or scene.served == [3, 1])

    make_artifact(scene.folder, "a", 2)
    scene.launcher.failing, before = {("a", 2)}, descriptors()
    ask(LOAD)
    scene.until(lambda: scene.processes == 1)
    assert descriptors() == before
    make_artifact(scene.folder, "a", 3)
    scene.launcher.hanging = {("a", 3)}
    scene.ask(LOAD)
    scene.until(lambda: scene.processes == 2)
    scene.look(in_s=scene.settings.start_timeout + 1)
    scene.until(lambda: scene.processes == 1)
    assert descriptors() == before
    ask(ModelChange("load", "a", 1))
    assert descriptors() == before
    scene.launcher.hanging = ()
    ask(LOAD)
    scene.take(released=True)
    scene.until(lambda: scene.processes == 1)
    assert descriptors() == before


def test_a_change_that_is_read_again_without_what_failed_has_all_of_its_time(scene: Scene) -> None:
    for version in (2, 3):
        make_artifact(scene.folder, "a", version)
    scene.launcher.failing = {("a", 3)}
    scene.changes.ask(REREAD)
    scene.until(lambda: len(scene.launcher.launched) == 2 and scene.processes == 1)
    for _ in range(2):
        scene.look(in_s=2 * scene.settings.start_timeout)
        assert scene.changes.needs_repository
    scene.until(lambda: scene.served == [2, 1])
    scene.take(released=True)
    assert scene.swaps() == (1, 1)  # of all models one is not as the repository has it


def test_a_change_whose_workers_take_too_long_is_refused_and_leaves_nothing(scene: Scene) -> None:
    make_artifact(scene.folder, "a", 2)
    scene.launcher.hanging = {("a", 2)}
    scene.ask(LOAD)
    scene.until(lambda: scene.processes == 2)
    scene.look(in_s=scene.settings.start_timeout / 2)
    assert scene.answers == []
    scene.look(in_s=scene.settings.start_timeout + 1)
    (refused,) = scene.answers
    assert refused[0].startswith("not every worker had loaded it within")
    scene.until(lambda: scene.processes == 1)
    assert (scene.served, scene.swaps()) == ([1, 1], (0, 1))
    scene.launcher.hanging = ()
    scene.ask(LOAD)
    scene.until(lambda: scene.served == [2, 1])


def test_what_changes_nothing_is_answered_and_starts_no_worker(scene: Scene) -> None:
    scene.ask(REREAD)
    scene.ask(LOAD)
    scene.until_answered(2)
    assert (scene.answers, scene.launcher.launched, scene.swaps()) == ([("", False)] * 2, [[1, 1]], (0, 0))


def test_nothing_is_read_while_the_repository_is_copied(scene: Scene) -> None:
    scene.is_copied = True
    make_artifact(scene.folder, "a", 2)
    scene.ask(LOAD)
    scene.look()
    assert scene.changes.needs_repository
    make_artifact(scene.folder, "a", 3)
    scene.is_copied = False
    scene.until(lambda: scene.served == [3, 1])


@pytest.mark.parametrize("loading", [True, False], ids=["while workers load", "while it is read"])
def test_a_stop_answers_every_change_and_none_begins_after_it(scene: Scene, *, loading: bool) -> None:
    make_artifact(scene.folder, "a", 2)
    scene.launcher.hanging = {("a", 2)}
    scene.ask(LOAD)
    scene.ask(ModelChange("unload", "a"))
    scene.look()
    if loading:
        scene.until(lambda: scene.processes == 2)
    scene.changes.close()
    assert scene.answers == [STOPPED] * 2
    scene.ask(LOAD)
    assert scene.answers == [STOPPED] * 3
    scene.until(lambda: scene.processes == 1 and not scene.changes.needs_repository)
    scene.look(in_s=2 * scene.settings.start_timeout)
    assert (scene.answers, scene.served, scene.swaps()) == ([STOPPED] * 3, [1, 1], (0, 0))


def test_a_stop_leaves_old_workers_to_what_they_still_have_to_do(scene: Scene) -> None:
    make_artifact(scene.folder, "a", 2)
    scene.ask(LOAD)
    scene.until(lambda: scene.served == [2, 1])
    scene.changes.close()
    scene.look()
    assert (scene.answers, scene.processes) == ([STOPPED], 2)
    scene.take(released=True)
    scene.until(lambda: scene.processes == 1)
    assert scene.answers == [STOPPED]
