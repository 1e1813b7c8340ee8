from itertools import product

import pytest

from benchmarks.serving.ratios import Ratio, Spread, lower_place, medians_of


@pytest.mark.parametrize("n", range(1, 13))
def test_the_bound_is_the_highest_place_that_keeps_its_confidence(n: int):
    # Each value lies below the median or above it with equal chance: count all ways in which n values can fall.
    below = [sum(signs) for signs in product((0, 1), repeat=n)]

    def confidence(place: int) -> float:
        """How often the value at this place, counted from the smallest, lies below the median."""
        return sum(count > place for count in below) / 2**n

    place = lower_place(n)
    if place is None:
        assert confidence(0) < 0.9
    else:
        assert confidence(place) >= 0.9
        assert confidence(place + 1) < 0.9


def test_a_ratio_is_the_median_of_pairs_and_not_the_ratio_of_medians():
    pairs = [(10.0, 1.0), (20.0, 10.0), (30.0, 30.0), (40.0, 8.0), (50.0, 25.0), (60.0, 10.0), (70.0, 10.0)]
    ratio = Ratio.of(pairs)  # 10, 2, 1, 5, 2, 6, 7
    assert (ratio.median, ratio.lower, ratio.pairs) == (5.0, 2.0, 7)


def test_three_pairs_give_no_bound():
    assert Ratio.of([(2.0, 1.0)] * 3).lower is None


def test_a_spread_is_median_least_and_greatest():
    assert Spread.of([5.0, 1.0, 3.0]) == Spread(3.0, 1.0, 5.0)


def test_medians_are_of_each_figure_by_itself() -> None:
    samples = [Spread(3.0, 1.0, 9.0), Spread(1.0, 2.0, 8.0), Spread(2.0, 3.0, 7.0)]
    assert medians_of(samples, ("median", "max", "min")) == [2.0, 8.0, 2.0]
