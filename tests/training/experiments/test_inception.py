"""Plain nets as large as those beside them."""

import pytest
import torch

from tests.networks import count_parameters
from training.experiments.inception import PAIRS, PlainCnn


@pytest.mark.parametrize(("name", "build", "channels"), PAIRS)
def test_plain_nets_for_digits_are_as_large_as_those_beside_them(name, build, channels):
    sizes = [count_parameters(net) for net in (build(10), PlainCnn(channels, 10))]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.01), name
    assert PlainCnn(channels, 10)(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
