"""Gradients of each convolution."""

import pytest
import torch
from torch.nn import functional as F

from tests.training.experiments.pictures import bright_and_dark
from training.data.dataset import measure
from training.experiments.curves import recipe
from training.experiments.degradation import build
from training.experiments.gradients import gradient_norms
from training.loop.run import Run


def test_gradients_are_those_of_each_convolution_and_leave_the_network_as_it_was():
    torch.manual_seed(0)
    images, network = bright_and_dark(8, 3, 16), build("plain", 8, 4, 2)
    run = Run(network, recipe(1, 0.1, batch_size=8), images, measure(images), 0)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    norms = gradient_norms(network, run)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    blocks = [network.layer1[0], network.layer2[0], network.layer3[0]]
    convolutions = [network.conv1, *(conv for block in blocks for conv in (block.conv1, block.conv2))]
    loss = F.cross_entropy(network.train()(run.normalization(images.images.float())), images.labels)
    expected = torch.autograd.grad(loss, [conv.weight for conv in convolutions])
    assert norms == pytest.approx([float(gradient.norm()) for gradient in expected], rel=1e-4)


def test_a_net_without_any_gradient_has_norms_that_can_be_drawn():
    """On a logarithmic axis, and as ratios."""
    torch.manual_seed(0)
    images, network = bright_and_dark(8, 3, 16), build("plain", 8, 4, 2)
    torch.nn.init.zeros_(network.fc.weight)
    run = Run(network, recipe(1, 0.1, batch_size=8), images, measure(images), 0)
    assert all(norm > 0 for norm in gradient_norms(network, run))
