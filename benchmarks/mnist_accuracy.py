"""Test accuracy of the shipped MNIST recipes, three seeds each, trained on the recipe's share of the training data.

    OMP_WAIT_POLICY=PASSIVE python -m benchmarks.mnist_accuracy --data-root DIR --runs DIR

A run that DIR already holds is taken as it is, one that was interrupted goes on. The test split is opened once all are
trained, through the preprocessing that serves. Writes benchmarks/results/mnist_accuracy.json.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

from rich.console import Console
from scipy import stats

from benchmarks.result_file import write_result
from benchmarks.surroundings import training_surroundings
from training.commands.evaluate import evaluate
from training.commands.fit import fit
from training.loop.checkpoint import read_checkpoint
from training.loop.run import LAST
from training.options import EvaluateOptions, FitOptions

RECIPES = ("mnist-residual", "mnist-inception")
SEEDS = (0, 1, 2)
COMMAND = "python -m benchmarks.mnist_accuracy --data-root DIR --runs DIR"


def train(recipe: str, seed: int, data_root: Path, runs: Path) -> Path:
    """Train one seed to the end, or find it trained; return its last checkpoint."""
    output = runs / f"{recipe}-seed{seed}"
    options = FitOptions(
        recipe=recipe,
        data="mnist",
        data_root=data_root,
        output=output,
        seed=seed,
        resume=(output / LAST).exists(),
    )
    if code := fit(options, Console()):
        raise SystemExit(code)
    return output / LAST


def measure(path: Path, data_root: Path) -> dict[str, Any]:
    """Accuracies of a checkpoint on the images held back and on the test split, and what its training took."""
    checkpoint = read_checkpoint(path)
    history = checkpoint.state["progress"]["history"]
    metrics = evaluate(EvaluateOptions(model=path, data_root=data_root)).metrics
    return {
        "seed": checkpoint.seed,
        "test_accuracy": metrics["accuracy"],
        "test_images": metrics["images"],
        "validation_accuracy": checkpoint.metrics["accuracy"],
        "validation_images": checkpoint.metrics["images"],
        "epochs": len(history),
        "training_s": round(sum(row["seconds"] for row in history), 1),
        "threads": checkpoint.state["threads"],
    }


def summary(seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean over the seeds; the error is that of counting on so many test images, which all seeds share."""
    accuracies = [seed["test_accuracy"] for seed in seeds]
    mean, images = statistics.fmean(accuracies), seeds[0]["test_images"]
    return {
        "mean_test_accuracy": mean,
        "binomial_error": float(stats.binom.std(images, mean)) / images,
        "deviation_of_seeds": statistics.stdev(accuracies),
        "seeds": seeds,
    }


def main() -> None:
    """Train what is not trained yet, measure, write and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mnist_accuracy", description=__doc__)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=RECIPES)
    arguments = parser.parse_args()
    checkpoints = {
        recipe: [train(recipe, seed, arguments.data_root, arguments.runs) for seed in SEEDS]
        for recipe in arguments.recipes
    }
    results = {
        recipe: summary([measure(path, arguments.data_root) for path in paths]) for recipe, paths in checkpoints.items()
    }
    document = {**training_surroundings(COMMAND), "recipes": results}
    write_result("mnist_accuracy", document)
    for recipe, found in results.items():
        print(f"{recipe}: {found['mean_test_accuracy']:.2%} ± {found['binomial_error']:.2%} ({len(SEEDS)} seeds)")


if __name__ == "__main__":
    main()
