"""How much gradient reaches each layer of a deep net, with and without shortcuts?"""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from training.data.dataset import measure
from training.errors import Diverged
from training.experiments.curves import described, recipe
from training.experiments.degradation import build
from training.experiments.report import Report
from training.experiments.setup import Scale, Setup, choose
from training.loop.recipe import Recipe
from training.loop.run import Run
from training.plots import Line, Panel, draw_panels

QUICK = Scale(images=25_000, test_images=0, epochs=1, seeds=(0, 1, 2), shrink=2, depths=(56,), width=8)
FULL = Scale(images=50_000, test_images=0, epochs=1, seeds=(0, 1, 2), depths=(56,))

_LEARNING_RATE = 0.1
_PROBE = 256
"""Training images whose mean loss the gradients are taken of."""

_LEAST = 1e-12
"""Norm that a smaller one is taken for: a net that has died has no gradient, and 0 has no logarithm."""

_KINDS = ("plain", "residual")

_Norms = dict[str, list[list[float]]]
"""Norms by kind of network: for each seed, one a convolution, from input to output."""


def gradient_norms(network: nn.Module, run: Run) -> list[float]:
    """Return the norm of the loss's gradient by each convolution's weights, shortcuts left out, input side first.

    In training mode, in fp32, over some training images of any class; statistics of batch norm stay as they are.
    """
    kept = {name: value.clone() for name, value in network.state_dict().items()}
    probe = choose(run.images, _PROBE)
    network.train().zero_grad()
    logits = network(run.normalization(probe.images.float()).contiguous(memory_format=torch.channels_last))
    F.cross_entropy(logits, probe.labels).backward()  # type: ignore[no-untyped-call]
    network.load_state_dict(kept)
    convolutions = [module for name, module in network.named_modules() if _counts(name, module)]
    norms = [max(float(module.weight.grad.norm()), _LEAST) for module in convolutions]
    network.zero_grad()
    return norms


def _counts(name: str, module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and "downsample" not in name


def run(setup: Setup) -> Report:
    """Measure both kinds before the first step and after one epoch, from each seed."""
    depth, settings = setup.scale.depths[0], recipe(setup.scale.epochs, _LEARNING_RATE)
    before: _Norms = {kind: [] for kind in _KINDS}
    after: _Norms = {kind: [] for kind in _KINDS}
    for kind in _KINDS:
        for seed in setup.scale.seeds:
            first, second = _before_and_after(kind, depth, seed, settings, setup)
            before[kind].append(first)
            after[kind].append(second)
    moments = {"at initialisation": before, "after an epoch": after}
    return Report(
        title="Gradients: what reaches each layer, with and without shortcuts",
        method=(
            f"The norm of the loss's gradient by each convolution's weights, from the input to the output, of "
            f"{depth}-layer CIFAR nets with batch norm, {setup.scale.width} channels in the first stage, over "
            f"{min(_PROBE, len(setup.train))} training images. Training: {setup.described()}. "
            f"{described(settings)}"
        ),
        header=("network", "when", "first convolution", "last convolution", "first / last", "largest / smallest"),
        rows=tuple(_row(kind, moment, norms[kind]) for moment, norms in moments.items() for kind in _KINDS),
        seen=tuple(_seen(kind, moment, norms[kind]) for moment, norms in moments.items() for kind in _KINDS),
        caption=(
            "The gradient of a layer is a product of one factor for each layer behind it. Without shortcuts these "
            "factors multiply, and on the logarithmic axis the line slopes the more, the deeper the net; a shortcut "
            "adds 1 to the factor of its block, so that the line stays nearly level."
        ),
        picture=draw_panels(
            f"gradient norm by depth, {depth} layers", [_panel(moment, norms) for moment, norms in moments.items()]
        ),
    )


def _before_and_after(
    kind: str, depth: int, seed: int, settings: Recipe, setup: Setup
) -> tuple[list[float], list[float]]:
    """Norms at both moments; those after training are not a number if it diverged."""
    torch.manual_seed(seed)
    network = build(kind, depth, setup.scale.width, len(setup.train.classes))
    run = Run(network, settings, setup.train, measure(setup.train), seed)
    before = gradient_norms(network, run)
    try:
        run.train()
    except Diverged:
        setup.tell(f"{kind}-{depth}, seed {seed}: diverged")
        return before, [math.nan] * len(before)
    setup.tell(f"{kind}-{depth}, seed {seed}: loss {run.progress.history[-1]['loss']:.3f} in the last epoch")
    return before, gradient_norms(network, run)


def _means(norms: list[list[float]]) -> list[float]:
    """The geometric mean over the seeds, of each convolution."""
    means: list[float] = np.exp(np.log(norms).mean(0)).tolist()
    return means


def _row(kind: str, moment: str, norms: list[list[float]]) -> tuple[str, ...]:
    means = _means(norms)
    if not all(map(math.isfinite, means)):
        return kind, moment, *4 * ("diverged",)
    ratios = means[0] / means[-1], max(means) / min(means)
    return kind, moment, *(f"{value:.3g}" for value in (means[0], means[-1], *ratios))


def _seen(kind: str, moment: str, norms: list[list[float]]) -> str:
    means = _means(norms)
    if not all(map(math.isfinite, means)):
        return f"The {kind} net {moment}: a training diverged, so that there is no mean to compare."
    ratio = max(means[0] / means[-1], means[-1] / means[0])
    side = "larger" if means[0] > means[-1] else "smaller"
    return (
        f"The {kind} net {moment}: the gradient at the first convolution is {ratio:.3g} times {side} than at the last, "
        f"geometric mean of {len(norms)} seeds."
    )


def _panel(moment: str, norms: Mapping[str, list[list[float]]]) -> Panel:
    lines = [Line(kind, range(1, len(values[0]) + 1), values) for kind, values in norms.items()]
    return Panel(moment, "convolution", "gradient norm", lines, logarithmic=True)
