"""Every experiment by name."""

from collections.abc import Callable
from dataclasses import dataclass

from training.experiments import blocks, bottleneck, branches, degradation, gradients, inception, lesion, normalisation
from training.experiments.report import Report
from training.experiments.setup import Scale, Setup


@dataclass(frozen=True, slots=True)
class TrainedExperiment:
    """An experiment that trains: its usual data set, the pictures' channels and side, and its scales and time."""

    run: Callable[[Setup], Report]
    data: str
    channels: int
    side: int
    quick: Scale
    full: Scale
    full_time: str


@dataclass(frozen=True, slots=True)
class CountedExperiment:
    """An experiment that only counts."""

    run: Callable[[], Report]


def experiments() -> dict[str, TrainedExperiment | CountedExperiment]:
    """Return them all; the full times are estimates from ResNet-20 (30 epochs in 45 minutes), not timed."""
    return {
        "degradation": TrainedExperiment(
            degradation.run, "cifar10", 3, 32, degradation.QUICK, degradation.FULL, "17 hours"
        ),
        "normalisation": TrainedExperiment(
            normalisation.run, "mnist", 1, 28, normalisation.QUICK, normalisation.FULL, "50 hours"
        ),
        "gradients": TrainedExperiment(
            gradients.run, "cifar10", 3, 32, gradients.QUICK, gradients.FULL, "half an hour"
        ),
        "inception": TrainedExperiment(
            inception.run, "mnist", 1, 28, inception.QUICK, inception.FULL, "an hour and a half"
        ),
        "branches": TrainedExperiment(branches.run, "mnist", 1, 28, branches.QUICK, branches.FULL, "5 hours"),
        "bottleneck": CountedExperiment(bottleneck.run),
        "blocks": TrainedExperiment(blocks.run, "cifar10", 3, 32, blocks.QUICK, blocks.FULL, "8 hours"),
        "lesion": TrainedExperiment(lesion.run, "cifar10", 3, 32, lesion.QUICK, lesion.FULL, "13 hours"),
    }
