"""Figures of an epoch, and which epoch is the best."""

import pytest
import torch

from training.loop.progress import Progress
from training.loop.scoring import Score


def _score(right: int, wrong: int) -> Score:
    return Score(0.25, torch.tensor([[right, wrong], [0, 0]]))


def test_an_epochs_figures_are_means_over_its_images():
    progress = Progress()
    progress.add(images=30, loss=1.0, correct=20, seconds=0.5)
    progress.add(images=10, loss=2.0, correct=4, seconds=1.5)
    assert progress.step == 2
    after = progress.next_epoch(_score(3, 1))
    assert after == Progress(epoch=1, history=after.history)
    assert after.history == [
        {
            "epoch": 1,
            "loss": 1.25,
            "accuracy": 0.6,
            "images_per_second": 20,
            "seconds": 2.0,
            "validation_loss": 0.25,
            "validation_accuracy": 0.75,
        }
    ]


def test_without_images_held_back_there_are_no_figures_of_them_and_no_best_epoch():
    progress = Progress()
    progress.add(images=1, loss=1.0, correct=1, seconds=1.0)
    after = progress.next_epoch(None)
    assert after.history[0].keys() == {"epoch", "loss", "accuracy", "images_per_second", "seconds"}
    assert after.best(10) is None


@pytest.mark.parametrize(
    ("images", "accuracies", "best"),
    [
        (1, [0.0], 0),
        (1, [1.0, 0.0, 1.0, 0.0], 2),
        (10, [0.4, 0.1, 0.3, 0.2], 2),  # the error of 4 of 10 is 16 points
        (10, [0.9, 1.0, 0.8], 1),  # that of 10 of 10 is 9 points
        (10_000, [0.5, 0.6, 0.596, 0.59], 2),  # that of 6,000 of 10,000 is 0.5 points
        (10_000, [0.6, 0.5, 0.7], 2),
    ],
)
def test_the_best_epoch_is_the_latest_within_a_standard_error_of_the_highest_accuracy(images, accuracies, best):
    rows = [{"validation_accuracy": accuracy} for accuracy in accuracies]
    assert Progress(history=rows).best(images) is rows[best]
