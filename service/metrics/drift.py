"""Drift: how far a model's recent answers are from those on the pictures that it was measured on.

The measure is the population stability index, the sum of (p - q) ln(p / q) over groups of answers, where p are the
shares now and q those of the reference: 0 if both are equal; by usage below 0.1 little, above 0.25 much. Nothing is
counted for it: it is made of the counts of the metrics.
"""

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from models.artifact.reference import CONFIDENCE_BOUNDS
from service.metrics.metered_model import MeteredModel
from service.metrics.metrics import DRIFTS, Metrics
from service.policy import DRIFT_GROUPS, DRIFT_STEPS, DRIFT_WINDOW, LEAST_GROUP_IMAGES

Counts = NDArray[np.float64]


def stability_index(expected: Counts, found: Counts) -> float:
    """The index of two counts of the same groups; half an answer more in each keeps empty ones finite."""
    q, p = (counts + 0.5 for counts in (expected, found))
    p, q = p / p.sum(), q / q.sum()
    return float(((p - q) * np.log(p / q)).sum())


def even_groups(expected: Counts) -> NDArray[np.intp]:
    """The group of each kind of answer: neighbours together until all groups have about the same share.

    There are at most DRIFT_GROUPS, and so few that each has some LEAST_GROUP_IMAGES: many small ones differ by chance.
    """
    total = expected.sum()
    groups = max(1, min(DRIFT_GROUPS, int(total // LEAST_GROUP_IMAGES)))
    middles = (expected.cumsum() - expected / 2) / total
    places = np.minimum(middles * groups, groups - 1)  # those at the end of which there was none lie at 1
    return np.unique(places.astype(np.intp), return_inverse=True)[1]


class RecentCounts:
    """What was counted of about the last DRIFT_WINDOW answers, found from counts that only grow."""

    def __init__(self) -> None:
        self._marks: deque[Counts] = deque()

    def take(self, counts: Counts) -> Counts | None:
        """What came since the window's begin; None until there is a whole one."""
        marks, total = self._marks, counts.sum()
        if not marks or total - marks[-1].sum() >= DRIFT_WINDOW // DRIFT_STEPS:
            marks.append(counts)
        while len(marks) > 1 and total - marks[1].sum() >= DRIFT_WINDOW:
            marks.popleft()
        recent = counts - marks[0]
        return recent if recent.sum() >= DRIFT_WINDOW else None


class DriftMeasure:
    """The counts in some cells of the metrics, beside what is expected there."""

    def __init__(self, expected: Counts, cells: Sequence[int]) -> None:
        self._cells, self._groups = list(cells), even_groups(expected)
        self._expected = self._grouped(expected)
        self._recent = RecentCounts()

    def look(self, metrics: Metrics) -> float | None:
        """The index of the recent answers, None while they are too few; of a single group 0, which is not exposed."""
        recent = self._recent.take(metrics.total(self._cells))
        return None if recent is None else stability_index(self._expected, self._grouped(recent))

    def _grouped(self, counts: Counts) -> Counts:
        return np.bincount(self._groups, counts).astype(np.float64)


class Drift:
    """The drift of one model that has a reference."""

    def __init__(self, metrics: Metrics, model: MeteredModel) -> None:
        self._metrics, self._name = metrics, model.name
        for of in DRIFTS:
            metrics.drift.set(0.0, model.name, of)  # not any more what was so of another version
        self._measures = dict(_measures(metrics, model))

    def publish(self) -> None:
        """Set the gauges of what is known."""
        for of, measure in self._measures.items():
            if (index := measure.look(self._metrics)) is not None:
                self._metrics.drift.set(index, self._name, of)


def _measures(metrics: Metrics, model: MeteredModel) -> Iterator[tuple[str, DriftMeasure]]:
    """A measure of the classes, as far as they have series of their own, and one of the confidence in them."""
    reference = model.reference
    if reference is None:
        return
    by_series: dict[str, int] = {}
    for series, count in zip(model.series, reference.class_counts, strict=True):
        by_series[series] = by_series.get(series, 0) + count
    cells = [metrics.predictions.cell(model.name, series) for series in by_series]
    yield "classes", DriftMeasure(np.array([*by_series.values()], np.float64), cells)
    if reference.confidence_bounds == CONFIDENCE_BOUNDS:
        first = metrics.confidence.cells(model.name).first
        counts = np.array(reference.confidence_counts, np.float64)
        yield "confidence", DriftMeasure(counts, range(first, first + len(counts)))
