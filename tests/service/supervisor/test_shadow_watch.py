"""A shadow is promoted or taken back by what is counted of it, and so is the version that it became."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from models.artifact.artifact import Artifact, read_artifact
from service.catalog.catalog import Catalog
from service.ipc.control import ModelChange
from service.metrics.metered_model import metered_models
from service.metrics.metrics import Metrics
from service.policy import DEATHS, DEATHS_WITHIN_S, FAILED_LEAST, JUDGED_AGAIN_S, JUDGED_IMAGES
from service.pools.model_set import ModelSet
from service.supervisor.shadow_watch import ShadowWatch

PROMOTE, TAKE_BACK, FORMER = (
    ModelChange("promote", "plain", 2),
    ModelChange("delete", "plain", 2),
    ModelChange("restore", "plain", 1),
)


class Scene:
    """A server with version 1 of a model and 2 as its shadow, whose metrics the test counts."""

    def __init__(self, first: Artifact, after: int) -> None:
        second = replace(first, version=2)
        self.both = ModelSet.of(Catalog((first, second), {}, 0, shadow=1), {})
        self.promoted, self.alone = (ModelSet.of(Catalog((one,), {}, 0), {}) for one in (second, first))
        self.metrics = Metrics([*metered_models(self.both.catalog, 10).values()], ["/predict"], 1, 1)
        self.metrics.attach(0)
        self.watch = ShadowWatch(self.metrics, after, 0.9)
        self.deaths, self.now_s = 0, time.monotonic()

    def count(self, outcome: str, images: int) -> None:
        self.metrics.shadow_images.inc("plain", "2", outcome, by=images)

    def lose_worker(self) -> None:
        """A worker dies while it runs an image of the shadow."""
        self.count("lost", 1)
        self.deaths += 1

    def look(self, models: ModelSet | None = None) -> ModelChange | None:
        """At these models, or at both versions."""
        self.watch.follow(models or self.both, self.deaths, self.now_s)
        return self.watch.look(self.now_s)

    def promote(self) -> Callable[[], ModelChange | None]:
        """Version 2 is served; how to look from then on."""
        self.look()
        assert self.look(self.promoted) is None
        return lambda: self.look(self.promoted)


@pytest.fixture
def scene(repository: Path) -> Callable[[int], Scene]:
    artifact = replace(read_artifact(repository / "plain" / "2"), version=1)
    return lambda after: Scene(artifact, after)


@pytest.mark.parametrize(
    ("agreed", "differed", "change"),
    [(99, 0, None), (90, 10, PROMOTE), (89, 11, None), (79, 21, TAKE_BACK), (0, 100, TAKE_BACK)],
)
def test_after_so_many_images_agreement_decides(
    scene: Callable[[int], Scene], agreed: int, differed: int, change: ModelChange | None
) -> None:
    it = scene(100)
    assert it.look() is None
    it.count("agreed", agreed)
    it.count("differed", differed)
    it.count("dropped", 1000)  # which tell nothing
    assert it.look() == change
    assert it.look() is None  # it is told once


def test_what_decided_nothing_is_not_counted_again(scene: Callable[[int], Scene]) -> None:
    it = scene(100)
    it.look()
    it.count("agreed", 85)
    it.count("differed", 15)
    assert it.look() is None
    it.count("agreed", 90)
    it.count("differed", 10)
    assert it.look() == PROMOTE


def test_images_that_failed_or_were_lost_count_as_images_that_it_had(scene: Callable[[int], Scene]) -> None:
    it = scene(100)
    it.look()
    it.count("agreed", 90)
    it.count("failed", FAILED_LEAST - 1)
    it.count("lost", 10 - FAILED_LEAST)
    assert it.look() is None
    it.count("lost", 1)
    assert it.look() == PROMOTE


def test_without_a_number_of_images_agreement_decides_nothing(scene: Callable[[int], Scene]) -> None:
    it = scene(0)
    it.look()
    it.count("differed", 10 * JUDGED_IMAGES)
    assert it.look() is None


@pytest.mark.parametrize("after", [0, 1000])
def test_a_shadow_that_fails_or_whose_images_workers_die_with_is_taken_back(
    scene: Callable[[int], Scene], after: int
) -> None:
    it = scene(after)
    it.look()
    it.count("agreed", 50)
    it.count("failed", FAILED_LEAST - 1)
    it.count("lost", 10)
    assert it.look() is None  # one worker may die by chance
    it.count("failed", 1)
    assert it.look() == TAKE_BACK
    dying = scene(after)
    dying.look()
    dying.count("agreed", 500)
    dying.deaths += DEATHS
    assert dying.look() is None  # with images of others
    for _ in range(DEATHS - 1):
        dying.count("lost", 2 * DEATHS)  # images of one batch
        assert dying.look() is None
    dying.count("lost", 1)
    assert dying.look() == TAKE_BACK


def test_each_loss_counts_while_nothing_is_judged(scene: Callable[[int], Scene]) -> None:
    it = scene(0)
    for _ in range(DEATHS):
        it.watch.follow(it.both, it.deaths, it.now_s)  # another change is under way
        it.lose_worker()
    assert it.look() == TAKE_BACK


def test_what_was_refused_is_told_again_later(scene: Callable[[int], Scene]) -> None:
    """Memory may have been short when the change was tried."""
    it = scene(0)
    look = it.promote()
    it.deaths += DEATHS
    assert look() == FORMER
    it.watch.on_ended("", True)
    it.now_s += 2 * JUDGED_AGAIN_S
    assert look() is None
    it.watch.on_ended("no memory", False)
    it.now_s = time.monotonic()
    assert look() is None
    it.now_s = time.monotonic() + 2 * JUDGED_AGAIN_S
    assert look() == FORMER


def test_few_failures_among_many_images_do_not_count(scene: Callable[[int], Scene]) -> None:
    it = scene(0)
    it.look()
    it.count("agreed", 500)
    it.count("failed", FAILED_LEAST)
    assert it.look() is None
    promoted = scene(0)
    look = promoted.promote()
    promoted.metrics.requests.inc("plain", "2", "ok", by=20 * FAILED_LEAST - FAILED_LEAST)
    promoted.metrics.requests.inc("plain", "2", "server_error", by=FAILED_LEAST)
    assert look() is None


def test_a_promoted_version_that_fails_is_replaced_by_the_former_one(scene: Callable[[int], Scene]) -> None:
    it = scene(0)
    look = it.promote()
    it.metrics.requests.inc("plain", "2", "ok", by=20)
    it.metrics.requests.inc("plain", "2", "client_error", by=100)
    it.metrics.requests.inc("plain", "2", "server_error", by=FAILED_LEAST)
    assert look() == FORMER
    assert look() is None


def test_failures_of_a_promoted_version_add_up(scene: Callable[[int], Scene]) -> None:
    it = scene(0)
    look = it.promote()
    for _ in range(FAILED_LEAST - 1):
        it.metrics.requests.inc("plain", "2", "server_error")
        assert look() is None
    it.metrics.requests.inc("plain", "2", "server_error")
    assert look() == FORMER


def test_what_a_promoted_version_did_well_long_ago_outweighs_no_failures(scene: Callable[[int], Scene]) -> None:
    it = scene(0)
    look = it.promote()
    it.metrics.requests.inc("plain", "2", "ok", by=1000 * JUDGED_IMAGES)
    assert look() is None
    it.metrics.requests.inc("plain", "2", "server_error", by=FAILED_LEAST)
    assert look() == FORMER


@pytest.mark.parametrize("promoted", [False, True])
def test_workers_that_die_long_after_each_other_take_nothing_back(
    scene: Callable[[int], Scene], promoted: bool
) -> None:
    it = scene(0)
    it.look()
    look = it.promote() if promoted else it.look
    for _ in range(2 * DEATHS):
        it.lose_worker()
        assert look() is None
        it.now_s += DEATHS_WITHIN_S + 1
    for _ in range(DEATHS - 1):
        it.lose_worker()
        assert look() is None
    it.lose_worker()
    assert look() == (FORMER if promoted else TAKE_BACK)


@pytest.mark.parametrize("promoted", [False, True])
def test_workers_that_die_within_the_hour_count_however_many_images_come_between(
    scene: Callable[[int], Scene], promoted: bool
) -> None:
    it = scene(0)
    it.look()
    look = it.promote() if promoted else it.look
    for _ in range(DEATHS - 1):
        it.lose_worker()
        assert look() is None
        it.count("agreed", 2 * JUDGED_IMAGES)
        it.metrics.requests.inc("plain", "2", "ok", by=2 * JUDGED_IMAGES)
        assert look() is None
        it.now_s += DEATHS_WITHIN_S / DEATHS
    it.lose_worker()
    assert look() == (FORMER if promoted else TAKE_BACK)


def test_a_promoted_version_is_watched_beyond_a_change_of_others(scene: Callable[[int], Scene]) -> None:
    it = scene(0)
    it.promote()
    other = ModelSet.of(it.promoted.catalog, {})
    assert it.look(other) is None
    it.deaths += DEATHS
    assert it.look(other) == FORMER


def test_a_shadow_is_watched_beyond_a_change_of_others(scene: Callable[[int], Scene]) -> None:
    it = scene(100)
    it.look()
    it.count("agreed", 60)
    other = ModelSet.of(it.both.catalog, {})
    assert it.look(other) is None
    it.count("agreed", 40)
    assert it.look(other) == PROMOTE
    assert it.look(it.both) is None  # another change came before that one


def test_a_shadow_of_another_version_is_counted_anew(scene: Callable[[int], Scene]) -> None:
    it = scene(100)
    it.look()
    it.count("agreed", 60)
    catalog = it.both.catalog
    live, shadow = catalog.artifacts
    other = ModelSet.of(replace(catalog, artifacts=(replace(live, version=3), shadow)), {})
    assert it.look(other) is None
    it.count("agreed", 40)
    assert it.look(other) is None
    it.count("agreed", 60)
    assert it.look(other) == PROMOTE


def test_what_was_a_shadow_and_is_not_served_is_not_watched(scene: Callable[[int], Scene]) -> None:
    it = scene(0)
    it.look()
    it.look(it.alone)
    it.deaths += DEATHS
    assert it.look(it.alone) is None
