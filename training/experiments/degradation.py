"""Does a deeper network of the same kind do worse, also on its training images? Plain and residual, with batch norm."""

from functools import partial

from torch import nn

from models.networks import resnet_cifar
from training.experiments.curves import Curves, described, recipe, train_curves
from training.experiments.report import SPREAD, Report, difference, spread
from training.experiments.setup import Scale, Setup
from training.plots import Panel, draw_panels

QUICK = Scale(images=6_000, test_images=2_000, epochs=10, seeds=(0, 1, 2), shrink=2, depths=(20, 56), width=8)
FULL = Scale(images=50_000, test_images=10_000, epochs=30, seeds=(0, 1, 2), depths=(20, 56))

_LEARNING_RATE = 0.1


def build(kind: str, depth: int, width: int, classes: int) -> nn.Module:
    """Return the CIFAR net of that depth and width, `plain` or `residual`, with shortcuts of option A."""
    network = resnet_cifar.plain if kind == "plain" else resnet_cifar.resnet
    return network(depth, classes, width=width)


def run(setup: Setup) -> Report:
    """Train every kind at every depth."""
    scale = setup.scale
    settings = recipe(scale.epochs, _LEARNING_RATE)
    nets = [(kind, depth) for kind in ("plain", "residual") for depth in scale.depths]
    found = {
        net: train_curves(f"{net[0]}-{net[1]}", partial(build, *net, scale.width), settings, setup) for net in nets
    }
    curves = list(found.values())
    return Report(
        title="Degradation: deeper plain nets against deeper residual nets",
        method=(
            f"CIFAR nets of the ResNet paper's section 4.2, all with batch norm, {scale.width}, {2 * scale.width} and "
            f"{4 * scale.width} channels. The training error is the mean over the last epoch. "
            f"{setup.described()}; {SPREAD}. {described(settings)}"
        ),
        header=("network", "training error, %", "test error, %"),
        rows=tuple((each.name, spread(each.final_training()), spread(each.final_test())) for each in curves),
        seen=tuple(_seen(kind, found, scale.depths) for kind in ("plain", "residual")),
        caption=(
            "A deeper plain net could copy a shallower one, if its further layers computed the identity. Where its "
            "error is higher on the training images, too, it does not overfit: gradient descent does not find that "
            "copy. A block with a shortcut computes the identity once the scale and shift of its last batch norm are "
            "near 0, so that depth need do no harm."
        ),
        picture=draw_panels(
            "plain and residual nets with batch norm",
            [
                Panel("training", "epoch", "error, %", [each.line(each.training) for each in curves]),
                Panel("test", "epoch", "error, %", [each.line(each.test) for each in curves]),
            ],
        ),
    )


def _seen(kind: str, found: dict[tuple[str, int], Curves], depths: tuple[int, ...]) -> str:
    shallow, deep = found[kind, min(depths)], found[kind, max(depths)]
    return (
        f"The {max(depths)}-layer {kind} net's training error is "
        f"{difference(deep.final_training(), shallow.final_training())} the {min(depths)}-layer one's, its test error "
        f"{difference(deep.final_test(), shallow.final_test())}."
    )
