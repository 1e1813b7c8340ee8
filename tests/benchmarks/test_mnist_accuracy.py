import pytest

from benchmarks.mnist_accuracy import summary


def test_the_error_is_that_of_counting_on_shared_test_images():
    seeds = [{"seed": seed, "test_accuracy": 0.8 + 0.1 * seed, "test_images": 900} for seed in range(3)]
    found = summary(seeds)
    assert found["mean_test_accuracy"] == pytest.approx(0.9)
    assert found["binomial_error"] == pytest.approx(0.01)  # sqrt(0.9 * 0.1 / 900)
    assert found["deviation_of_seeds"] == pytest.approx(0.1)
    assert found["seeds"] == seeds
