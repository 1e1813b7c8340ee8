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
        images=1000,
        agreement=0.5,
        accuracies=(0.92, int8_accuracy),
        fp32_speeds=(10.0, 20.0),
        int8_speeds=int8_speeds,
    )
    assert comparison.shortcomings() == shortcomings


@pytest.mark.parametrize(
    ("agreement", "shortcomings"),
    [
        (0.98, []),
        (0.979, ["it names more than 2 % of the images otherwise than the model in fp32"]),
    ],
)
def test_where_accuracy_is_not_known_agreement_counts(agreement, shortcomings):
    speeds = (10.0, 20.0), (20.0, 40.0)
    comparison = Comparison(
        images=1000, agreement=agreement, accuracies=None, fp32_speeds=speeds[0], int8_speeds=speeds[1]
    )
    assert comparison.shortcomings() == shortcomings
    assert "accuracy" not in comparison.report()


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (20, "20 images as the model in fp32 does, which are few: one is 5.0%"),
        (500, "500 images as the model in fp32 does\n"),
    ],
)
def test_few_images_are_said_to_tell_little(images, told):
    comparison = Comparison(
        images=images, agreement=1.0, accuracies=None, fp32_speeds=(1.0, 1.0), int8_speeds=(2.0, 2.0)
    )
    assert told in comparison.report()
