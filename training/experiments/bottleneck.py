"""What does a 1x1 convolution in front of a larger one save? Counted on the networks, nothing is trained."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from models.networks import resnet
from models.networks.mnist import InceptionNet
from training.experiments.report import Report
from training.layer_profile import profile_layers
from training.plots import draw_bars


@dataclass(frozen=True, slots=True)
class Pair:
    """Two ways to the same output shape: straight, and by way of fewer channels."""

    name: str
    straight: nn.Module
    narrowed: nn.Module
    input_shape: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Cost:
    """Parameters, and multiply-adds for one image."""

    parameters: int
    multiply_adds: int


def cost(network: nn.Module, input_shape: tuple[int, int, int]) -> Cost:
    """Count a network given one image of that shape."""
    layers = profile_layers(network, input_shape)
    return Cost(sum(row.parameters for row in layers), sum(row.multiply_adds for row in layers))


def pairs() -> Iterator[Pair]:
    """Yield what is compared, on the meta device."""
    with torch.device("meta"):
        yield Pair(
            "192 to 32 channels by 5×5 at 28×28, through 16 (GoogLeNet's 3a)",
            nn.Conv2d(192, 32, 5, padding=2),
            nn.Sequential(nn.Conv2d(192, 16, 1), nn.Conv2d(16, 32, 5, padding=2)),
            (192, 28, 28),
        )
        network = InceptionNet()
        for number, module, side in ((1, network.inception1, 12), (2, network.inception2, 4)):
            yield _branch(number, module.branch5x5, side)
        yield Pair(
            "block of 256 channels at 56×56: basic, bottleneck of 64",
            resnet.BasicBlock(256, 256, 1),
            resnet.Bottleneck(256, 256, 1),
            (256, 56, 56),
        )
        yield Pair(
            "ResNet-50's stages: of basic blocks, of bottlenecks",
            resnet.ResNet(resnet.BasicBlock, 256, resnet.BOTTLENECK[50]),
            resnet.resnet(50),
            (3, 224, 224),
        )
        yield Pair("ResNet-34 of basic blocks, ResNet-50", resnet.resnet(34), resnet.resnet(50), (3, 224, 224))


def _branch(number: int, branch: nn.Sequential, side: int) -> Pair:
    """The 5x5 branch of an Inception module that ships, beside its 5x5 on the module's own input."""
    narrow, _, large = branch
    assert isinstance(narrow, nn.Conv2d)
    assert isinstance(large, nn.Conv2d)
    channels, out = narrow.in_channels, large.out_channels
    name = (
        f"mnist-inception, module {number}: {channels} to {out} by 5×5 at {side}×{side}, through {narrow.out_channels}"
    )
    return Pair(name, nn.Conv2d(channels, out, 5, padding=2), branch, (channels, side, side))


def run() -> Report:
    """Count every pair."""
    counted = [
        (pair.name, cost(pair.straight, pair.input_shape), cost(pair.narrowed, pair.input_shape)) for pair in pairs()
    ]
    return Report(
        title="Bottleneck: what a 1×1 convolution in front saves",
        method=(
            "Parameters, biases and batch norm included, and multiply-adds of convolutions and linear layers for one "
            "image, counted layer by layer on the networks themselves (`training/layer_profile.py`). In each pair the "
            "first way goes straight, the second through fewer channels. Nothing is trained: this says what is saved; "
            "[the page of blocks](blocks.md) has what it costs in accuracy. The last pair compares networks of "
            "different width and depth, as they are."
        ),
        header=("pair", "parameters", "narrowed", "multiply-adds", "narrowed", "multiply-adds left"),
        rows=tuple(_row(*each) for each in counted),
        seen=tuple(_seen(*each) for each in counted),
        caption=(
            "A bar below 100 % saves. A k×k convolution costs k² times channels in times channels out at each pixel; "
            "a 1×1 in front costs little and lowers the channels in. It saves where there are many more of them than "
            "it leaves, and costs where, as in module 1, there are fewer."
        ),
        picture=draw_bars(
            "multiply-adds of the narrowed way",
            "% of the straight way's",
            {name: 100 * _left(straight, narrowed) for name, straight, narrowed in counted},
        ),
    )


def _left(straight: Cost, narrowed: Cost) -> float:
    return narrowed.multiply_adds / straight.multiply_adds


def _row(name: str, straight: Cost, narrowed: Cost) -> tuple[str, ...]:
    counts = (straight.parameters, narrowed.parameters, straight.multiply_adds, narrowed.multiply_adds)
    return name, *(f"{count:,}" for count in counts), f"{_left(straight, narrowed):.1%}"


def _seen(name: str, straight: Cost, narrowed: Cost) -> str:
    def change(before: int, after: int, what: str) -> str:
        ratio, word = (before / after, "fewer") if after < before else (after / before, "more")
        return f"{ratio:.2f} times {word} {what}"

    parameters = change(straight.parameters, narrowed.parameters, "parameters")
    work = change(straight.multiply_adds, narrowed.multiply_adds, "multiply-adds")
    return f"{name}: {parameters}, {work}."
