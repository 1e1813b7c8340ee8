import numpy as np
import pytest

from benchmarks.soak.trend import trend

VALUES = 12
AT_S = np.arange(VALUES) * 110.0
SERIES = 2000


def test_a_line_is_its_own_slope():
    values = 200 + AT_S / 36  # 100 an hour
    found = trend(list(AT_S), list(values))
    assert found.per_hour == pytest.approx(100 / values.mean())
    assert found.low == pytest.approx(found.high)
    assert found.grows


def test_what_stands_still_or_shrinks_does_not_grow():
    assert not trend(list(AT_S), [7.0] * VALUES).grows
    assert not trend(list(AT_S), list(1000 - AT_S)).grows


def test_growth_counts_if_even_its_lower_bound_is_not_negligible():
    values = list(200 + AT_S / 36)
    assert trend(list(AT_S), values, negligible=0.4).grows
    assert not trend(list(AT_S), values, negligible=0.5).grows


@pytest.mark.parametrize(("n", "quantile"), [(12, 2.228), (5, 3.182), (3, 12.706)])
def test_the_interval_is_as_wide_as_numpy_and_a_printed_table_say(n: int, quantile: float):
    """numpy gives the standard error; the two-sided 95 % of Student's distribution with n - 2 degrees of freedom."""
    values = np.random.default_rng(0).normal(100, 1, n)
    (slope, _), covariance = np.polyfit(AT_S[:n] / 3600, values / values.mean(), 1, cov=True)
    found = trend(list(AT_S[:n]), list(values))
    assert found.per_hour == pytest.approx(slope)
    assert (found.high - found.low) / 2 == pytest.approx(quantile * np.sqrt(covariance[0, 0]), rel=1e-3)


def test_nineteen_of_twenty_intervals_hold_the_true_slope():
    rng = np.random.default_rng(1)
    growth = 100 + 10 * AT_S / 3600  # 10 an hour
    found = [trend(list(AT_S), list(growth + rng.normal(size=VALUES))) for _ in range(SERIES)]
    held = [one.low <= 10 / growth.mean() <= one.high for one in found]
    assert np.mean(held) == pytest.approx(0.95, abs=0.015)


def test_two_points_tell_nothing_of_their_error():
    with pytest.raises(ValueError, match="3 values, not 2"):
        trend([1.0, 2.0], [1.0, 1.0])
