"""Medians, and what a ratio of two servers is worth: from the pairs of each round, without assuming a distribution."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from statistics import median

import numpy as np
from scipy import stats

CONFIDENCE = 0.90
BOUND = (
    "its lower bound is the order statistic that lies below the true median with a one-sided confidence of at least "
    "90 % (sign test; of 7 pairs the second smallest, at 93.8 %)"
)
METHOD = "each round gives one pair, measured within minutes; the ratio is the median of the pairs' ratios; " + BOUND


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, least and greatest of a figure over the rounds."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of at least one value."""
        return cls(median(values), min(values), max(values))


def medians_of(samples: Sequence[object], figures: Sequence[str]) -> list[float]:
    """The median over the samples of each attribute."""
    return [median(getattr(sample, figure) for sample in samples) for figure in figures]


@dataclass(frozen=True, slots=True)
class Ratio:
    """The median ratio of pairs, and its lower bound; None with too few pairs for the confidence."""

    median: float
    lower: float | None
    pairs: int

    @classmethod
    def of(cls, pairs: Sequence[tuple[float, float]]) -> "Ratio":
        """The ratio of the first to the second of each pair."""
        ratios = sorted(first / second if second else inf for first, second in pairs)
        place = lower_place(len(ratios))
        return cls(median(ratios), None if place is None else ratios[place], len(ratios))


def lower_place(n: int) -> int | None:
    """Place, from 0, of the largest order statistic of n that is below the median with CONFIDENCE; None if none.

    The k-th smallest of n lies above the median only if fewer than k of n values are below it: Binomial(n, 1/2) < k.
    """
    below = stats.binom.cdf(np.arange(n), n, 0.5) <= 1 - CONFIDENCE
    return int(below.sum()) - 1 if below.any() else None
