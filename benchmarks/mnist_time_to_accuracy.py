"""Training time until 98.5 % of the MNIST test images are right: a widely copied tutorial's recipe, and ours.

    OMP_WAIT_POLICY=PASSIVE python -m benchmarks.mnist_time_to_accuracy --data-root DIR

Both train the same network on the same cores. The tutorial's way: torchvision's transforms in a DataLoader, SGD with
learning rate 0.01 and momentum 0.5, batches of 64, up to three epochs. Ours: the recipe mnist-residual-fast. Their
turns alternate, one epoch of theirs and one whole run of ours, so that other load slows both. The time counts that
training takes with what each does to its images, without start-up and evaluation; CPU seconds, which a busy
machine changes less, stand beside it. Writes benchmarks/results/mnist_time_to_accuracy.json.
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import MNIST

from benchmarks.result_file import write_result
from benchmarks.surroundings import training_surroundings
from models.networks import registry
from training.data import sources
from training.data.dataset import ImageSet, Normalization, hold_out, measure
from training.loop.recipe import load_recipe
from training.loop.run import Run
from training.loop.scoring import score_network

TARGET = 0.985
ROUNDS = 3
TUTORIAL_EPOCHS = 3
RECIPE = "mnist-residual-fast"
TUTORIAL = Normalization(mean=(0.1307,), std=(0.3081,))
COMMAND = "python -m benchmarks.mnist_time_to_accuracy --data-root DIR"


@dataclass(frozen=True, slots=True)
class Leg:
    """The time that some training took, and the test accuracy that it led to."""

    wall_s: float
    cpu_s: float
    accuracy: float


def tutorial(seed: int, data_root: Path, test: ImageSet) -> Iterator[Leg]:
    """Train as the tutorial does, an epoch at a time."""
    torch.manual_seed(seed)
    network = registry.build("mnist-residual")
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(TUTORIAL.mean, TUTORIAL.std)])
    loader = DataLoader(MNIST(data_root, train=True, transform=transform), batch_size=64, shuffle=True)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.5)
    for _ in range(TUTORIAL_EPOCHS):
        wall, cpu = time.perf_counter(), time.process_time()
        network.train()
        for images, labels in loader:
            optimizer.zero_grad()
            F.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        yield Leg(wall, cpu, score_network(network, test, TUTORIAL).accuracy)


def ours(seed: int, everything: ImageSet, test: ImageSet) -> Leg:
    """Train by our recipe to its end."""
    recipe = load_recipe(RECIPE)
    torch.manual_seed(seed)
    network = registry.build(recipe.architecture)
    wall, cpu = time.perf_counter(), time.process_time()
    images, _ = hold_out(everything, recipe.validation)
    run = Run(network, recipe, images, measure(images), seed)
    run.train()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Leg(wall, cpu, score_network(run.kept, test, run.normalization).accuracy)


def to_target(legs: list[Leg]) -> dict[str, Any]:
    """Time up to the first leg that reached the target; all of it, a lower bound, if none did."""
    reached = next((number for number, leg in enumerate(legs, 1) if leg.accuracy >= TARGET), None)
    counted = legs[:reached]
    return {
        "reached": reached is not None,
        "epochs": len(counted),
        "wall_s": sum(leg.wall_s for leg in counted),
        "cpu_s": sum(leg.cpu_s for leg in counted),
    }


def run_round(number: int, data_root: Path, everything: ImageSet, test: ImageSet) -> dict[str, Any]:
    """One run of theirs, with one of ours after each of its epochs."""
    theirs: list[Leg] = []
    runs: list[Leg] = []
    for leg in tutorial(number, data_root, test):
        theirs.append(leg)
        runs.append(ours(TUTORIAL_EPOCHS * number + len(runs), everything, test))
        print(f"round {number + 1}: theirs {theirs[-1]}, ours {runs[-1]}", flush=True)
    to = to_target(theirs)
    return {
        "theirs": {**to, "legs": [asdict(leg) for leg in theirs]},
        "ours": {"reached": [leg.accuracy >= TARGET for leg in runs], "legs": [asdict(leg) for leg in runs]},
        "times_as_fast": {
            clock: to[clock] / statistics.median(getattr(leg, clock) for leg in runs) for clock in ("wall_s", "cpu_s")
        },
    }


def document(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """What the rounds so far say."""
    times = {clock: statistics.median(each["times_as_fast"][clock] for each in rounds) for clock in ("wall_s", "cpu_s")}
    return {**training_surroundings(COMMAND), "target": TARGET, "median_times_as_fast": times, "rounds": rounds}


def mnist(data_root: Path, split: sources.Split) -> ImageSet:
    """All images of a split."""
    images = sources.load("mnist", data_root, split)
    assert isinstance(images, ImageSet)
    return images


def main() -> None:
    """Run the rounds, and write the results after each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mnist_time_to_accuracy", description=__doc__)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    everything, test = mnist(arguments.data_root, "train"), mnist(arguments.data_root, "test")
    rounds: list[dict[str, Any]] = []
    for number in range(arguments.rounds):
        rounds.append(run_round(number, arguments.data_root, everything, test))
        found = document(rounds)
        write_result("mnist_time_to_accuracy", found)
    times = found["median_times_as_fast"]
    print(f"ours is {times['wall_s']:.1f} times as fast to {TARGET:.1%} ({times['cpu_s']:.1f} by CPU time)")


if __name__ == "__main__":
    main()
