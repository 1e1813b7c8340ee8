import numpy as np
import pytest

from benchmarks.soak.trend import VALUES, trend

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


def test_the_interval_is_as_wide_as_numpys_says():
    """numpy gives the standard error; 2.228 of them are 95 % for ten degrees of freedom, says any table."""
    values = np.random.default_rng(0).normal(100, 1, VALUES)
    (slope, _), covariance = np.polyfit(AT_S / 3600, values / values.mean(), 1, cov=True)
    found = trend(list(AT_S), list(values))
    assert found.per_hour == pytest.approx(slope)
    assert (found.high - found.low) / 2 == pytest.approx(2.228 * np.sqrt(covariance[0, 0]))


def test_nineteen_of_twenty_intervals_hold_the_true_slope():
    rng = np.random.default_rng(1)
    growth = 100 + 10 * AT_S / 3600  # 10 an hour
    found = [trend(list(AT_S), list(growth + rng.normal(size=VALUES))) for _ in range(SERIES)]
    held = [one.low <= 10 / growth.mean() <= one.high for one in found]
    assert np.mean(held) == pytest.approx(0.95, abs=0.015)


def test_another_number_of_values_is_refused():
    with pytest.raises(ValueError, match="12 values, not 3"):
        trend([1.0, 2.0, 3.0], [1.0, 1.0, 1.0])
