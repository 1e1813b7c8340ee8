"""How much worse is a trained net without one of its blocks?

Veit et al., "Residual Networks Behave Like Ensembles of Relatively Shallow Networks", https://arxiv.org/abs/1605.06431.
"""

import copy
import math
import statistics
from collections.abc import Sequence
from functools import partial

from matplotlib.figure import Figure
from torch import nn

from training.data.dataset import measure
from training.experiments.curves import described, recipe, train_curves
from training.experiments.degradation import build
from training.experiments.report import SPREAD, Report, spread
from training.experiments.setup import Scale, Setup
from training.loop.scoring import score_network
from training.plots import Line, Panel, draw_panels

QUICK = Scale(images=10_000, test_images=2_000, epochs=12, seeds=(0, 1, 2), shrink=2, depths=(32,), width=8)
FULL = Scale(images=50_000, test_images=10_000, epochs=30, seeds=(0, 1, 2), depths=(56,))

_LEARNING_RATE = 0.1


def removable(network: nn.Module) -> list[tuple[str, int]]:
    """Return stage and place of each block that keeps its input's shape: all but each stage's first, and that too in
    the first stage.
    """
    places = [
        (stage, place) for stage in ("layer1", "layer2", "layer3") for place in range(len(_stage(network, stage)))
    ]
    return [(stage, place) for stage, place in places if place or stage == "layer1"]


def without(network: nn.Module, stage: str, place: int) -> nn.Module:
    """Return a copy in which the block hands on what it gets."""
    rest = copy.deepcopy(network)
    _stage(rest, stage)[place] = nn.Identity()
    return rest


def _stage(network: nn.Module, name: str) -> nn.Sequential:
    stage = network.get_submodule(name)
    assert isinstance(stage, nn.Sequential)
    return stage


def run(setup: Setup) -> Report:
    """Train both kinds, then measure the test error without each block in turn."""
    scale, settings = setup.scale, recipe(setup.scale.epochs, _LEARNING_RATE)
    depth, whole, errors = scale.depths[0], {}, {}
    for kind in ("plain", "residual"):
        curves = train_curves(f"{kind}-{depth}", partial(build, kind, depth, scale.width), settings, setup)
        whole[kind] = curves.final_test()
        trained = zip(curves.networks, whole[kind], strict=True)
        errors[kind] = [_lesions(network, error, setup) for network, error in trained]
    names = [f"{stage}.{place}" for stage, place in removable(build("plain", depth, scale.width, 2))]
    return Report(
        title="Lesion: one block removed from a trained net",
        method=(
            f"{depth}-layer CIFAR nets with batch norm, {scale.width} channels in the first stage; after training one "
            "block is taken out, the others stay as they are. Blocks that change the shape cannot be taken out of a "
            f"plain net and stay in both. {setup.described()}; {SPREAD}. {described(settings)}"
        ),
        header=("removed", "plain: test error, %", "residual: test error, %"),
        rows=(
            ("nothing", spread(whole["plain"]), spread(whole["residual"])),
            *((name, *(spread(_of_block(errors[kind], n)) for kind in errors)) for n, name in enumerate(names)),
        ),
        seen=tuple(_seen(kind, whole[kind], errors[kind]) for kind in errors),
        caption=(
            "What follows a block of a plain net has learned to work on that block's output, and gets another without "
            "it. A residual block only adds to what passes it by the shortcut: the paths round the block are still "
            "there, as if one member of an ensemble were missing (Veit et al., https://arxiv.org/abs/1605.06431)."
        ),
        picture=picture(depth, ("nothing", *names), [_line(kind, whole, errors) for kind in errors]),
    )


def picture(depth: int, removed: Sequence[str], lines: Sequence[Line]) -> Figure:
    """Draw the errors over what was removed."""
    title = f"test error of {depth}-layer nets without one block"
    return draw_panels(title, [Panel("", "removed", "test error, %", lines, names=removed)])


def _lesions(network: nn.Module, whole: float, setup: Setup) -> list[float]:
    """The error without each block, in percent; not a number if that of the whole network is none."""
    places, normalization = removable(network), measure(setup.train)
    if math.isnan(whole):
        return [math.nan] * len(places)
    nets = (without(network, *place) for place in places)
    return [100 * (1 - score_network(net, setup.test, normalization).accuracy) for net in nets]


def _of_block(errors: list[list[float]], block: int) -> list[float]:
    return [seed[block] for seed in errors]


def _line(kind: str, whole: dict[str, list[float]], errors: dict[str, list[list[float]]]) -> Line:
    values = [[first, *rest] for first, rest in zip(whole[kind], errors[kind], strict=True)]
    return Line(kind, range(len(values[0])), values)


def _seen(kind: str, whole: list[float], errors: list[list[float]]) -> str:
    rises = [error - before for before, seed in zip(whole, errors, strict=True) for error in seed]
    if any(map(math.isnan, rises)):
        return f"A training of the {kind} net diverged, so that there is no mean to tell."
    return (
        f"A block less raises the {kind} net's test error by {statistics.fmean(rises):.2f} points on average, "
        f"{min(rises):.2f} to {max(rises):.2f} over blocks and seeds."
    )
