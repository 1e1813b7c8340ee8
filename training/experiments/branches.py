"""What does each branch of an Inception module buy, beside a net of the same size without it?"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.networks.mnist import InceptionA, InceptionNet
from training.experiments.curves import Curves, described, recipe, train_curves
from training.experiments.report import SPREAD, Report, difference, spread
from training.experiments.setup import Scale, Setup
from training.plots import Line, Panel, draw_panels

QUICK = Scale(images=10_000, test_images=10_000, epochs=6, seeds=(0, 1, 2))
FULL = Scale(images=60_000, test_images=10_000, epochs=15, seeds=(0, 1, 2, 3, 4))

_LEARNING_RATE = 0.02

WIDENINGS = {"branch1x1": 1.12, "branch5x5": 1.65, "branch3x3": 1.53, "branch_pool": 1.22}
"""Each branch, with the factor on the other branches' channels that makes up for its parameters, within 2 %."""

_NAMES = {"branch1x1": "1×1", "branch5x5": "5×5", "branch3x3": "3×3", "branch_pool": "pooling"}


class FewerBranches(InceptionA):
    """An Inception module without one branch; from each other come `widening` times as many channels."""

    def __init__(self, channels: int, left_out: str, widening: float) -> None:
        super().__init__(channels)
        delattr(self, left_out)
        for name, branch in list(self.named_children()):
            setattr(self, name, _widened(branch, widening))

    def forward(self, x: Tensor) -> Tensor:
        """Return the branches' outputs, concatenated along the channels."""
        return F.relu(torch.cat([branch(x) for branch in self.children()], dim=1))

    def out_channels(self) -> int:
        """Return the channels of all branches together."""
        return sum(_last(branch).out_channels for branch in self.children())


def _last(branch: nn.Module) -> nn.Conv2d:
    """The convolution that a branch ends with."""
    last = branch[-1] if isinstance(branch, nn.Sequential) else branch
    assert isinstance(last, nn.Conv2d)
    return last


def _widened(branch: nn.Module, factor: float) -> nn.Sequential:
    """The branch with so many times the channels out of its last convolution."""
    last = _last(branch)
    side = last.kernel_size[0]
    wide = nn.Conv2d(last.in_channels, round(factor * last.out_channels), side, padding=side // 2)
    return nn.Sequential(*list(branch.children())[:-1], wide)


def without(left_out: str, widening: float, classes: int) -> InceptionNet:
    """Return the Inception net without a branch in both modules, the others widened."""
    network = InceptionNet(classes)
    network.inception1 = FewerBranches(network.conv1.out_channels, left_out, widening)
    network.inception2 = second = FewerBranches(network.conv2.out_channels, left_out, widening)
    channels = second.out_channels()  # as many as out of the first
    network.conv2 = nn.Conv2d(channels, network.conv2.out_channels, 5)
    network.fc = nn.Linear(channels * 4 * 4, classes)
    return network


def run(setup: Setup) -> Report:
    """Train the whole net, and one without each branch."""
    settings = recipe(setup.scale.epochs, _LEARNING_RATE, batch_size=64)
    whole = train_curves("all branches", InceptionNet, settings, setup)
    rest = [
        train_curves(f"without the {_NAMES[name]} branch", partial(without, name, widening), settings, setup)
        for name, widening in WIDENINGS.items()
    ]
    curves = [whole, *rest]
    return Report(
        title="Branches: an Inception net without each of its branches",
        method=(
            "The Inception net of `models/networks/mnist.py`, and four of the same size, within 2 % of its parameters: "
            "each lacks one branch in both of its modules, and more channels come out of the other branches. "
            f"The training error is the mean over the last epoch. {setup.described()}; {SPREAD}. {described(settings)}"
        ),
        header=("network", "parameters", "training error, %", "test error, %"),
        rows=tuple(_row(each) for each in curves),
        seen=tuple(_seen(each, whole) for each in rest),
        caption=(
            "Where a net without a branch does as well as the whole, its parameters serve as well in the other "
            "branches, or the few epochs at the one rate that all have hide the gap. The 1×1 branch and pooling are "
            "cheap, so that the others grow little without them; the 5×5 and the 3×3 branch, which has two of them in "
            "a row, see as far, 5×5 pixels, and may stand in for each other."
        ),
        picture=draw_panels(
            "digits: an Inception net without each branch",
            [
                Panel(
                    "",
                    "branch that is left out",
                    "error, %",
                    [
                        _line("training", [each.final_training() for each in curves]),
                        _line("test", [each.final_test() for each in curves]),
                    ],
                    names=("none", *_NAMES.values()),
                )
            ],
        ),
    )


def _line(name: str, errors: list[list[float]]) -> Line:
    return Line(name, range(len(errors)), list(zip(*errors, strict=True)))


def _row(curves: Curves) -> tuple[str, ...]:
    return curves.name, f"{curves.parameters():,}", spread(curves.final_training()), spread(curves.final_test())


def _seen(net: Curves, whole: Curves) -> str:
    return (
        f"The net {net.name} has a test error {difference(net.final_test(), whole.final_test())} that of the net with "
        f"all branches, a training error {difference(net.final_training(), whole.final_training())}."
    )
