"""Gradients of each convolution."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from tests.training.experiments.pictures import bright_and_dark
from training.data.dataset import measure
from training.experiments import gradients
from training.experiments.curves import recipe
from training.experiments.degradation import build
from training.experiments.gradients import gradient_norms
from training.experiments.setup import Setup
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


def test_gradients_are_of_images_of_every_class_where_these_lie_class_by_class(monkeypatch):
    monkeypatch.setattr(gradients, "_PROBE", 8)
    images, network, seen = bright_and_dark(64, 3, 16), build("plain", 8, 4, 2), []
    images = images.take(images.labels.argsort(stable=True))
    network.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs[0].mean((1, 2, 3)).tolist()))
    gradient_norms(network, Run(network, recipe(1, 0.1, batch_size=8), images, measure(images), 0))
    assert len(seen) == 8
    assert min(seen) < 0 < max(seen)


def test_a_net_without_any_gradient_has_norms_that_can_be_drawn():
    """On a logarithmic axis, and as ratios."""
    torch.manual_seed(0)
    images, network = bright_and_dark(8, 3, 16), build("plain", 8, 4, 2)
    torch.nn.init.zeros_(network.fc.weight)
    run = Run(network, recipe(1, 0.1, batch_size=8), images, measure(images), 0)
    assert all(norm > 0 for norm in gradient_norms(network, run))


def test_a_net_that_diverges_is_told_with_what_was_measured_before(monkeypatch):
    monkeypatch.setattr(gradients, "_LEARNING_RATE", 1e30)
    images, told = bright_and_dark(512, 3, 16), []
    scale = replace(gradients.QUICK, images=512, seeds=(0,), depths=(8,), width=4)
    report = gradients.run(Setup(images, bright_and_dark(8, 3, 16), scale, told.append))
    assert told == ["plain-8, seed 0: diverged", "residual-8, seed 0: diverged"]
    before, after = report.rows[:2], report.rows[2:]
    assert all(float(cell) > 0 for row in before for cell in row[2:])
    assert all(set(row[2:]) == {"diverged"} for row in after)
    assert all("a training diverged" in sentence for sentence in report.seen[2:])
