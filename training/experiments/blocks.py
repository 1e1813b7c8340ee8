"""What do a bottleneck's 1x1 convolutions cost in accuracy, and what do they buy for the same work?"""

from dataclasses import dataclass

from torch import nn

from models.networks.resnet import BasicBlock, Bottleneck
from models.networks.resnet_cifar import CifarResNet
from training.experiments.bottleneck import Cost, cost
from training.experiments.curves import Curves, described, recipe, train_curves
from training.experiments.report import SPREAD, Report, difference, spread
from training.experiments.setup import Scale, Setup
from training.plots import Line, Panel, draw_panels

QUICK = Scale(images=8_000, test_images=2_000, epochs=6, seeds=(0, 1, 2), shrink=2)
FULL = Scale(images=50_000, test_images=10_000, epochs=30, seeds=(0, 1, 2))

_LEARNING_RATE = 0.1

_BLOCKS = 2
"""In each of the three stages of every net."""

_KINDS = {"basic": BasicBlock, "bottleneck": Bottleneck}


@dataclass(frozen=True, slots=True)
class BlockChoice:
    """The kind of a net's blocks, and the channels of its first stage."""

    kind: str
    width: int

    def __str__(self) -> str:
        return f"{self.kind}-{self.width}"

    def build(self, classes: int) -> nn.Module:
        """Return the CIFAR net, untrained, with shortcuts of option B."""
        return CifarResNet(_KINDS[self.kind], _BLOCKS, classes, self.width)


BASIC, NARROWED, WIDENED = BlockChoice("basic", 16), BlockChoice("bottleneck", 16), BlockChoice("bottleneck", 56)
"""A net, bottlenecks as wide, and bottlenecks that take as many multiply-adds, within 1 %."""

THIN = BlockChoice("basic", 5)
"""Basic blocks that take as many multiply-adds as `NARROWED`, within 8 %: no other width comes closer."""


def run(setup: Setup) -> Report:
    """Train the four nets."""
    settings = recipe(setup.scale.epochs, _LEARNING_RATE)
    side = setup.train.images.shape[-1]
    nets = (BASIC, NARROWED, WIDENED, THIN)
    found = {net: train_curves(str(net), net.build, settings, setup) for net in nets}
    costs = {net: cost(curves.networks[0], (3, side, side)) for net, curves in found.items()}
    return Report(
        title="Blocks: basic ones and bottlenecks, as wide and as costly",
        method=(
            f"CIFAR nets with batch norm and shortcuts of option B, three stages of {_BLOCKS} blocks each; the number "
            "behind a name is the channels of the first stage, of which later ones have two and four times as many. A "
            "basic block is two 3×3 convolutions; a bottleneck is a 3×3 between two 1×1, a quarter as wide inside, so "
            "that as many blocks are half as many layers more. Multiply-adds are counted as on [the page of what 1×1 "
            "convolutions save](bottleneck.md); they are not seconds. The training error is the mean over the last "
            f"epoch. {setup.described()}; {SPREAD}. {described(settings)}"
        ),
        header=("network", "multiply-adds", "parameters", "training error, %", "test error, %"),
        rows=tuple(_row(found[net], costs[net]) for net in nets),
        seen=tuple(
            _seen(*((found[net], costs[net]) for net in pair))
            for pair in ((NARROWED, BASIC), (WIDENED, BASIC), (NARROWED, THIN))
        ),
        caption=(
            "A line joins the two nets of a kind. At either end of the lines nets of both kinds take about the same "
            f"work: there the gap is what the kind of block does. From {BASIC} to {NARROWED} the width stays: that is "
            "what the saving costs. A bottleneck looks at neighbouring pixels once where a basic block does it twice, "
            "and on a quarter of the channels; for the same work it has more channels and one ReLU more."
        ),
        picture=draw_panels(
            "basic blocks and bottlenecks: error against work",
            [
                Panel("training", _WORK, "error, %", _lines({net: found[net].final_training() for net in nets}, costs)),
                Panel("test", _WORK, "error, %", _lines({net: found[net].final_test() for net in nets}, costs)),
            ],
        ),
    )


_WORK = "multiply-adds, millions"


def _lines(errors: dict[BlockChoice, list[float]], costs: dict[BlockChoice, Cost]) -> list[Line]:
    """A line for each kind, through its nets from the smallest."""
    lines = []
    for kind in _KINDS:
        nets = sorted((net for net in errors if net.kind == kind), key=lambda net: net.width)
        work = [costs[net].multiply_adds / 1e6 for net in nets]
        lines.append(Line(kind, work, list(zip(*(errors[net] for net in nets), strict=True))))
    return lines


def _row(curves: Curves, counted: Cost) -> tuple[str, ...]:
    errors = spread(curves.final_training()), spread(curves.final_test())
    return curves.name, f"{counted.multiply_adds:,}", f"{counted.parameters:,}", *errors


def _seen(net: tuple[Curves, Cost], reference: tuple[Curves, Cost]) -> str:
    (curves, counted), (other, beside) = net, reference
    return (
        f"{curves.name} takes {counted.multiply_adds / beside.multiply_adds:.2f} times the multiply-adds and has "
        f"{counted.parameters / beside.parameters:.2f} times the parameters of {other.name}; its training error is "
        f"{difference(curves.final_training(), other.final_training())} that one's, its test error "
        f"{difference(curves.final_test(), other.final_test())}."
    )
