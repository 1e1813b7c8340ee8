"""Errors over the epochs of a training, for each seed."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from training.data.dataset import measure
from training.errors import Diverged
from training.experiments.setup import Material
from training.loop.recipe import Recipe
from training.loop.scoring import evaluate
from training.loop.trainer import Trainer
from training.plots import Line

Build = Callable[[int], nn.Module]  # from the number of classes


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

    def line(self, errors: list[list[float]], *, dashed: bool = False) -> Line:
        """Return errors over epochs to draw."""
        return Line(self.name, list(range(1, len(errors[0]) + 1)), errors, dashed=dashed)


def train_curves(name: str, build: Build, recipe: Recipe, material: Material) -> Curves:
    """Train a network anew from each seed, and measure it on the test images after each epoch."""
    curves = Curves(name, [], [], [])
    for seed in material.scale.seeds:
        started = time.perf_counter()
        torch.manual_seed(seed)
        network = build(len(material.train.classes))
        trainer = Trainer(network, recipe, material.train, measure(material.train), seed)
        rows = _train(trainer, material)
        curves.training.append([row[0] for row in rows])
        curves.test.append([row[1] for row in rows])
        curves.networks.append(network)
        training, test = rows[-1]
        seconds = time.perf_counter() - started
        material.tell(f"{name}, seed {seed}: training error {training:.2f} %, test {test:.2f} %, {seconds:.0f} s")
    return curves


def _train(trainer: Trainer, material: Material) -> list[tuple[float, float]]:
    rows: list[tuple[float, float]] = []
    for _ in range(trainer.recipe.epochs):
        try:
            for _ in trainer.steps():
                pass
        except Diverged:
            missing = trainer.recipe.epochs - len(rows)
            return rows + missing * [(math.nan, math.nan)]
        score = evaluate(trainer.judged, material.test, trainer.normalization)
        figures = trainer.finish_epoch(score)
        rows.append((100 * (1 - figures["accuracy"]), 100 * (1 - score.accuracy)))
    return rows


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
