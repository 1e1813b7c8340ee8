"""Figures in words."""

from training.experiments.report import difference, spread


def test_a_mean_is_told_with_its_deviation_and_a_difference_with_its_error():
    assert spread([1.0, 2.0, 3.0]) == "2.00 ± 1.00"
    assert spread([1.5]) == "1.50"
    assert spread([1.0, float("nan")]) == "diverged"
    assert difference([5.0, 7.0], [2.0, 2.0]) == "4.00 points (standard error 1.00) above"
    assert difference([1.0], [2.0]) == "1.00 points below"


def test_a_difference_that_rounds_to_none_has_no_side():
    assert difference([90.0, 90.0], [90.0, 90.0]) == "0.00 points (standard error 0.00) above or below"
    assert difference([89.999], [90.0]) == "0.00 points above or below"
