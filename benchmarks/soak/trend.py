"""Does a quantity grow? Its slope over time, and the interval in which the slope lies."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

VALUES = 12  # that a trend is drawn from; few and long, so that neighbours do not resemble each other
T = 2.228  # two-sided 95 % of Student's distribution with 12 - 2 degrees of freedom


@dataclass(frozen=True, slots=True)
class Trend:
    """Change an hour, as a share of the mean, the bounds of its 95 % confidence interval, and what is no growth yet."""

    per_hour: float
    low: float
    high: float
    negligible: float = 0.0

    @property
    def grows(self) -> bool:
        """Whether the quantity grows beyond doubt."""
        return self.low > self.negligible


def trend(at_s: Sequence[float], values: Sequence[float], negligible: float = 0.0) -> Trend:
    """Least squares through VALUES points whose mean is not zero; `negligible` is a share of the mean, too."""
    if len(values) != VALUES:
        raise ValueError(f"a trend is drawn from {VALUES} values, not {len(values)}")
    x, y = np.asarray(at_s) / 3600, np.asarray(values) / np.mean(values)
    x, y = x - x.mean(), y - y.mean()
    spread = float(x @ x)
    slope = float(x @ y) / spread
    residuals = y - slope * x
    reach = T * math.sqrt(float(residuals @ residuals) / (VALUES - 2) / spread)
    return Trend(slope, slope - reach, slope + reach, negligible)
