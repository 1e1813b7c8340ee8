"""Drift: SciPy's divergences as oracle, and answers that are drawn from the reference, and from others."""

import weakref

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import entropy

from models.artifact.reference import CONFIDENCE_BOUNDS, ReferenceDistribution
from service.metrics.drift import Drift, RecentCounts, even_groups, stability_index
from service.metrics.metered_model import MeteredModel
from service.metrics.metrics import Metrics
from service.policy import DRIFT_GROUPS, DRIFT_STEPS, DRIFT_WINDOW


@pytest.mark.parametrize("seed", range(5))
def test_the_index_is_the_divergence_both_ways(seed: int) -> None:
    random = np.random.default_rng(seed)
    expected, found = random.integers(0, 900, (2, 12)).astype(float)
    p, q = found + 0.5, expected + 0.5
    assert stability_index(expected, found) == pytest.approx(entropy(p, q) + entropy(q, p))
    assert stability_index(expected, expected) == 0


def test_groups_have_about_the_same_share_and_are_neighbours() -> None:
    random = np.random.default_rng(0)
    for counts in (np.full(1000, 10.0), random.pareto(1, 300) * 100, np.r_[np.full(10, 500.0), np.zeros(5)]):
        groups = even_groups(counts)
        assert (np.diff(groups) >= 0).all()
        assert len(set(groups)) <= DRIFT_GROUPS
        shares = np.bincount(groups, counts) / counts.sum()
        assert shares.max() <= 1 / DRIFT_GROUPS + counts.max() / counts.sum()
    assert even_groups(np.full(10, 500.0)).tolist() == list(range(10))
    kinds = np.r_[np.full(DRIFT_GROUPS, 500.0), np.zeros(5)]
    assert even_groups(kinds).tolist() == [*range(DRIFT_GROUPS), *5 * [DRIFT_GROUPS - 1]]


def test_few_images_make_few_groups() -> None:
    assert len(set(even_groups(np.full(10, 30.0)))) <= 300 / 50
    assert set(even_groups(np.full(10, 3.0))) == {0}


def test_the_window_slides() -> None:
    recent = RecentCounts()
    counts = np.zeros(2)
    assert recent.take(counts) is None
    found: list[NDArray[np.float64]] = []
    for kind, number in ((0, 4 * DRIFT_WINDOW), (1, 4 * DRIFT_WINDOW)):
        for _ in range(number // 10):
            counts = counts + 10 * np.eye(2)[kind]
            taken = recent.take(counts)
            found += [] if taken is None else [taken]
    sizes = [one.sum() for one in found]
    assert min(sizes) >= DRIFT_WINDOW
    assert max(sizes) <= DRIFT_WINDOW * 1.1
    assert found[0].tolist() == [DRIFT_WINDOW, 0]
    assert found[-1][0] == 0


def test_looks_between_few_answers_take_no_memory() -> None:
    recent, seen = RecentCounts(), list[weakref.ref[NDArray[np.float64]]]()
    for answers in (*range(2 * DRIFT_WINDOW), *[2 * DRIFT_WINDOW] * DRIFT_WINDOW):
        counts = np.array([float(answers)])
        seen.append(weakref.ref(counts))
        recent.take(counts)
    assert sum(one() is not None for one in seen) <= DRIFT_STEPS + 2


class Played:
    """A model with ten classes whose answers are drawn; two API processes count them in turns."""

    def __init__(self, most_series: int = 1000, images: int = 5000) -> None:
        self.random = np.random.default_rng(0)
        self.classes = np.arange(1, 11) / 55
        self.confidences = self.random.dirichlet(np.ones(13))
        reference = ReferenceDistribution(
            class_counts=tuple(self.random.multinomial(images, self.classes).tolist()),
            confidence_bounds=CONFIDENCE_BOUNDS,
            confidence_counts=tuple(self.random.multinomial(images, self.confidences).tolist()),
        )
        self.model = MeteredModel("digits", "1", [str(n) for n in range(10)], most_series, reference)
        self.metrics = Metrics([self.model], ["/predict"], workers=1, api_processes=2)
        self.metrics.attach(0)
        self.drift = Drift(self.metrics, self.model)

    def answer(self, number: int, classes: NDArray[np.float64], confidences: NDArray[np.float64]) -> None:
        values = (*CONFIDENCE_BOUNDS, 1.5)
        labels = self.random.choice(10, number, p=classes)
        buckets = self.random.choice(13, number, p=confidences)
        for place, (label, bucket) in enumerate(zip(labels, buckets, strict=True)):
            self.metrics.attach(place % 2)
            self.metrics.predictions.inc("digits", self.model.series[label])
            self.metrics.confidence.observe(values[bucket], "digits")
            if place % 50 == 49:
                self.metrics.attach(0)
                self.drift.publish()

    def drifts(self) -> dict[str, float]:
        return {key[1]: float(cells[0]) for key, cells in self.metrics.drift.series(self.metrics.sums())}


def test_answers_like_the_reference_do_not_drift_and_others_do() -> None:
    played = Played()
    played.answer(DRIFT_WINDOW - 100, played.classes, played.confidences)
    assert played.drifts() == {}  # too few yet
    played.answer(3000, played.classes, played.confidences)
    drifts = played.drifts()
    assert drifts.keys() == {"classes", "confidence"}
    assert max(drifts.values()) < 0.1
    played.answer(2000, played.classes[::-1], played.confidences)
    assert played.drifts()["classes"] > 0.25
    assert played.drifts()["confidence"] < 0.1
    played.answer(2000, played.classes, played.confidences)
    assert played.drifts()["classes"] < 0.1


def test_another_version_begins_without_the_drift_of_the_one_before() -> None:
    played = Played()
    played.answer(3000, played.classes[::-1], played.confidences)
    assert played.drifts()["classes"] > 0.25
    Drift(played.metrics, played.model)
    assert played.drifts() == {}


def test_classes_without_a_series_are_compared_together() -> None:
    played = Played(most_series=3)
    assert played.model.series == ["0", "1", "2", *["other"] * 7]
    played.answer(3000, played.classes, played.confidences)
    assert played.drifts()["classes"] < 0.1
    played.answer(2000, np.eye(10)[0], played.confidences)
    assert played.drifts()["classes"] > 0.25


def test_a_model_that_was_measured_on_a_handful_of_images_has_no_gauge() -> None:
    """What is told of it would be 0 whatever it answers."""
    played = Played(images=20)
    played.answer(3000, np.eye(10)[0], played.confidences)
    assert played.drifts() == {}


def test_a_model_without_a_reference_has_no_gauge() -> None:
    model = MeteredModel("digits", "1", ["a", "b"])
    metrics = Metrics([model], ["/predict"], 1, 1)
    metrics.attach(0)
    Drift(metrics, model).publish()
    assert "resnet_prediction_drift{" not in metrics.render().decode()
