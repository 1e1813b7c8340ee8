"""Experiments in miniature: a page that tells what was measured. What they find at full size is no test's business."""

import re
from dataclasses import replace

import pytest
import torch
from torch import Generator, nn
from torch.nn import functional as F

from tests.training.command import resnet_train
from training.data.dataset import ImageSet, measure
from training.experiments.catalogue import TrainedExperiment, experiments
from training.experiments.curves import recipe
from training.experiments.degradation import build
from training.experiments.gradients import gradient_norms
from training.experiments.inception import PAIRS, PlainCnn
from training.experiments.lesion import removable, without
from training.experiments.normalisation import UnshortcutBlock, signal
from training.experiments.report import difference, spread
from training.experiments.setup import Setup
from training.loop.run import Run

PNG = b"\x89PNG\r\n\x1a\n"
TRAINED = {name: each for name, each in experiments().items() if isinstance(each, TrainedExperiment)}
CLASSES = ("dark", "bright")


def _images(count, channels, side):
    labels = torch.arange(count) % 2
    noise = torch.randint(0, 100, (count, channels, side, side), generator=Generator().manual_seed(0))
    return ImageSet((noise + 100 * labels.view(-1, 1, 1, 1)).to(torch.uint8), labels, CLASSES)


@pytest.mark.parametrize("name", TRAINED)
def test_every_network_is_trained_for_every_seed_and_told(name):
    experiment, told = TRAINED[name], []
    scale = replace(experiment.quick, images=32, test_images=16, epochs=1, seeds=(0, 1))
    side = experiment.side // scale.shrink
    train, test = (_images(count, experiment.channels, side) for count in (32, 16))
    report = experiment.run(Setup(train, test, scale, told.append))
    assert len(report.rows) > 1
    assert {len(row) for row in report.rows} == {len(report.header)}
    assert all(re.search(r"\d", row[-1]) for row in report.rows)
    assert report.seen
    assert told
    for axes in report.picture.axes:
        assert axes.get_lines()
        assert all(len(line.get_xdata()) for line in axes.get_lines())
    assert "32 training and 16 test images" in report.method


def test_a_removed_block_hands_on_what_it_gets_and_all_else_stays():
    network, images = build("residual", 20, 4, 2).eval(), torch.randn(2, 3, 16, 16)
    before = network(images)
    assert removable(network) == [
        *(("layer1", place) for place in (0, 1, 2)),
        *((stage, place) for stage in ("layer2", "layer3") for place in (1, 2)),
    ]
    x = network.layer1(F.relu(network.bn1(network.conv1(images))))
    x = network.layer3(network.layer2[2](network.layer2[0](x)))
    assert torch.equal(without(network, "layer2", 1)(images), network.fc(x.mean((2, 3))))
    assert torch.equal(network(images), before)


def test_gradients_are_those_of_each_convolution_and_leave_the_network_as_it_was():
    torch.manual_seed(0)
    images, network = _images(8, 3, 16), build("plain", 8, 4, 2)
    run = Run(network, recipe(1, 0.1, batch_size=8), images, measure(images), 0)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    norms = gradient_norms(network, run)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    blocks = [network.layer1[0], network.layer2[0], network.layer3[0]]
    convolutions = [network.conv1, *(conv for block in blocks for conv in (block.conv1, block.conv2))]
    loss = F.cross_entropy(network.train()(run.normalization(images.images.float())), images.labels)
    expected = torch.autograd.grad(loss, [conv.weight for conv in convolutions])
    assert norms == pytest.approx([float(gradient.norm()) for gradient in expected], rel=1e-4)


def test_the_signal_is_what_differs_between_images_beside_what_they_share():
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 2))
    apart, alike = torch.tensor([[[3.0], [4.0]], [[5.0], [4.0]]]), torch.ones(3, 2, 1)
    assert signal(network, apart) == pytest.approx(2**0.5 / 32**0.5)  # deviations (√2, 0), means (4, 4)
    assert signal(network, alike) == 0


def test_an_unshortcut_block_without_its_convolutions_is_nothing():
    block, images = UnshortcutBlock(3), torch.randn(2, 3, 5, 5)
    assert block(images).any()
    nn.init.zeros_(block.conv2.weight)
    nn.init.zeros_(block.conv2.bias)
    assert not block(images).any()


@pytest.mark.parametrize(("name", "build", "channels"), PAIRS)
def test_plain_nets_for_digits_are_as_large_as_those_beside_them(name, build, channels):
    sizes = [sum(parameter.numel() for parameter in net.parameters()) for net in (build(10), PlainCnn(channels, 10))]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.01), name
    assert PlainCnn(channels, 10)(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_the_page_of_the_bottleneck_counts_what_can_be_counted_by_hand(tmp_path):
    result = resnet_train("experiment", "bottleneck", "--output", tmp_path, "--threads", 1)
    assert result.code == 0, result.errors
    page = (tmp_path / "bottleneck.md").read_text()
    straight, narrowed = 5 * 5 * 192 * 32 + 32, (192 * 16 + 16) + (5 * 5 * 16 * 32 + 32)
    assert f"| {straight:,} | {narrowed:,} |" in page
    positions = 28 * 28
    assert f"| {positions * 5 * 5 * 192 * 32:,} | {positions * (192 * 16 + 5 * 5 * 16 * 32):,} |" in page
    assert "resnet-train experiment bottleneck" in page
    assert (tmp_path / "bottleneck.png").read_bytes().startswith(PNG)


def test_an_experiment_that_does_not_exist_is_told_beside_those_that_do(tmp_path):
    result = resnet_train("experiment", "cold-fusion", "--output", tmp_path)
    assert result.code == 1
    assert all(name in result.errors for name in experiments())


def test_a_mean_is_told_with_its_deviation_and_a_difference_with_its_error():
    assert spread([1.0, 2.0, 3.0]) == "2.00 ± 1.00"
    assert spread([1.5]) == "1.50"
    assert spread([1.0, float("nan")]) == "diverged"
    assert difference([5.0, 7.0], [2.0, 2.0]) == "4.00 points (standard error 1.00) above"
    assert difference([1.0], [2.0]) == "1.00 points below"
