"""Does a quantity grow? Its slope over time, and the interval in which the slope lies."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
LEAST_VALUES = 3
"""Through two points any line is exact: they tell nothing of its error."""


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
    """Least squares through values whose mean is not zero; `negligible` is a share of the mean, too.

    The interval is Student's, which holds for values whose errors are independent of each other.
    """
    if len(values) < LEAST_VALUES:
        raise ValueError(f"a trend needs {LEAST_VALUES} values, not {len(values)}")
    line = stats.linregress(np.asarray(at_s) / 3600, np.asarray(values) / np.mean(values))
    reach = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 2) * line.stderr
    return Trend(float(line.slope), float(line.slope - reach), float(line.slope + reach), negligible)
