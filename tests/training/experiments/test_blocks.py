"""Nets of either kind of block that take as much work."""

import pytest

from training.experiments.blocks import BASIC, NARROWED, THIN, WIDENED, BlockChoice
from training.experiments.bottleneck import cost


def _work(net: BlockChoice, side: int) -> int:
    return cost(net.build(10), (3, side, side)).multiply_adds


@pytest.mark.parametrize("side", [16, 32])
@pytest.mark.parametrize(
    ("net", "reference", "apart", "step"), [(WIDENED, BASIC, 0.01, 4), (THIN, NARROWED, 0.08, 1)], ids=str
)
def test_no_other_width_takes_work_closer_to_that_of_the_other_kind(net, reference, apart, step, side):
    aim = _work(reference, side)
    assert _work(net, side) == pytest.approx(aim, rel=apart)
    others = (_work(BlockChoice(net.kind, net.width + change), side) for change in (-step, step))
    assert all(abs(work - aim) > abs(_work(net, side) - aim) for work in others)


def test_bottlenecks_as_wide_have_as_many_blocks_and_give_as_many_channels():
    basic, narrowed = (net.build(10) for net in (BASIC, NARROWED))
    for stage in ("layer1", "layer2", "layer3"):
        assert len(basic.get_submodule(stage)) == len(narrowed.get_submodule(stage))
    assert basic.fc.weight.shape == narrowed.fc.weight.shape
