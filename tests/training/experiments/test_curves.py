"""Errors over the epochs of a training, also of one that diverges."""

import math

import pytest
from torch import nn

from tests.training.experiments.pictures import bright_and_dark
from training.experiments.curves import recipe, train_curves
from training.experiments.setup import Scale, Setup


def _build(classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, classes))


def _setup(told: list[str]) -> Setup:
    scale = Scale(images=64, test_images=32, epochs=3, seeds=(0, 1))
    return Setup(bright_and_dark(64, 3, 4), bright_and_dark(32, 3, 4), scale, told.append)


def test_there_is_an_error_for_each_epoch_and_seed():
    told: list[str] = []
    curves = train_curves("linear", _build, recipe(3, 0.05, batch_size=8), _setup(told))
    assert [len(errors) for errors in (*curves.training, *curves.test)] == [3] * 4
    assert curves.final_test() == [0.0, 0.0]  # bright and dark are easy to tell apart
    assert [line.partition(":")[0] for line in told] == ["linear, seed 0", "linear, seed 1"]
    assert curves.line(curves.test).x == [1, 2, 3]


def test_a_training_that_diverges_has_no_errors_from_there():
    curves = train_curves("linear", _build, recipe(3, 1e38, batch_size=8), _setup([]))
    for errors in (*curves.training, *curves.test):
        assert len(errors) == 3
        assert math.isnan(errors[-1])


@pytest.mark.parametrize(("epochs", "rate"), [(1, 0.1), (30, 0.02)])
def test_every_network_of_an_experiment_is_trained_alike(epochs, rate):
    settings = recipe(epochs, rate)
    assert (settings.epochs, settings.optimizer.learning_rate, settings.batch_size) == (epochs, rate, 128)
    assert (settings.augmentation, settings.average, settings.label_smoothing) == (None, None, 0)
