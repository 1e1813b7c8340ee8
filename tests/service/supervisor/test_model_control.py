"""Who may change the models: clients, and what is counted of a version while no other change is made."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.ipc.channels import Channels
from service.ipc.control import ModelChange
from service.policy import FAILED_LEAST
from service.pools.placement import Placement
from service.supervisor.model_control import ModelControl
from service.supervisor.model_source import ModelSource
from tests.artifacts import LABELS, SHAPE, make_artifact
from tests.service.supervisor.test_model_changes import LOAD, REREAD, Scene


class Judged(Scene):
    """A scene with all that may change models, of which the second version of `a` is to be the shadow."""

    def __init__(self, folder: Path, channels: Channels) -> None:
        super().__init__(folder, channels, ())
        settings = self.settings.model_copy(update={"shadow": "a/2"})
        source = ModelSource(settings, channels, self.metrics, Placement.of(settings, channels.workers))
        self.changes: Any = ModelControl(
            self._reactor, self.workers, self.apis, source, frozenset(), self.metrics, settings
        )

    def promote(self) -> None:
        """Serve version 2, which was a shadow."""
        make_artifact(self.folder, "a", 2)
        self.ask(REREAD)
        self.end_at([1, 1, 2])
        self.ask(ModelChange("promote", "a", 2))
        self.end_at([2, 1])

    def fail(self) -> None:
        """What version 2 answers is an error again and again."""
        self.metrics.requests.inc("a", "2", "server_error", by=FAILED_LEAST)
        self.look()

    def end_at(self, versions: list[int]) -> None:
        """Wait until these are served, and the workers of those before them have ended."""
        self.until(lambda: self.served == versions)
        self.take(released=True)
        self.until(lambda: self.processes == 1)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Judged]:
    channels = Channels(1, 1, 8, int(np.prod(SHAPE)), len(LABELS))
    scene = Judged(tmp_path, channels)
    try:
        yield scene
    finally:
        scene.close()
        channels.close()


def test_a_promoted_version_that_fails_is_taken_back(scene: Judged) -> None:
    scene.promote()
    scene.fail()
    scene.end_at([1, 1])


def test_what_a_client_loads_in_place_of_a_version_that_fails_is_not_taken_back_with_it(scene: Judged) -> None:
    """That version goes on to fail while workers load the other one."""
    scene.promote()
    make_artifact(scene.folder, "a", 3)
    scene.launcher.hanging = {("a", 3)}
    scene.ask(LOAD)
    scene.until(lambda: scene.launcher.launched[-1] == [3, 1])
    scene.fail()
    trial = scene.workers.trial
    assert trial
    (seat,) = (worker.index for worker in scene.workers.children if worker.models is trial.models)
    scene.launcher.report(seat, trial.models.catalog.default)
    scene.end_at([3, 1])
    answered = len(scene.answers)
    scene.ask(REREAD)
    scene.until(lambda: len(scene.answers) > answered or scene.served != [3, 1])
    assert scene.served == [3, 1]
