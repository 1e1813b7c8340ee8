"""Do shortcuts or Inception modules beat a plain CNN with as many parameters, on digits?"""

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from models.networks.mnist import InceptionNet, ResidualNet
from training.experiments.curves import Build, Curves, described, recipe, train_curves
from training.experiments.report import SPREAD, Report, difference, spread
from training.experiments.setup import Scale, Setup
from training.plots import Panel, draw_panels

QUICK = Scale(images=10_000, test_images=10_000, epochs=6, seeds=(0, 1, 2))
FULL = Scale(images=60_000, test_images=10_000, epochs=15, seeds=(0, 1, 2, 3, 4))

_LEARNING_RATE = 0.02


class PlainCnn(nn.Module):
    """Float [n, 1, 28, 28] to logits [n, classes]: two 5x5 convolutions with ReLU and pooling, a classifier."""

    def __init__(self, channels: tuple[int, int], classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels[0], 5)
        self.conv2 = nn.Conv2d(channels[0], channels[1], 5)
        self.maxpool = nn.MaxPool2d(2)
        self.fc = nn.Linear(16 * channels[1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [n, classes] of x [n, 1, 28, 28]."""
        x = self.maxpool(F.relu(self.conv1(x)))
        x = self.maxpool(F.relu(self.conv2(x)))
        logits: Tensor = self.fc(x.flatten(1))
        return logits


PAIRS: tuple[tuple[str, Build, tuple[int, int]], ...] = (
    ("residual", ResidualNet, (23, 56)),
    ("inception", InceptionNet, (32, 100)),
)
"""Each net, with the channels of a plain one that has as many parameters for ten classes, within 1 %."""


def run(setup: Setup) -> Report:
    """Train both nets and the plain one of each's size."""
    settings = recipe(setup.scale.epochs, _LEARNING_RATE, batch_size=64)
    pairs = []
    for name, build, channels in PAIRS:
        net = train_curves(name, build, settings, setup)
        twin = train_curves(f"plain, as large as {name}", partial(PlainCnn, channels), settings, setup)
        pairs.append((net, twin))
    curves = [each for pair in pairs for each in pair]
    return Report(
        title="Inception: two MNIST nets beside plain ones of the same size",
        method=(
            "The residual and the Inception net of `models/networks/mnist.py`, and for each a plain CNN of two 5×5 "
            f"convolutions with as many parameters, within 1 %. {setup.described()}; {SPREAD}. {described(settings)}"
        ),
        header=("network", "parameters", "training accuracy, %", "test accuracy, %"),
        rows=tuple(_row(each) for each in curves),
        seen=tuple(_seen(*pair) for pair in pairs),
        caption=(
            "Nets of a pair have as many parameters, so that a gap between their lines comes from their layout, or "
            "from how fast it learns at the one rate and in the few epochs that all have. Branches of several filter "
            "sizes are for objects of several sizes; MNIST's digits are scaled to one."
        ),
        picture=draw_panels(
            "digits: accuracy over epochs",
            [
                Panel("training", "epoch", "accuracy, %", [each.line(_accuracies(each.training)) for each in curves]),
                Panel("test", "epoch", "accuracy, %", [each.line(_accuracies(each.test)) for each in curves]),
            ],
        ),
    )


def _accuracies(errors: list[list[float]]) -> list[list[float]]:
    return [[100 - error for error in seed] for seed in errors]


def _row(curves: Curves) -> tuple[str, ...]:
    finals = (spread([100 - error for error in errors]) for errors in (curves.final_training(), curves.final_test()))
    return curves.name, f"{curves.parameters():,}", *finals


def _seen(net: Curves, twin: Curves) -> str:
    return (
        f"After the last epoch the {net.name} net's test error is {difference(net.final_test(), twin.final_test())} "
        f"that of the plain net of its size."
    )
