"""What a run shows on the terminal."""

import io

import pytest
import torch
from rich.console import Console
from torch import nn

from training.data.dataset import ImageSet, Normalization
from training.loop.recipe import load_recipe
from training.loop.run import Run
from training.loop.terminal import ProgressBar


@pytest.fixture
def run() -> Run:
    images = ImageSet(torch.zeros(200, 1, 2, 2, dtype=torch.uint8), torch.arange(200) % 2, ("even", "odd"))
    recipe = load_recipe("mnist-residual").changed(epochs=3, architecture=None, arguments=[])
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    return Run(network, recipe, images, Normalization((0.0,), (1.0,)), seed=0)


def test_the_bar_counts_all_steps_from_where_the_run_is(run):
    console = Console(file=io.StringIO(), width=200, force_terminal=True)
    run.progress.epoch, steps = 1, run.epoch_steps
    with ProgressBar(console, run) as bar:
        run.progress.add(images=100, loss=0.5, correct=75, seconds=0.25)
        bar.step_done(run.progress)
    shown = console.file.getvalue()
    for part in ("epoch 2/3", f"{steps + 1}/{3 * steps}", "loss 0.5000  accuracy 75.00%", "400 images/s"):
        assert part in shown


def test_a_run_that_had_finished_shows_no_bar(run):
    console = Console(file=io.StringIO(), width=200, force_terminal=True)
    run.progress.epoch = run.recipe.epochs
    with ProgressBar(console, run):
        pass
    assert console.file.getvalue() == ""


@pytest.mark.parametrize("validated", [False, True])
def test_an_epochs_line_has_its_figures_and_those_of_images_held_back_if_any(run, validated):
    figures = {"epoch": 2, "loss": 0.25, "accuracy": 0.5, "images_per_second": 1234.5}
    if validated:
        figures |= {"validation_loss": 0.125, "validation_accuracy": 0.75}
    console = Console(file=io.StringIO(), width=200)
    with ProgressBar(console, run) as bar:
        bar.epoch_done(figures)
    line = console.file.getvalue().splitlines()[0]
    held_back = "  validation loss 0.1250  accuracy 75.00%" if validated else ""
    assert line == f"epoch   2  loss 0.2500  accuracy 50.00%{held_back}  1,234 images/s"


@pytest.mark.parametrize(("averaged", "told"), [(True, "75.00% of averaged weights"), (False, "75.00% of raw weights")])
def test_an_epochs_line_says_which_weights_were_kept(run, averaged, told):
    figures = {"epoch": 2, "loss": 0.25, "accuracy": 0.5, "images_per_second": 1234.5, "averaged": averaged}
    console = Console(file=io.StringIO(), width=200)
    with ProgressBar(console, run) as bar:
        bar.epoch_done(figures | {"validation_loss": 0.125, "validation_accuracy": 0.75})
    assert told in console.file.getvalue()
