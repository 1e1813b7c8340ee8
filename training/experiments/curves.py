"""Errors over the epochs of a training, for each seed."""

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import nn

from training.data.dataset import measure
from training.errors import Diverged
from training.experiments.setup import Setup
from training.loop.recipe import Recipe
from training.loop.run import Run
from training.plots import Line

Build = Callable[[int], nn.Module]
"""Makes a network of the number of classes."""


@dataclass(frozen=True, slots=True)
class Curves:
    """Errors in percent, a list over the epochs for each seed, NaN from where a training diverged; the last networks.

    The training error is the mean over an epoch's steps, while the weights change, as the papers draw it.
    """

    name: str
    training: list[list[float]]
    test: list[list[float]]
    networks: list[nn.Module]

    def final_training(self) -> list[float]:
        """Return each seed's training error of the last epoch."""
        return [errors[-1] for errors in self.training]

    def final_test(self) -> list[float]:
        """Return each seed's test error after the last epoch."""
        return [errors[-1] for errors in self.test]

    def parameters(self) -> int:
        """Return how many parameters each of the networks has."""
        return sum(parameter.numel() for parameter in self.networks[0].parameters())

    def line(self, errors: list[list[float]], *, dashed: bool = False) -> Line:
        """Return errors over epochs to draw."""
        return Line(self.name, list(range(1, len(errors[0]) + 1)), errors, dashed=dashed)


def train_curves(name: str, build: Build, recipe: Recipe, setup: Setup) -> Curves:
    """Train a network anew from each seed, and measure it on the test images after each epoch."""
    curves = Curves(name, [], [], [])
    for seed in setup.scale.seeds:
        started = time.perf_counter()
        torch.manual_seed(seed)
        network = build(len(setup.train.classes))
        run = Run(network, recipe, setup.train, measure(setup.train), seed, held_back=setup.test)
        with suppress(Diverged):
            run.train()
        curves.training.append(_errors(run, "accuracy"))
        curves.test.append(_errors(run, "validation_accuracy"))
        curves.networks.append(network)
        training, test = curves.training[-1][-1], curves.test[-1][-1]
        seconds = time.perf_counter() - started
        setup.tell(f"{name}, seed {seed}: training error {training:.2f} %, test {test:.2f} %, {seconds:.0f} s")
    return curves


def _errors(run: Run, accuracy: str) -> list[float]:
    """One for each epoch of the recipe, in percent; not a number from where the training diverged."""
    errors = [100 * (1 - row[accuracy]) for row in run.progress.history]
    return errors + (run.recipe.epochs - len(errors)) * [math.nan]


def recipe(epochs: int, learning_rate: float, batch_size: int = 128) -> Recipe:
    """Return the same plain settings for every network of an experiment: no augmentation, smoothing or averaging."""
    return Recipe.from_table(
        {
            "architecture": "experiment",
            "epochs": epochs,
            "batch_size": batch_size,
            "validation": 0.0,
            "optimizer": {
                "learning_rate": learning_rate,
                "momentum": 0.9,
                "nesterov": True,
                "weight_decay": 1e-4,
                "decay": "weights",
            },
            "schedule": {"kind": "linear", "warmup": 0.15},
        }
    )


def described(settings: Recipe) -> str:
    """Return a sentence on how every network was trained."""
    optimizer = settings.optimizer
    return (
        f"SGD with Nesterov momentum {optimizer.momentum:g}, batch {settings.batch_size}, learning rate rising to "
        f"{optimizer.learning_rate:g} and falling to 0, weight decay {optimizer.weight_decay:g}, no augmentation; "
        "convolutions in bf16 while training where the CPU has instructions for it."
    )
