"""What makes an 8-bit model not worth having."""

import pytest

from training.release.int8_report import Comparison


@pytest.mark.parametrize(
    ("int8_accuracy", "int8_speeds", "shortcomings"),
    [
        (0.915, (11.0, 22.0), []),
        (0.925, (10.6, 21.1), []),
        (0.914, (11.0, 22.0), ["it loses more than 0.5 points of accuracy"]),
        (0.92, (10.4, 21.5), ["it is not 5% faster in batches of 1"]),
        (0.92, (9.0, 19.0), ["it is not 5% faster in batches of 1 and 8"]),
        (0.5, (11.0, 19.0), ["it loses more than 0.5 points of accuracy", "it is not 5% faster in batches of 8"]),
    ],
)
def test_what_makes_a_model_not_worth_having(int8_accuracy, int8_speeds, shortcomings):
    comparison = Comparison(
        fp32_accuracy=0.92, int8_accuracy=int8_accuracy, fp32_speeds=(10.0, 20.0), int8_speeds=int8_speeds
    )
    assert comparison.shortcomings() == shortcomings
