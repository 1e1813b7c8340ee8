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
    """Return them all; the full times are estimates.

    Nets that are narrower in the quick form: from their multiply-adds, at ResNet-20's speed (30 epochs in 45 minutes).
    Nets that are the same in both: the quick form's time on its page, by the ratio of images that are trained on.
    """
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
        "inception": TrainedExperiment(inception.run, "mnist", 1, 28, inception.QUICK, inception.FULL, "3.5 hours"),
        "branches": TrainedExperiment(branches.run, "mnist", 1, 28, branches.QUICK, branches.FULL, "13 hours"),
        "bottleneck": CountedExperiment(bottleneck.run),
        "blocks": TrainedExperiment(blocks.run, "cifar10", 3, 32, blocks.QUICK, blocks.FULL, "8 hours"),
        "lesion": TrainedExperiment(lesion.run, "cifar10", 3, 32, lesion.QUICK, lesion.FULL, "13 hours"),
    }
