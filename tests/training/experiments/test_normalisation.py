"""Signal and blocks without shortcuts."""

import pytest
import torch
from torch import nn

from training.experiments.normalisation import UnshortcutBlock, signal


def test_the_signal_is_what_differs_between_images_beside_what_they_share():
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 2))
    apart, alike = torch.tensor([[[3.0], [4.0]], [[5.0], [4.0]]]), torch.ones(3, 2, 1)
    assert signal(network, apart) == pytest.approx(2**0.5 / 32**0.5)  # deviations (√2, 0), means (4, 4)
    assert signal(network, alike) == 0


def test_an_unshortcut_block_without_its_convolutions_is_nothing():
    block, images = UnshortcutBlock(3, batch_norm=False), torch.randn(2, 3, 5, 5)
    assert block(images).any()
    nn.init.zeros_(block.conv2.weight)
    nn.init.zeros_(block.conv2.bias)
    assert not block(images).any()
