"""What happens to a deep plain and a deep residual net without batch norm?

PyTorch's own initial weights shrink what tells one image from another at each convolution, and without normalisation
nothing restores it. That is another trouble than degradation, which the ResNet paper shows with batch norm.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.networks.mnist import ResidualBlock
from training.data.dataset import measure
from training.experiments.curves import Curves, described, recipe, train_curves
from training.experiments.report import SPREAD, Report, difference, spread
from training.experiments.setup import Scale, Setup, choose
from training.plots import Panel, draw_panels

QUICK = Scale(images=8_000, test_images=2_000, epochs=5, seeds=(0, 1, 2), depths=(20,), width=16)
FULL = Scale(images=60_000, test_images=10_000, epochs=15, seeds=(0, 1, 2), depths=(20, 40), width=64)

_LEARNING_RATE = 0.02
_PROBE = 256
"""Training images whose signal is measured."""


class UnshortcutBlock(ResidualBlock):
    """relu(conv3x3(relu(conv3x3(x)))) on [n, channels, h, w]: the MNIST net's block without its shortcut."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, of x's shape."""
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


def build(kind: str, batch_norm: bool, depth: int, channels: int, classes: int) -> nn.Sequential:
    """Return a net for [n, 1, h, w]: 5x5 convolution, pooling, `depth` 3x3 convolutions in blocks, classifier."""
    block = UnshortcutBlock if kind == "plain" else ResidualBlock
    head = [nn.Conv2d(1, channels, 5, bias=not batch_norm), nn.BatchNorm2d(channels)]
    return nn.Sequential(
        *(head if batch_norm else head[:1]),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Sequential(*(block(channels, batch_norm) for _ in range(depth // 2))),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(channels, classes),
    )


@torch.no_grad()
def signal(network: nn.Sequential, images: Tensor) -> float:
    """Return how far images [n, 1, h, w] differ before the classifier: deviation over images divided by their mean."""
    features = network.train()[:-1](images)
    return float(features.std(0).norm() / features.mean(0).norm())


def run(setup: Setup) -> Report:
    """Train both kinds with and without batch norm at every depth, and measure the signal before training."""
    scale, settings = setup.scale, recipe(setup.scale.epochs, _LEARNING_RATE)
    nets = [(kind, norm, depth) for depth in scale.depths for norm in (True, False) for kind in ("plain", "residual")]
    found = {net: train_curves(_name(*net), partial(build, *net, scale.width), settings, setup) for net in nets}
    signals = {net: _signals(net, setup) for net in nets}
    curves = list(found.values())
    return Report(
        title="Normalisation: deep nets without batch norm",
        method=(
            f"A 5×5 convolution, pooling, 3×3 convolutions of {scale.width} channels in blocks of two, a linear "
            "classifier; PyTorch's own initial weights. What is seen without batch norm is a vanishing signal, not the "
            "degradation that the ResNet paper shows with batch norm. Signal: the deviation over images of what "
            "reaches the untrained classifier, divided by its mean; 0 means that all images look the same. "
            f"{setup.described()}; {SPREAD}. {described(settings)}"
        ),
        header=("network", "signal before training", "training error, %", "test error, %"),
        rows=tuple(
            (
                found[net].name,
                _small(signals[net]),
                spread(found[net].final_training()),
                spread(found[net].final_test()),
            )
            for net in nets
        ),
        seen=tuple(_seen(kind, depth, found) for depth in scale.depths for kind in ("plain", "residual")),
        caption=(
            "Without batch norm PyTorch's initial weights shrink the differences between images at each layer of a "
            "plain net: its classifier gets the same for all of them, and the error stays at that of guessing. Batch "
            "norm restores the scale at each layer, and shortcuts carry the signal round the layers, though nothing "
            "then bounds its growth."
        ),
        picture=draw_panels(
            "with and without batch norm",
            [
                Panel("training", "epoch", "error, %", [each.line(each.training) for each in curves]),
                Panel("test", "epoch", "error, %", [each.line(each.test) for each in curves]),
            ],
        ),
    )


def _name(kind: str, batch_norm: bool, depth: int) -> str:
    return f"{kind}-{depth} {'with' if batch_norm else 'without'} batch norm"


def _signals(net: tuple[str, bool, int], setup: Setup) -> list[float]:
    images = measure(setup.train)(choose(setup.train, _PROBE).images.float())
    values = []
    for seed in setup.scale.seeds:
        torch.manual_seed(seed)
        values.append(signal(build(*net, setup.scale.width, len(setup.train.classes)), images))
    return values


def _small(values: list[float]) -> str:
    return f"{min(values):.2g} to {max(values):.2g}"


def _seen(kind: str, depth: int, found: dict[tuple[str, bool, int], Curves]) -> str:
    without, with_norm = found[kind, False, depth], found[kind, True, depth]
    return (
        f"Without batch norm the {depth}-layer {kind} net's test error is "
        f"{difference(without.final_test(), with_norm.final_test())} the same net's with it."
    )
